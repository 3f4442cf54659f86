//! Scripts that go through the lines of a file.

use crate::generate::Difficulty::{Easy, Medium};
use crate::generate::families::programs::{THING, TOOL, filled, says_only};
use crate::generate::random::Random;
use crate::generate::template::{Made, Parameter, Template, has, output, write};

const LIMIT: Parameter = Parameter { values: &["20", "30", "40", "50", "60", "70", "80", "90"] };

pub(super) const AT_LEAST: Template = Template {
    name: "at-least",
    difficulty: Easy,
    parameters: &[TOOL, THING, LIMIT],
    phrasings: &[
        "Each line of a stock list such as {1}.txt is a name, a space and a whole number. bash \
         {0}.sh LIST LIMIT should print the names whose number is at least LIMIT, one a line, in \
         the order of the list. With {1}.txt and the limit {2} you can see that it prints wrong \
         ones. Repair the script.",
        "{0}.sh compares wrongly: try bash {0}.sh {1}.txt {2}. It gets a file of lines NAME \
         NUMBER (whole numbers from 0) and a limit, and should print every NAME whose NUMBER is \
         equal to the limit or greater, one per line, in the file's order. Fix it.",
        "Fix {0}.sh, please. Its arguments are a file with a name and a whole number on each \
         line, and a number, as in bash {0}.sh {1}.txt {2}. Its output should be the names, in \
         order, of all lines with that number or a larger one, each name on its own line.",
    ],
    make: |values, random| {
        let (tool, file) = (format!("{}.sh", values[0]), format!("{}.txt", values[1]));
        let limit: usize = values[2].parse().unwrap_or(0);
        let (seen, more) = (stock(random, 12, limit), stock(random, 40, limit));
        let limits = [limit, more[7].1, 9];
        let of = |test: &str| {
            filled(
                r#"
#!/bin/bash
# Usage: @tool LIST LIMIT
while read -r name number; do
  if [[ $number @test $2 ]]; then
    echo "$name"
  fi
done < "$1"
"#,
                &[("@tool", &*tool), ("@test", test)],
            )
        };
        let seen_printed = at_least(&seen, limit);
        let run = |file: &str, limit: usize| format!("timeout 5 bash {tool} {file} {limit}");
        let mut end = vec![output(&run(&file, limit), &seen_printed)];
        end.extend(
            limits.map(|limit| output(&run("/tests/more.txt", limit), &at_least(&more, limit))),
        );
        Made {
            start: vec![has(&tool, &of(">")), has(&file, &shown(&seen))],
            hidden: vec![has("more.txt", &shown(&more))],
            end,
            solution: vec![write(&tool, &of("-ge"))],
            hard_coded: vec![says_only(&tool, &seen_printed)],
            near_miss: vec![write(&tool, &of("-gt"))],
            ..Made::default()
        }
    },
};

/// Names and numbers of one to four digits, one of which is the limit.
fn stock(random: &mut Random, count: usize, limit: usize) -> Vec<(String, usize)> {
    let equal = random.within(0..=count - 1);
    let line = |at: usize| {
        let name = format!("{}{}", random.pick(THING.values), at + 1);
        let most = *random.pick(&[9, 99, 999, 9999]);
        (name, if at == equal { limit } else { random.within(0..=most) })
    };
    (0..count).map(line).collect()
}

fn shown(stock: &[(String, usize)]) -> String {
    stock.iter().map(|(name, number)| format!("{name} {number}")).collect::<Vec<_>>().join("\n")
}

fn at_least(stock: &[(String, usize)], limit: usize) -> String {
    let names = stock.iter().filter(|(_, number)| *number >= limit).map(|(name, _)| name.as_str());
    names.collect::<Vec<_>>().join("\n")
}

pub(super) const SUBSHELL: Template = Template {
    name: "subshell",
    difficulty: Medium,
    parameters: &[TOOL, THING, THING],
    phrasings: &[
        "bash {0}.sh FILE should print total N, where N is the sum of the numbers in the lines \
         of FILE that are for {1}. A line is a word, a space and a whole number; {2}.txt is an \
         example. The script always prints total 0. Repair it. It must count the last line even \
         if that has no line end.",
        "Why does {0}.sh print 0? Fix it: for a file of lines WORD NUMBER, such as {2}.txt, it \
         is to add up the numbers of those lines whose word is {1} and to print one line with \
         the word total, a space and the sum (0 if there are no such lines). Some of the files \
         lack the line end after the last line, which counts all the same.",
        "The sum that {0}.sh prints is lost on the way. Given a file like {2}.txt (each line a \
         word and a whole number, with a space between), it should print total and the sum of \
         all numbers that stand after the word {1}, for example total 120. Repair the script, \
         and see that a last line without a newline at its end is not left out.",
    ],
    make: |values, random| {
        let (tool, word, file) = (format!("{}.sh", values[0]), values[1], values[2]);
        let mut draw = |count: usize| -> (String, usize) {
            let mut lines = Vec::new();
            let mut total = 0;
            for at in 0..count {
                let number = random.within(1..=500);
                let ours = at % 4 == 1 || at + 1 == count;
                let but: Vec<&str> =
                    THING.values.iter().filter(|thing| **thing != word).copied().collect();
                let other = *random.pick(&but);
                total += if ours { number } else { 0 };
                lines.push(format!("{} {number}", if ours { word } else { other }));
            }
            (lines.join("\n"), total)
        };
        let ((seen, seen_total), (more, more_total)) = (draw(12), draw(60));
        let (ended, ended_total) = draw(30);
        let none = format!("{word}s 12\nun{word} 7\n");
        let of = |head: &str, tail: &str| {
            filled(
                r#"
#!/bin/bash
# Usage: @tool FILE
total=0
@head; do
  if [ "$word" = @word ]; then
    total=$((total + number))
  fi
done@tail
echo "total $total"
"#,
                &[("@tool", &*tool), ("@word", word), ("@head", head), ("@tail", tail)],
            )
        };
        let fixed = of("while read -r word number || [ -n \"$word\" ]", " < \"$1\"");
        let run = |file: &str| format!("timeout 5 bash {tool} {file}");
        let total = |total: usize| format!("total {total}");
        let file = format!("{file}.txt");
        Made {
            start: vec![
                has(&tool, &of("cat \"$1\" | while read -r word number", "")),
                has(&file, &seen),
            ],
            hidden: vec![
                ("more.txt".to_owned(), more),
                has("ended.txt", &ended),
                ("none.txt".to_owned(), none),
            ],
            end: vec![
                output(&run(&file), &total(seen_total)),
                output(&run("/tests/more.txt"), &total(more_total)),
                output(&run("/tests/ended.txt"), &total(ended_total)),
                output(&run("/tests/none.txt"), &total(0)),
            ],
            solution: vec![write(&tool, &fixed)],
            hard_coded: vec![says_only(&tool, &total(seen_total))],
            near_miss: vec![write(&tool, &of("while read -r word number", " < \"$1\""))],
            ..Made::default()
        }
    },
};
