use serde_json::json;

use super::*;

fn template(source: &str) -> ChatTemplate {
    let specials = Map::from_iter([("bos_token".to_owned(), json!("<s>"))]);
    ChatTemplate::new(PathBuf::from("chat_template.jinja"), source.to_owned(), specials).unwrap()
}

fn conversation() -> Vec<ChatMessage> {
    vec![
        ChatMessage::new("system", "Be brief."),
        ChatMessage::new("user", "<b> & 'c'"),
        ChatMessage::new("assistant", "yes"),
        ChatMessage::new("user", "why?"),
    ]
}

fn rendered(source: &str) -> Result<String, String> {
    let rendered = template(source).render(&conversation(), true, &Map::new());
    rendered.map_err(|defect| defect.to_string())
}

#[test]
fn chatml_is_written_word_by_word() {
    let chat = ChatTemplate::chatml().unwrap();
    let text = chat.render(&conversation()[1..3], false, &Map::new()).unwrap();
    let expected = "<|im_start|>user\n<b> & 'c'<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n";
    assert_eq!(text, expected);
    let asked = chat.render(&conversation()[1..2], true, &Map::new()).unwrap();
    assert!(expected.starts_with(&asked) && asked.ends_with("<|im_start|>assistant\n"));
}

#[test]
fn templates_have_what_transformers_gives_them() {
    let blocks = "{{ bos_token }}{% for m in messages[::-1] %}\n    {% if loop.index > 2 %}\n\
                  \t{% break %}\n    {% endif %}\n{{ m.role }}\n{% endfor %}";
    assert_eq!(rendered(blocks).unwrap(), "<s>user\nassistant\n");
    let methods = "{{ messages[0].content.split(' ')[-1].rstrip('.').upper() }}\
                   {{ messages[1].content.startswith('<b') }}";
    assert_eq!(rendered(methods).unwrap(), "BRIEFTrue");
    let generation = "{% for m in messages %}{% generation %}{{ m.role[0] }}{% endgeneration %}\
                      {% endfor %}{{ tools is none }}";
    assert_eq!(rendered(generation).unwrap(), "suauTrue");
    let kwargs = Map::from_iter([("enable_thinking".to_owned(), json!(false))]);
    let asked =
        template("{% if enable_thinking is defined and not enable_thinking %}no{% endif %}");
    assert_eq!(asked.render(&conversation(), true, &kwargs).unwrap(), "no");
}

#[test]
fn a_fault_is_told_with_its_line() {
    let raised = "{% if messages[0].role == 'system' %}\n\
                  {{ raise_exception('no system here') }}{% endif %}";
    assert_eq!(
        rendered(raised).unwrap_err(),
        "chat_template.jinja:2: expected a conversation that the template can render, found no \
         system here"
    );
    let broken = ChatTemplate::new(PathBuf::from("t.jinja"), "a\n{% for %}".into(), Map::new());
    let said = broken.unwrap_err().to_string();
    assert!(said.starts_with("t.jinja:2: expected a Jinja template, found "), "{said}");
}

#[test]
fn a_hostile_template_comes_to_an_end() {
    for endless in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for a in range(9999) %}\
         {% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ 'a' * 999999999999 }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    ] {
        let said = rendered(endless).unwrap_err();
        assert!(said.contains("expected"), "{said}");
    }
    let long = "{# #}".repeat(TEXT_BYTES_MAX as usize / 5 + 1);
    assert!(ChatTemplate::new(PathBuf::from("t.jinja"), long, Map::new()).is_err());
}

#[test]
fn a_folder_has_its_template_in_either_file() {
    let dir = tempfile::tempdir().unwrap();
    let read = || ChatTemplate::read(dir.path());
    let neither = read().unwrap_err().to_string();
    assert!(neither.ends_with("found neither"), "{neither}");
    let config = |value: Json| {
        std::fs::write(dir.path().join("tokenizer_config.json"), value.to_string()).unwrap();
    };
    config(json!({"chat_template": "one {{ eos_token }}", "eos_token": {"content": "</s>"}}));
    let text = |chat: ChatTemplate| chat.render(&conversation(), true, &Map::new()).unwrap();
    assert_eq!(text(read().unwrap()), "one </s>");
    config(json!({
        "eos_token": "<e>", "bos_token": null,
        "chat_template": [
            {"name": "tool_use", "template": "no"},
            {"name": "default", "template": "two {{ eos_token }}{{ bos_token }}"},
        ],
    }));
    assert_eq!(text(read().unwrap()), "two <e>");
    std::fs::write(dir.path().join("chat_template.jinja"), "three {{ eos_token }}\n").unwrap();
    assert_eq!(text(read().unwrap()), "three <e>");
    assert_eq!(read().unwrap().source(), "three {{ eos_token }}\n");
    std::fs::write(dir.path().join("tokenizer_config.json"), "{\n1}").unwrap();
    assert!(read().unwrap_err().to_string().contains("tokenizer_config.json:2: expected a JSON"));
}
