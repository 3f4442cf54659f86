//! What a family's templates are made of.

use crate::generate::Difficulty;
use crate::generate::random::Random;

/// One thing to do, with its parameters open.
#[derive(Debug)]
pub struct Template {
    pub name: &'static str,
    pub difficulty: Difficulty,
    /// What its parameters stand for, in order. Those of the same kind get different values.
    pub parameters: &'static [Parameter],
    /// Ways to say it; `{0}` is the first parameter.
    pub phrasings: &'static [&'static str],
    /// From the parameters' values: all but the instruction.
    pub make: fn(values: &[&'static str], random: &mut Random) -> Made,
}

/// What a parameter may be.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    pub values: &'static [&'static str],
}

/// An instance without its instruction.
#[derive(Debug, Default)]
pub struct Made {
    /// What lies in the working folder at the start: path and content.
    pub start: Vec<(String, String)>,
    /// Commands that prepare the working folder, once the files lie there, when its image is
    /// built: what files alone cannot say, such as a repository's history. The agent does not see
    /// them.
    pub setup: Vec<String>,
    /// Files that only the tests have, in `/tests`.
    pub hidden: Vec<(String, String)>,
    /// What must hold in the end.
    pub end: Vec<End>,
    /// The commands of the solution, a line each.
    pub solution: Vec<String>,
    /// Those of one that makes what is right for what the agent sees, and for nothing else; where
    /// that is all there is to see, a fixed answer.
    pub hard_coded: Vec<String>,
    /// Those of one that is nearly right.
    pub near_miss: Vec<String>,
}

/// Of the working folder, in which commands run.
#[derive(Debug)]
pub enum End {
    /// A file with this text; how many line ends it ends with is nobody's business.
    Text(String, String),
    /// A file with this number and nothing else.
    Number(String, usize),
    Gone(String),
    /// A command ends with 0 and writes this to standard output, line ends at the end aside.
    Output(String, String),
    /// What must hold, in words, and the command that then ends with 0.
    Holds(String, String),
}

/// A file at the start: its lines.
pub fn has(file: &str, content: &str) -> (String, String) {
    (file.to_owned(), format!("{content}\n"))
}

pub fn text(file: &str, content: &str) -> End {
    End::Text(file.to_owned(), content.to_owned())
}

pub fn number(file: &str, number: usize) -> End {
    End::Number(file.to_owned(), number)
}

pub fn gone(path: &str) -> End {
    End::Gone(path.to_owned())
}

pub fn output(command: &str, text: &str) -> End {
    End::Output(command.to_owned(), text.to_owned())
}

pub fn holds(what: &str, command: &str) -> End {
    End::Holds(what.to_owned(), command.to_owned())
}

/// A shell's word that stands for this text.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A command that writes these lines into a file.
pub fn write(file: &str, content: &str) -> String {
    format!("cat > {file} <<'END_OF_FILE'\n{}\nEND_OF_FILE", content.trim_end_matches('\n'))
}

/// A command that runs this program of Python.
pub fn python(program: &str) -> String {
    format!("python3 - <<'END_OF_PROGRAM'\n{}\nEND_OF_PROGRAM", program.trim_matches('\n'))
}

impl Template {
    /// How many parameters there are: combinations of values, those that are alike left out.
    pub fn space(&self) -> usize {
        let mut space = 1;
        for (at, parameter) in self.parameters.iter().enumerate() {
            space *= parameter.values.len() - self.taken(at);
        }
        space
    }

    /// The values of one of the [space](Self::space)'s parameters.
    pub fn values(&self, mut number: usize) -> Vec<&'static str> {
        let mut values: Vec<&'static str> = Vec::new();
        for (at, parameter) in self.parameters.iter().enumerate() {
            let left = parameter.values.iter().filter(|value| !values.contains(value));
            let left: Vec<&'static str> = left.copied().collect();
            let radix = parameter.values.len() - self.taken(at);
            values.push(left[number % radix]);
            number /= radix;
        }
        values
    }

    pub fn instruction(&self, phrasing: usize, values: &[&str]) -> String {
        let numbered = values.iter().enumerate();
        numbered.fold(self.phrasings[phrasing].to_owned(), |text, (at, value)| {
            text.replace(&format!("{{{at}}}"), value)
        })
    }

    /// Values of a parameter that those before it of the same kind have.
    fn taken(&self, at: usize) -> usize {
        self.parameters[..at].iter().filter(|before| **before == self.parameters[at]).count()
    }
}
