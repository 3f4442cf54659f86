//! Pipelines over plain text: sort, uniq, cut, join, tr, awk.

mod lists;
mod scripts;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "text",
    about: "pipelines over plain text: sort, uniq, cut, join, tr, awk",
    templates: &TEMPLATES,
};

const INPUT: Parameter = Parameter {
    values: &[
        "notes.txt",
        "list.txt",
        "data.txt",
        "items.txt",
        "feed.txt",
        "dump.txt",
        "old.txt",
        "raw.txt",
    ],
};

const OUTPUT: Parameter = Parameter {
    values: &["result.txt", "report.txt", "final.txt", "clean.txt", "answer.txt", "new.txt"],
};

const COUNT: Parameter = Parameter { values: &["3", "4", "5", "6", "7"] };

const SEPARATOR: Parameter = Parameter { values: &[":", ";", ",", "|"] };

/// Columns that come first in the output and after those of `EARLY` in the input.
const LATE: Parameter = Parameter { values: &["5", "6", "7"] };

const EARLY: Parameter = Parameter { values: &["1", "2", "3", "4"] };

const MINIMUM: Parameter = Parameter { values: &["40", "45", "50", "60", "75"] };

const SCRIPT: Parameter =
    Parameter { values: &["show.sh", "cards.sh", "flat.sh", "fields.sh", "pick.sh", "turn.sh"] };

const FIELD: Parameter = Parameter { values: &["name", "city", "phone", "email", "team", "role"] };

const ROW: Parameter = Parameter { values: &["day", "shop", "room", "zone", "desk", "van"] };

const MARK: Parameter = Parameter { values: &["comma", "semicolon", "colon", "tab"] };

static TEMPLATES: [Template; 7] = [
    Template {
        name: "columns",
        difficulty: Easy,
        parameters: &[SEPARATOR, LATE, EARLY, INPUT],
        phrasings: &[
            "Each line of {3} has 7 columns separated by '{0}'. Write column {1} and column {2} of \
             each line, in this order and separated by one space, into columns.txt. Columns are \
             counted from 1. Keep the order of the lines.",
            "I need two columns of {3}, whose fields are separated by '{0}': for every line, write \
             field {1}, a space and field {2} (the first field is number 1) to columns.txt. The \
             lines stay in their order.",
            "Make columns.txt from {3}. A line of {3} is 7 fields with '{0}' between them, \
             numbered from 1; the line of columns.txt for it is field {1}, one space, field {2}. \
             The order of lines does not change.",
        ],
        make: lists::columns,
    },
    Template {
        name: "distinct",
        difficulty: Easy,
        parameters: &[INPUT, OUTPUT],
        phrasings: &[
            "Some lines occur more than once in {0}. Write it into {1} with only the first of each \
             set of equal lines. The lines that stay keep their order, and {0} is left as it is.",
            "Remove repeated lines from {0}: keep each line only where it occurs for the first \
             time, and do not reorder anything. The result goes to {1}; leave {0} unchanged.",
            "{1} is to have every different line of {0} once, in the order in which they first \
             appear in {0}. Do not change {0}.",
        ],
        make: lists::distinct,
    },
    Template {
        name: "frequency",
        difficulty: Medium,
        parameters: &[COUNT, INPUT, OUTPUT],
        phrasings: &[
            "{1} has words separated by spaces and line ends. Find the {0} most frequent words and \
             write them into {2}, one a line, as the word, a space and how often it occurs. The \
             most frequent comes first; words that are equally frequent are in alphabetical order.",
            "Which {0} words occur most often in {1}? Write them to {2}, a line each: word, one \
             space, count. Order by count, highest first, and alphabetically where counts are \
             equal.",
            "Count the words of {1} and write the top {0} to {2}, one line per word in the form \
             'word count'. Sort by falling count; break ties by the word, a before z.",
        ],
        make: lists::frequency,
    },
    Template {
        name: "matched",
        difficulty: Medium,
        parameters: &[INPUT, INPUT, OUTPUT],
        phrasings: &[
            "Lines of {0} are a key and a name, lines of {1} a key and a city, with one space \
             between. For each key that is in both files write a line 'key name city' into {2}, \
             sorted by key. A key occurs at most once in a file.",
            "Match {0} (lines 'key name') with {1} (lines 'key city') by their keys, which are \
             unique in each file. Write 'key name city' to {2} for the keys that both have, in \
             alphabetical order of the key; leave out all others.",
            "Join the two files {0} and {1} on the first word of their lines: the first gives a \
             name for a key, the second a city. {2} gets a line with key, name and city, separated \
             by one space, for every key found in both, ordered by key.",
        ],
        make: lists::matched,
    },
    Template {
        name: "totals",
        difficulty: Medium,
        parameters: &[MINIMUM, INPUT, OUTPUT],
        phrasings: &[
            "Each line of {1} is a name, a space and an amount; names repeat. Add up the amounts \
             of each name. Write the names with a total of {0} or more into {2}, as 'name total', \
             largest total first, equal totals in alphabetical order of the name.",
            "Sum the amounts in {1} by name (a line is 'name amount'). {2} is to list 'name total' \
             for all names whose total is at least {0}, sorted by total from high to low, then by \
             name from a to z.",
            "In {1} people appear with amounts, one pair 'name amount' a line. Work out each \
             person's total and write those that reach {0} ({0} itself counts) to {2} as 'name \
             total'. Highest total first; ties by name, alphabetically.",
        ],
        make: lists::totals,
    },
    Template {
        name: "records",
        difficulty: Hard,
        parameters: &[FIELD, FIELD, SCRIPT],
        phrasings: &[
            "sample.txt shows a format: records of lines 'key: value', separated by one or more \
             blank lines. Write a Bash script {2} that takes the path of such a file and prints a \
             line for each record, in order: the value of {0}, a tab, the value of {1}. Keys come \
             in any order, other keys are ignored, and a '-' is printed for a key that a record \
             does not have. Values may contain colons.",
            "Write {2}, run as 'bash {2} FILE'. FILE has records like those in sample.txt: lines \
             'key: value', with at least one blank line between records. For every record, in the \
             order of the file, print the values of {0} and {1} with a tab between; print '-' in \
             place of a missing one. The order of keys varies, there may be further keys, and a \
             value may have a colon in it.",
            "I have files of records such as sample.txt ('key: value' lines; blank lines, one or \
             several, between records). Make a Bash script {2} whose argument is the file and \
             which prints '{0} value<TAB>{1} value' for each record, without the words {0} and {1} \
             and with a real tab, in file order. If a record lacks one of the two, print '-' for \
             it. Do not rely on the order of keys, skip other keys, and note that values can \
             contain colons.",
        ],
        make: scripts::records,
    },
    Template {
        name: "pivot",
        difficulty: Hard,
        parameters: &[ROW, MARK, SCRIPT],
        phrasings: &[
            "Lines of sample.txt are '{0} item amount', separated by single spaces. Write a Bash \
             script {2} that takes the path of such a file and prints a table, its cells separated \
             by a {1}: the first line is the word {0} and all items, sorted; then a line for each \
             {0}, sorted, with the sum of its amounts for each item, 0 where there are none. Sort \
             alphabetically; all amounts are whole numbers.",
            "Make a script {2} (run as 'bash {2} FILE') that turns lines of '{0} item amount' into \
             a table with a row for each {0} and a column for each item. sample.txt is an example \
             of FILE. Separate cells by a {1}. The header is '{0}', then the items; items and rows \
             are in alphabetical order. A cell is the sum of the whole-number amounts for its row \
             and item, or 0.",
            "We keep files like sample.txt, with a {0}, an item and a whole number per line, \
             separated by a space. Write {2}, a Bash script that prints a pivot table of the file \
             given as its first argument to standard output, with a {1} between cells. Header \
             line: {0} and the item names from a to z. Below it one line per {0}, from a to z: its \
             name and, for each item, its numbers added up, 0 if it has none.",
        ],
        make: scripts::pivot,
    },
];
