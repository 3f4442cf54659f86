//! Our clients send nothing that the official Python clients could not send, and our servers answer
//! in the shape that those clients' types accept. What they sent and read is recorded in
//! `tests/support/shapes`: keys and types, as trees.

use std::process::Command;

use orcapack_actors::model::Model as _;
use orcapack_actors::model::openai::OpenAi;
use orcapack_actors::model::settings::{EndpointKind, Sampling};
use serde_json::{Map, Value, json};

use crate::http_server::HttpServer;
use crate::{anthropic_server, client, openai_server, request, settings};

const SHAPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/shapes");

/// What the openai server says, one after the other.
const OPENAI: [openai_server::Said; 3] = {
    let plain = openai_server::Said {
        text: "fine",
        in_parts: false,
        reasoning: None,
        refusal: None,
        finish: "",
        cached_tokens: 3,
    };
    let cut = openai_server::Said { finish: "length", ..plain };
    let refused = openai_server::Said { text: "", refusal: Some("no"), ..plain };
    [plain, cut, refused]
};

const ANTHROPIC: [anthropic_server::Said; 2] = [
    anthropic_server::Said { text: "fine", thinking: None, stop_reason: "" },
    anthropic_server::Said { text: "fine", thinking: Some("hm"), stop_reason: "max_tokens" },
];

async fn openai() -> HttpServer {
    let mut said = OPENAI.into_iter().cycle();
    let said = std::sync::Mutex::new(move || said.next());
    openai_server::start(move |_| openai_server::Reply::Answer((said.lock().unwrap())().unwrap()))
        .await
}

async fn anthropic() -> HttpServer {
    let mut said = ANTHROPIC.into_iter().cycle();
    let said = std::sync::Mutex::new(move || said.next());
    anthropic_server::start(move |_| {
        anthropic_server::Reply::Answer((said.lock().unwrap())().unwrap())
    })
    .await
}

/// The types in a value: a tree with a word, or several with `|` between them, at each leaf.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => {
            let items = items.iter().map(shape).reduce(merged);
            items.into_iter().collect()
        }
        Value::Object(keys) => {
            keys.iter().map(|(key, value)| (key.clone(), shape(value))).collect()
        }
    }
}

/// Of values, each of which has one of two shapes.
fn merged(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            for (key, shape) in other {
                let shape = match one.remove(&key) {
                    Some(known) => merged(known, shape),
                    None => shape,
                };
                one.insert(key, shape);
            }
            one.sort_keys();
            Value::Object(one)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.into_iter().chain(other).reduce(merged).into_iter().collect()
        }
        (Value::String(one), Value::String(other)) => {
            let mut words: Vec<&str> = one.split('|').chain(other.split('|')).collect();
            words.sort_unstable();
            words.dedup();
            words.join("|").into()
        }
        (one, other) => panic!("no common shape: {one} and {other}"),
    }
}

/// What is in a shape and not in the recorded one.
fn strangers(shape: &Value, recorded: &Value, at: &str) -> Vec<String> {
    match (shape, recorded) {
        (Value::Object(keys), Value::Object(recorded)) => {
            let stranger = |key: &String| match recorded.get(key) {
                Some(recorded) => strangers(&keys[key], recorded, &format!("{at}.{key}")),
                None => vec![format!("{at}.{key}")],
            };
            keys.keys().flat_map(stranger).collect()
        }
        (Value::Array(items), Value::Array(recorded)) => {
            let pairs = items.iter().zip(recorded);
            pairs
                .flat_map(|(item, recorded)| strangers(item, recorded, &format!("{at}[]")))
                .collect()
        }
        (Value::String(words), Value::String(recorded)) => {
            let known = |word: &&str| recorded.split('|').any(|known| known == *word);
            let words = words.split('|').filter(|word| !known(word));
            words.map(|word| format!("{at}: {word} instead of {recorded}")).collect()
        }
        _ => vec![format!("{at}: {shape} instead of {recorded}")],
    }
}

fn recorded(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("{SHAPES}/{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn assert_known(values: impl Iterator<Item = Value>, recorded: &Value) {
    let mut compared = 0;
    for value in values {
        let strangers = strangers(&shape(&value), recorded, "");
        assert!(strangers.is_empty(), "{strangers:#?}");
        compared += 1;
    }
    assert!(compared > 0);
}

#[tokio::test]
async fn our_requests_are_ones_that_the_official_openai_client_sends() {
    let server = openai().await;
    let mut settings = settings(EndpointKind::OpenAi, &format!("{}/v1", server.url));
    client(&settings).call(&request(1, &["hello"])).await.unwrap();
    settings.sampling = Sampling { temperature: Some(1.0), top_p: Some(1.0), seed: Some(1) };
    client(&settings).call(&request(2, &["hello", "you", "too"])).await.unwrap();
    let recorded = recorded("openai");
    assert_known(server.asked().into_iter().map(|asked| asked.body), &recorded["request"]);

    // What only OpenAI itself is sent cannot be seen from here without its name.
    settings.url = "https://api.openai.com/v1".into();
    let official = OpenAi::new(&settings).unwrap();
    let body = Value::Object(official.body(&request(1, &["hello"])));
    assert!(body["max_completion_tokens"].is_u64() && body["prompt_cache_key"].is_string());
    assert_eq!(official.name(), "toy");
    assert_known([body].into_iter(), &recorded["request"]);
}

#[tokio::test]
async fn our_requests_are_ones_that_the_official_anthropic_client_sends() {
    let server = anthropic().await;
    let model = client(&settings(EndpointKind::Anthropic, &server.url));
    model.call(&request(1, &["hello"])).await.unwrap();
    model.call(&request(2, &["hello", "you", "too"])).await.unwrap();
    let bodies = server.asked().into_iter().map(|asked| asked.body);
    assert_known(bodies, &recorded("anthropic")["request"]);
}

#[tokio::test]
async fn our_servers_answer_in_the_shape_that_the_official_clients_read() {
    for (name, server, kind, url) in [
        ("openai", openai().await, EndpointKind::OpenAi, "/v1"),
        ("anthropic", anthropic().await, EndpointKind::Anthropic, ""),
    ] {
        let model = client(&settings(kind, &format!("{}{url}", server.url)));
        for _ in 0..3 {
            model.call(&request(1, &["hello"])).await.unwrap();
        }
        let answers = server.answered().into_iter();
        let answered = answers.map(|answer| shape(&answer)).reduce(merged).unwrap();
        assert_eq!(answered, recorded(name)["response"], "{name}");
    }
}

#[test]
fn a_stranger_is_found_wherever_it_is() {
    let recorded = shape(&json!({"a": [{"b": 1}], "c": null}));
    let none: [&str; 0] = [];
    assert_eq!(strangers(&shape(&json!({"a": [{"b": 2.5}]})), &recorded, ""), none);
    let strange = shape(&json!({"a": [{"b": "1", "d": 1}], "c": {}}));
    let found = strangers(&strange, &recorded, "");
    assert_eq!(found, [".a[].b: string instead of number", ".a[].d", ".c: {} instead of \"null\""]);
    let both = merged(shape(&json!({"a": [1]})), shape(&json!({"a": [null], "b": true})));
    assert_eq!(both, json!({"a": ["null|number"], "b": "bool"}));
}

#[tokio::test]
#[ignore = "records anew, with the official Python clients: see tests/parity/openai_shapes.py"]
async fn record_what_the_official_clients_send_and_read() {
    let python = std::env::var("ORCAPACK_PYTHON").unwrap_or_else(|_| "python3".into());
    let servers = [("openai", openai().await), ("anthropic", anthropic().await)];
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/openai_shapes.py"));
    command.args(servers.iter().map(|(_, server)| &server.url));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let talk: Map<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    for (name, server) in &servers {
        let common = |values: Vec<Value>| values.iter().map(shape).reduce(merged).unwrap();
        let requests = server.asked().into_iter().map(|asked| asked.body).collect();
        let answers = talk[*name]["answers"].as_array().unwrap().clone();
        let record = json!({
            "client": talk[*name]["client"],
            "request": common(requests),
            "response": common(answers),
        });
        let text = serde_json::to_string_pretty(&record).unwrap() + "\n";
        std::fs::write(format!("{SHAPES}/{name}.json"), text).unwrap();
    }
}
