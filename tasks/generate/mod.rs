//! Generated tasks: families of small tasks, of which any number can be made from a seed.
//!
//! A family has templates, a template a finite space of *parameters* (the names, words and numbers
//! that its instruction tells) and a few phrasings. An instance is a template, parameters and a
//! phrasing; everything else, such as what is in the files at the start, follows from these. The
//! same order makes the same bytes on every machine.
//!
//! Parameters are for training or held out, by a hash of theirs: no instance of the one kind shares
//! its parameters with one of the other, in whatever phrasing, seed or number they are made.

mod families;
mod instance;
pub mod random;
pub mod template;

pub use crate::generate::families::FAMILIES;
use crate::generate::instance::Instance;
use crate::generate::random::Random;
use crate::generate::template::Template;

/// A kind of tasks.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub about: &'static str,
    pub templates: &'static [Template],
}

/// What it takes who knows the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difficulty {
    /// One command.
    Easy,
    /// Two or three, or one that takes thought.
    Medium,
    /// To find out first what is to be done, or a program of some lines.
    Hard,
}

/// Which parameters are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    #[default]
    Train,
    HeldOut,
}

/// Of so many parameters one is held out.
const HELD_OUT_OF: u64 = 4;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub family: &'static Family,
    /// `None`: of any.
    pub difficulty: Option<Difficulty>,
    pub split: Split,
    pub count: usize,
    pub seed: u64,
}

/// More were asked for than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    pub there_are: usize,
}

impl Difficulty {
    pub const NAMES: [(&str, Self); 3] =
        [("easy", Self::Easy), ("medium", Self::Medium), ("hard", Self::Hard)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Hard => "hard",
        }
    }
}

impl Split {
    pub const NAMES: [(&str, Self); 2] = [("train", Self::Train), ("held-out", Self::HeldOut)];
}

impl Order {
    /// The instances, each another: the templates in turn, and of each in an order of the seed's.
    /// A larger count only adds to a smaller one.
    ///
    /// # Errors
    /// More than there are.
    pub fn instances(&self) -> Result<Vec<Instance>, TooMany> {
        let templates = self.family.templates.iter();
        let wanted = |template: &&Template| {
            self.difficulty.is_none_or(|difficulty| template.difficulty == difficulty)
        };
        let mut stocks: Vec<Stock> =
            templates.filter(wanted).map(|template| self.stock(template)).collect();
        let there_are = stocks.iter().map(|stock| stock.left.len()).sum();
        if self.count > there_are {
            return Err(TooMany { there_are });
        }
        let mut instances = Vec::with_capacity(self.count);
        while instances.len() < self.count {
            let room = self.count - instances.len();
            let family = self.family.name;
            let drawn = stocks.iter_mut().filter_map(|stock| {
                let (parameters, phrasing) = stock.draw()?;
                Some(Instance::new(family, stock.template, parameters, phrasing))
            });
            instances.extend(drawn.take(room));
        }
        Ok(instances)
    }

    fn stock(&self, template: &'static Template) -> Stock {
        let phrasings = template.phrasings.len();
        let meant = (0..template.space()).filter(|at| self.split == self.split_of(template, *at));
        Stock {
            template,
            left: meant.flat_map(|at| (0..phrasings).map(move |phrasing| (at, phrasing))).collect(),
            random: Random::new(&[self.family.name, template.name], self.seed),
        }
    }

    fn split_of(&self, template: &Template, parameters: usize) -> Split {
        let mut random =
            Random::new(&[self.family.name, template.name, "split"], parameters as u64);
        if random.below(HELD_OUT_OF) == 0 { Split::HeldOut } else { Split::Train }
    }
}

/// What of a template has not been made yet.
struct Stock {
    template: &'static Template,
    /// Parameters and phrasings.
    left: Vec<(usize, usize)>,
    random: Random,
}

impl Stock {
    fn draw(&mut self) -> Option<(usize, usize)> {
        let count = u64::try_from(self.left.len()).ok().filter(|count| *count > 0)?;
        let at = self.random.below(count) as usize;
        Some(self.left.swap_remove(at))
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
