//! What an idea is asked for: a topic and a difficulty, which follow from seed and number.

use std::path::Path;

use crate::defect::{Defect, Defects};
use crate::generate::Difficulty;
use crate::generate::random::Random;

const TOPICS_MAX: usize = 10_000;
const TOPIC_CHARS_MAX: usize = 200;

/// For one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub topic: String,
    pub difficulty: Difficulty,
}

/// For all tasks. Every topic is asked for once before one is asked for again.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// At least one.
    topics: Vec<String>,
    /// `None`: of any.
    difficulty: Option<Difficulty>,
    seed: String,
}

impl Wishes {
    /// `topics` is a file and its text, a topic a line; `None`: our own.
    ///
    /// # Errors
    /// No topic, too many, or one that is too long.
    pub fn new(
        topics: Option<(&Path, &str)>,
        difficulty: Option<Difficulty>,
        seed: u64,
    ) -> Result<Self, Defects> {
        let own = (Path::new("topics"), include_str!("prompts/topics.txt"));
        let (file, text) = topics.unwrap_or(own);
        Ok(Self { topics: read(file, text)?, difficulty, seed: seed.to_string() })
    }

    /// Of a task's number, 1 for the first.
    pub fn of(&self, number: u32) -> Wish {
        let (at, count) = (number.saturating_sub(1) as usize, self.topics.len().max(1));
        let mut order = Random::new(&["authoring", "topics", &self.seed], (at / count) as u64);
        let topic = order.shuffled(&self.topics).swap_remove(at % count);
        let mut random = Random::new(&["authoring", "difficulty", &self.seed], number.into());
        let drawn = *random.pick(&[Difficulty::Easy, Difficulty::Medium, Difficulty::Hard]);
        Wish { topic, difficulty: self.difficulty.unwrap_or(drawn) }
    }
}

/// A topic a line; empty lines and those that begin with `#` are none.
fn read(file: &Path, text: &str) -> Result<Vec<String>, Defects> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let (mut topics, mut defects) = (Vec::new(), Vec::new());
    for (at, topic) in lines {
        let chars = topic.chars().count();
        if chars > TOPIC_CHARS_MAX {
            let expected = format!("a topic of at most {TOPIC_CHARS_MAX} characters");
            defects.push(Defect::new(file, expected, chars.to_string()).at_line(at + 1));
        }
        topics.push(topic.to_owned());
    }
    if topics.is_empty() || topics.len() > TOPICS_MAX {
        let expected = format!("1 to {TOPICS_MAX} topics, a line each");
        defects.push(Defect::new(file, expected, topics.len().to_string()));
    }
    Defects(defects).into_result(topics)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn wishes(text: &str, seed: u64) -> Wishes {
        Wishes::new(Some((Path::new("t"), text)), None, seed).expect("topics")
    }

    #[test]
    fn every_topic_comes_once_before_one_comes_again() {
        let wishes = wishes("# topics\na\n\nb\nc\n", 7);
        for round in 0..5 {
            let topics = (1..=3).map(|n| wishes.of(round * 3 + n).topic).collect::<BTreeSet<_>>();
            assert_eq!(topics.into_iter().collect::<String>(), "abc");
        }
    }

    #[test]
    fn a_wish_follows_from_seed_and_number_alone() {
        let all = |seed| (1..60).map(|n| wishes("a\nb\nc", seed).of(n)).collect::<Vec<_>>();
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        for (_, difficulty) in Difficulty::NAMES {
            assert!(all(1).iter().any(|wish| wish.difficulty == difficulty));
            let wishes = Wishes::new(None, Some(difficulty), 1).expect("our own topics");
            assert!((1..60).all(|number| wishes.of(number).difficulty == difficulty));
        }
    }

    #[test]
    fn topics_that_are_none_are_refused_with_their_lines() {
        let refused = |text: &str| {
            let error = Wishes::new(Some((Path::new("t"), text)), None, 0).expect_err("refused");
            error.to_string()
        };
        assert_eq!(refused("# a\n"), "t: expected 1 to 10000 topics, a line each, found 0");
        let long = format!("a\n{}\n", "x".repeat(201));
        assert_eq!(refused(&long), "t:2: expected a topic of at most 200 characters, found 201");
    }
}
