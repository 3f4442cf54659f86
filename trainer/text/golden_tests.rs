//! What transformers makes of whole conversations: goldens/chat.json, by tests/parity/chat.py.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::CHATML_SPECIALS;
use super::chat::{ChatMessage, ChatTemplate};
use super::conversation::Renderer;
use super::tokenizer::Tokenizer;

const TOKENIZER: &str = include_str!("goldens/tokenizer.json");
const THINKING: &str = include_str!("goldens/thinking.jinja");

#[derive(Deserialize)]
struct Case {
    template: String,
    kwargs: Map<String, Json>,
    add_generation_prompt: bool,
    messages: Vec<ChatMessage>,
    text: Option<String>,
    #[serde(default)]
    ids: Vec<u32>,
    error: Option<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("goldens/chat.json")).unwrap()
}

fn template(name: &str) -> ChatTemplate {
    match name {
        "chatml" => ChatTemplate::chatml().unwrap(),
        _ => ChatTemplate::new(PathBuf::from("t.jinja"), THINKING.to_owned(), Map::new()).unwrap(),
    }
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(Path::new("tokenizer.json"), TOKENIZER.as_bytes(), 400).unwrap()
}

fn trained() -> Tokenizer {
    let texts = [
        "the cat sat on the mat, and the rat saw the cat",
        "system user assistant <think> </think> <result> </result>",
        "<bash>\ncmd: ls -la /app/data\n</bash>\n",
        "d\u{e9}j\u{e0} vu, na\u{ef}ve caf\u{e9}, \u{65e5}\u{672c}\u{8a9e}, \u{1f600}\u{1f601}",
    ];
    Tokenizer::train(&texts.repeat(3), 400, &CHATML_SPECIALS).unwrap()
}

#[test]
fn a_rendering_has_the_text_and_the_tokens_that_transformers_gives_it() {
    let tokenizer = tokenizer();
    let mut refused = 0;
    for case in cases() {
        let rendered = template(&case.template).render(
            &case.messages,
            case.add_generation_prompt,
            &case.kwargs,
        );
        let about = format!("{} {:?} {:?}", case.template, case.kwargs, case.messages);
        match (rendered, case.error) {
            (Ok(text), None) => {
                assert_eq!(Some(&text), case.text.as_ref(), "{about}");
                assert_eq!(tokenizer.encode(&text), case.ids, "{about}");
                assert_eq!(tokenizer.decode(&case.ids, true), text, "{about}");
            }
            (Err(defect), Some(error)) => {
                assert_eq!(defect.found, error, "{about}");
                refused += 1;
            }
            (rendered, error) => panic!("{about}: {rendered:?}, expected {error:?}"),
        }
    }
    assert_eq!(refused, 4);
}

/// Where nothing is left out and nothing spelt, prompts that only grow are those of transformers.
#[test]
fn a_prompt_of_chatml_is_what_transformers_asks_with() {
    let renderer = Renderer::new(tokenizer(), ChatTemplate::chatml().unwrap(), Map::new()).unwrap();
    let spells = |case: &Case| {
        CHATML_SPECIALS.iter().any(|it| case.messages.iter().any(|m| m.content.contains(it)))
    };
    let ours = |case: &Case| {
        let ends = [case.messages.first(), case.messages.last()];
        case.template == "chatml"
            && case.add_generation_prompt
            && ends.iter().flatten().all(|message| !message.is_answer())
    };
    let cases: Vec<Case> = cases().into_iter().filter(ours).collect();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let prompt = renderer.prompt(&case.messages).unwrap();
        assert_eq!(prompt == case.ids, !spells(&case), "{:?}", case.messages);
        assert_eq!(Some(renderer.tokenizer().decode(&prompt, true)), case.text);
    }
}

#[test]
fn training_gives_these_bytes_on_every_machine() {
    assert_eq!(trained().to_json().unwrap() + "\n", TOKENIZER);
}

#[test]
#[ignore = "writes goldens/tokenizer.json, from which tests/parity/chat.py goes on"]
fn record_the_tokenizer() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("text/goldens/tokenizer.json");
    std::fs::write(file, trained().to_json().unwrap() + "\n").unwrap();
}
