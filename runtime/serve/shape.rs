//! How a route writes its answers.

use serde_json::{Map, Value, json};

use super::answers::{Piece, Usage};

/// The parts of an answer that all its events share.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub id: String,
    /// Unix time, in seconds.
    pub created: u64,
    pub model: String,
}

/// One request's answers in the shape of its route.
pub(super) trait Shape: Send + Sync + 'static {
    /// What the prompt is called among the parameters.
    const PROMPT: &'static str;
    /// How ids begin.
    const ID: &'static str;
    /// What a whole answer is, and an event of a streamed one.
    const OBJECTS: [&'static str; 2];

    /// A choice that has ended.
    fn choice(&self, index: usize, whole: &Piece) -> Value;

    /// A choice in an event, with what has come of it; the first time with what goes before.
    fn delta(&self, index: usize, piece: &Piece, is_first: bool) -> Value;

    /// Beside the choices, in a whole answer and in the first event of a streamed one.
    fn beside(&self) -> Map<String, Value>;

    fn whole(&self, head: &Head, choices: &[Piece], usage: Usage) -> Value {
        let choices: Vec<Value> =
            choices.iter().enumerate().map(|(index, piece)| self.choice(index, piece)).collect();
        let mut answer = written(head, Self::OBJECTS[0], choices);
        answer.insert("usage".into(), usage.to_json());
        answer.extend(self.beside());
        answer.into()
    }

    /// `None` where there is nothing to tell.
    fn event(&self, head: &Head, index: usize, piece: &Piece, is_first: bool) -> Option<Value> {
        if piece.is_empty() && !is_first {
            return None;
        }
        let choice = self.delta(index, piece, is_first);
        let mut event = written(head, Self::OBJECTS[1], vec![choice]);
        if is_first && index == 0 {
            event.extend(self.beside());
        }
        Some(event.into())
    }

    /// The last event, for who asks for it.
    fn usage(&self, head: &Head, usage: Usage) -> Value {
        let mut event = written(head, Self::OBJECTS[1], Vec::new());
        event.insert("usage".into(), usage.to_json());
        event.into()
    }
}

fn written(head: &Head, object: &str, choices: Vec<Value>) -> Map<String, Value> {
    let Head { id, created, model } = head;
    let written = json!({
        "id": id, "object": object, "created": created, "model": model, "choices": choices,
    });
    match written {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
