//! Functions on lists.

use crate::generate::Difficulty::{Easy, Medium};
use crate::generate::families::programs::{THING, TOOL, filled, things};
use crate::generate::families::python_bugs::{check, checked};
use crate::generate::template::{Made, Parameter, Template, has, write};

const ADDER: Parameter = Parameter {
    values: &["collect", "joined", "extended", "with_item", "grown", "added", "put_last", "noted"],
};

pub(super) const DEFAULT: Template = Template {
    name: "default",
    difficulty: Easy,
    parameters: &[TOOL, ADDER],
    phrasings: &[
        "In {0}.py, {1}(item, items) should return a new list with the elements of the list \
         items and then item; without a second argument, the list with item alone. But a second \
         call still knows the item of the first, and the list that is passed in is changed. \
         Repair it: no call may change a list passed to it or depend on an earlier call.",
        "Fix the Python function {1} in {0}.py. {1}(item) must always give [item], however often \
         it was called before, and {1}(item, items) a new list: all of items, with item at the \
         end. The argument items itself must stay as it is.",
        "The module {0}.py has a function {1} that remembers too much: call {1}(1), then {1}(2). \
         It is to return a fresh list made of the given list (the optional second argument, \
         empty if left out) plus the item at its end, and must leave the given list alone. \
         Repair it.",
    ],
    make: |values, random| {
        let (module, function) = (values[0], values[1]);
        let file = format!("{module}.py");
        let of = |default: &str, body: &str| {
            filled(
                "
def @f(item, items=@default):
    \"\"\"The items and then the item.\"\"\"
@body
",
                &[("@f", function), ("@default", default), ("@body", body.trim_matches('\n'))],
            )
        };
        let words = things(random, 6, &[]);
        let number = random.within(10..=99).to_string();
        let calls = filled(
            r#"
assert @f("@a") == ["@a"]
assert @f("@b") == ["@b"]
assert @f(@n) == [@n]
given = ["@c", "@d"]
made = @f("@e", given)
assert made == ["@c", "@d", "@e"]
assert given == ["@c", "@d"]
made.append("@a")
assert @f("@b", given) == ["@c", "@d", "@b"]
empty = []
assert @f(@n, empty) == [@n] and empty == []
assert @f(None, [@n]) == [@n, None]
assert @f("@a", items=[0]) == [0, "@a"]
"#,
            &[
                ("@f", function),
                ("@a", words[0]),
                ("@b", words[1]),
                ("@c", words[2]),
                ("@d", words[3]),
                ("@e", words[4]),
                ("@n", &number),
            ],
        );
        let append = "    items.append(item)\n    return items";
        let fixed = of("None", "    return [*(items or []), item]");
        let near = of("None", &format!("    if items is None:\n        items = []\n{append}"));
        Made {
            start: vec![has(&file, &of("[]", append))],
            hidden: vec![check(module, function, &calls)],
            end: vec![checked()],
            solution: vec![write(&file, &fixed)],
            hard_coded: vec![write(&file, &of("None", "    return [item]"))],
            near_miss: vec![write(&file, &near)],
            ..Made::default()
        }
    },
};

const SIZE: Parameter = Parameter { values: &["2", "3", "4", "5", "6", "7"] };

pub(super) const WINDOWS: Template = Template {
    name: "windows",
    difficulty: Easy,
    parameters: &[TOOL, SIZE, ADDER],
    phrasings: &[
        "{2}(values) in {0}.py should return a list: the sum of each {1} numbers that follow \
         each other in values, from the first {1} to the last {1}. The last sum is missing. \
         Repair it. For fewer than {1} numbers the result is an empty list.",
        "Repair {0}.py, where the function {2} leaves out a sum. For a list of numbers it gives \
         the list of all sums of {1} neighbors: those from index 0, from index 1, and so on, the \
         last one being of the final {1} values; no sums of less than {1} values, so [] for a \
         list that is too short.",
        "Fix the off-by-one mistake in the function {2} of {0}.py. It returns the moving sums \
         over {1} values of a list, all of them in order and only complete ones; a list shorter \
         than {1} has none, so the result is [].",
    ],
    make: |values, random| {
        let (module, size, function) = (values[0], values[1], values[2]);
        let width: usize = size.parse().unwrap_or(1);
        let file = format!("{module}.py");
        let of = |count: &str| {
            filled(
                "
def @f(values):
    \"\"\"The sums of each @size neighbors.\"\"\"
    return [sum(values[at:at + @size]) for at in range(@count)]
",
                &[("@f", function), ("@count", count), ("@size", size)],
            )
        };
        let calls: Vec<String> = [width - 1, width, width + 1, width + 9, width + 30]
            .into_iter()
            .map(|count| {
                let numbers: Vec<usize> = (0..count).map(|_| random.within(1..=99)).collect();
                let sums: Vec<usize> =
                    numbers.windows(width).map(|some| some.iter().sum()).collect();
                format!("assert {function}({numbers:?}) == {sums:?}")
            })
            .collect();
        let one = filled(
            "
def @f(values):
    return [sum(values[:@size])]
",
            &[("@f", function), ("@size", size)],
        );
        Made {
            start: vec![has(&file, &of(&format!("len(values) - {size}")))],
            hidden: vec![check(module, function, &calls.join("\n"))],
            end: vec![checked()],
            solution: vec![write(&file, &of(&format!("len(values) - {}", width - 1)))],
            hard_coded: vec![write(&file, &one)],
            near_miss: vec![write(&file, &of("len(values)"))],
            ..Made::default()
        }
    },
};

const KEY: Parameter =
    Parameter { values: &["team", "city", "color", "shop", "river", "player", "owner", "route"] };

const VALUE: Parameter = Parameter { values: &["points", "sales", "goals", "visits"] };

pub(super) const RANKING: Template = Template {
    name: "ranking",
    difficulty: Medium,
    parameters: &[TOOL, KEY, VALUE],
    phrasings: &[
        "ranking(rows) in {0}.py gets a list of dicts with the keys {1} (text) and {2} (whole \
         number). It should add up {2} for each {1}, where upper and lower case are the same, \
         and return a list of tuples ({1} in lower case, sum): the largest sum first, equal sums \
         in alphabetical order. It gets the sums and the order wrong. Repair it.",
        "Repair the function ranking in {0}.py. For rows such as {\"{1}\": \"Oak\", \"{2}\": 3} \
         it is to give the total of {2} per {1}, as (name, total) tuples in a list. Names that \
         differ only in case are one, and the result has them in lower case. The list goes from \
         the greatest total to the smallest; names with the same total are sorted from a to z.",
        "There are several mistakes in ranking(rows), see {0}.py. Each row is a dict: \
         row[\"{1}\"] is a name, row[\"{2}\"] an integer. Wanted is a list of pairs (tuples) of \
         the name, in lower case, and the sum of {2} over all its rows, whatever the case they \
         are written in, sorted by sum downwards and, where sums are equal, by name upwards.",
    ],
    make: |values, random| {
        let (module, key, value) = (values[0], values[1], values[2]);
        let file = format!("{module}.py");
        let of = |name: &str, add: &str, order: &str| {
            filled(
                "
def ranking(rows):
    \"\"\"Names and their totals.\"\"\"
    totals = {}
    for row in rows:
        name = row[\"@key\"]@name
        totals[name] = @addrow[\"@value\"]
    return sorted(totals.items(), @order)
",
                &[
                    ("@key", key),
                    ("@value", value),
                    ("@name", name),
                    ("@add", add),
                    ("@order", order),
                ],
            )
        };
        let reverse = "key=lambda pair: (pair[1], pair[0]), reverse=True";
        let cases = [4, 6, 9].map(|count: usize| {
            let names = things(random, count, &[]);
            let mut rows: Vec<(String, usize)> = Vec::new();
            let mut totals: Vec<(&str, usize)> = Vec::new();
            for (at, name) in names.iter().enumerate() {
                // Each two have the same total.
                let half = 10 + at / 2;
                let capital = name[..1].to_uppercase() + &name[1..];
                rows.extend([(capital, half), ((*name).to_owned(), half)]);
                totals.push((name, 2 * half));
            }
            rows = random.shuffled(&rows);
            totals.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            let shown: Vec<String> = rows
                .iter()
                .map(|(name, half)| format!("{{\"{key}\": \"{name}\", \"{value}\": {half}}}"))
                .collect();
            format!("assert ranking([{}]) == {totals:?}", shown.join(", "))
        });
        let calls = format!("{}\nassert ranking([]) == []", cases.join("\n"));
        let fixed =
            of(".lower()", "totals.get(name, 0) + ", "key=lambda pair: (-pair[1], pair[0])");
        let constant =
            format!("def ranking(rows):\n    return [(\"{}\", 3)]", random.pick(THING.values));
        Made {
            start: vec![has(&file, &of("", "", reverse))],
            hidden: vec![check(module, "ranking", &calls)],
            end: vec![checked()],
            solution: vec![write(&file, &fixed)],
            hard_coded: vec![write(&file, &constant)],
            near_miss: vec![write(&file, &of(".lower()", "totals.get(name, 0) + ", reverse))],
            ..Made::default()
        }
    },
};
