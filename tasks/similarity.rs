//! Whether a task is too much like another one: the same name, words of a benchmark, or nearly the
//! same text.
//!
//! *Contaminated* is what shares thirteen words in a row with the instruction or the tests of a
//! benchmark's task. A word is what white space parts, in lower case and without punctuation, as in
//! appendix C of Brown et al., "Language Models are Few-Shot Learners" (2020). As there, a sequence
//! that many documents have is passed over: it is boilerplate.
//!
//! *Nearly the same* are texts whose sets of three words in a row have a Jaccard index (Jaccard,
//! 1912; over shingles of words: Broder, 1997) above a bound. Instructions only are compared so,
//! since tests all begin alike.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Words in a row that nobody writes twice by chance.
pub const GRAM_WORDS: usize = 13;
/// Words in a row of which texts are compared.
pub const SHINGLE_WORDS: usize = 3;
/// Texts above it are nearly the same, unless another bound is asked for.
pub const SIMILARITY_MAX: f64 = 0.6;
/// A sequence that more of the benchmarks' tasks have says nothing about any of them.
const COMMON_TASKS: u32 = 10;

/// A task that others are compared with, or that is compared.
#[derive(Clone, Copy, Debug)]
pub struct Text<'t> {
    /// After the organisation, if there is one.
    pub name: &'t str,
    /// What is asked for.
    pub instruction: &'t str,
    /// The files of its tests.
    pub tests: &'t [String],
}

/// Why a task is too much like another.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    SameName {
        other: String,
    },
    Contaminated {
        other: String,
        /// How many of its sequences the other has.
        shared: usize,
        /// The first of them, normalised.
        words: String,
    },
    NearlySame {
        other: String,
        jaccard: f64,
    },
}

/// What is known: tasks of benchmarks, and own ones by their numbers.
#[derive(Debug)]
pub struct Library {
    similarity_max: f64,
    benchmarks: Vec<Known>,
    grams: HashMap<u64, Gram>,
    /// Sequences that everyone is told to write.
    everyones: HashSet<u64>,
    own: BTreeMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    name: String,
    /// Of each of its texts.
    shingles: Vec<HashSet<u64>>,
}

/// Which of the benchmarks' tasks has a sequence first, and how many have it.
#[derive(Clone, Copy, Debug)]
struct Gram {
    first: usize,
    last: usize,
    tasks: u32,
}

impl Library {
    /// Without any task. `similarity_max` is from 0 to 1.
    pub fn new(similarity_max: f64) -> Self {
        Self {
            similarity_max,
            benchmarks: Vec::new(),
            grams: HashMap::new(),
            everyones: HashSet::new(),
            own: BTreeMap::new(),
        }
    }

    /// Adds a task of a benchmark.
    pub fn add_benchmark(&mut self, task: Text<'_>) {
        let index = self.benchmarks.len();
        for text in task.all() {
            for gram in hashes(&words(text), GRAM_WORDS) {
                let known = self.grams.entry(gram);
                let known = known.or_insert(Gram { first: index, last: index, tasks: 1 });
                if known.last != index {
                    (known.last, known.tasks) = (index, known.tasks + 1);
                }
            }
        }
        let shingles = vec![shingles(task.instruction)];
        self.benchmarks.push(Known { name: task.name.to_owned(), shingles });
    }

    /// What stands in this text is nobody's own words.
    pub fn pass_over(&mut self, text: &str) {
        self.everyones.extend(hashes(&words(text), GRAM_WORDS));
    }

    /// The own task of this number has this name and these texts, whatever it had before.
    pub fn set_own(&mut self, number: u32, name: &str, texts: &[&str]) {
        let shingles = texts.iter().map(|text| shingles(text)).collect();
        self.own.insert(number, Known { name: name.to_owned(), shingles });
    }

    /// The own task of this number is given up, and may be made again.
    pub fn forget_own(&mut self, number: u32) {
        self.own.remove(&number);
    }

    /// Compares a task with everything but the own task of its number: the one that it is nearest
    /// to is named, and the benchmark's task with which it shares most.
    pub fn compare(&self, number: u32, task: Text<'_>) -> Vec<Finding> {
        let same_name = self.benchmarks.iter().find(|known| is_same_name(&known.name, task.name));
        let same_name = same_name.map(|known| Finding::SameName { other: known.name.clone() });
        let found = [same_name, self.contamination(task), self.nearest(number, task)];
        found.into_iter().flatten().collect()
    }

    fn contamination(&self, task: Text<'_>) -> Option<Finding> {
        // Of each task, how many sequences, and the first of them.
        let mut shared: BTreeMap<usize, (usize, String)> = BTreeMap::new();
        for text in task.all() {
            let words = words(text);
            for (gram, hash) in words.windows(GRAM_WORDS).zip(hashes(&words, GRAM_WORDS)) {
                let known = self.grams.get(&hash).filter(|known| known.tasks <= COMMON_TASKS);
                if let Some(known) = known.filter(|_| !self.everyones.contains(&hash)) {
                    let entry = shared.entry(known.first);
                    entry.or_insert_with(|| (0, gram.join(" "))).0 += 1;
                }
            }
        }
        let most =
            shared.into_iter().max_by_key(|(index, (count, _))| (*count, usize::MAX - index));
        let (index, (count, words)) = most?;
        let other = self.benchmarks.get(index)?.name.clone();
        Some(Finding::Contaminated { other, shared: count, words })
    }

    fn nearest(&self, number: u32, task: Text<'_>) -> Option<Finding> {
        let own = shingles(task.instruction);
        let others = self.own.iter().filter(|(other, _)| **other != number);
        let all = self.benchmarks.iter().chain(others.map(|(_, known)| known));
        let near = all.map(|known| {
            let each = known.shingles.iter().map(|other| jaccard(&own, other));
            (each.fold(0.0, f64::max), known)
        });
        let (jaccard, known) = near.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        let other = known.name.clone();
        (jaccard > self.similarity_max).then_some(Finding::NearlySame { other, jaccard })
    }
}

impl<'t> Text<'t> {
    fn all(self) -> impl Iterator<Item = &'t str> {
        [self.instruction].into_iter().chain(self.tests.iter().map(String::as_str))
    }
}

/// What white space parts, in lower case and without punctuation.
fn words(text: &str) -> Vec<String> {
    let plain = |word: &str| -> String {
        word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    text.split_whitespace().map(plain).filter(|word| !word.is_empty()).collect()
}

/// Of each sequence of `count` words. Hashes of 64 bits stand for the words themselves: among a
/// million sequences, the chance that one is taken for another is below 10^-7.
fn hashes(words: &[String], count: usize) -> impl Iterator<Item = u64> {
    words.windows(count).map(|window| {
        let mut hasher = DefaultHasher::new();
        window.hash(&mut hasher);
        hasher.finish()
    })
}

/// A text that is too short for one has a single one, of all its words.
fn shingles(text: &str) -> HashSet<u64> {
    let words = words(text);
    hashes(&words, SHINGLE_WORDS.min(words.len()).max(1)).collect()
}

/// Common to both, of all: 0 to 1. Of nothing at all: 0.
fn jaccard(a: &HashSet<u64>, b: &HashSet<u64>) -> f64 {
    let common = a.intersection(b).count();
    let all = a.len() + b.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

/// Of tasks, whatever their organisation, and however words are put together.
fn is_same_name(a: &str, b: &str) -> bool {
    let plain = |name: &str| -> String {
        let own = name.rsplit('/').next().unwrap_or_default();
        own.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    plain(a) == plain(b)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameName { other } => write!(f, "it has the name of {other}"),
            Self::Contaminated { other, shared, words } => write!(
                f,
                "it shares {shared} sequences of {GRAM_WORDS} words with {other}, the first of \
                 them: {words}"
            ),
            Self::NearlySame { other, jaccard } => write!(
                f,
                "it is nearly the same as {other}: a Jaccard index of {jaccard:.2} over \
                 {SHINGLE_WORDS} words in a row"
            ),
        }
    }
}

#[cfg(test)]
#[path = "similarity_tests.rs"]
mod tests;
