//! Functions on nested values.

use crate::generate::Difficulty::Hard;
use crate::generate::families::programs::{TOOL, filled, things};
use crate::generate::families::python_bugs::{check, checked};
use crate::generate::template::{Made, Parameter, Template, has, write};

const WEIGHT: Parameter = Parameter { values: &["size", "cost", "weight", "score"] };

const PARTS: Parameter = Parameter { values: &["parts", "children", "items", "nodes"] };

pub(super) const TREE: Template = Template {
    name: "tree",
    difficulty: Hard,
    parameters: &[TOOL, WEIGHT, PARTS],
    phrasings: &[
        "{0}.py works on trees: a tree is a dict with a number under \"{1}\" and, unless it is a \
         leaf, a list of trees under \"{2}\" (which may be empty or missing). total(tree) should \
         return the sum of all \"{1}\" in it, depth(tree) the number of levels, 1 for a leaf. \
         Both are wrong, and they also must work for trees of 20000 levels. Repair them.",
        "Repair total and depth in {0}.py. Their argument is a nested dict: \"{1}\" is an \
         integer, \"{2}\" a list of such dicts, left out or empty for leaves. total adds up \
         \"{1}\" over the whole tree; every call starts anew. depth counts the levels on the \
         longest way down, a leaf alone having depth 1. Trees can be as deep as 20000 levels.",
        "The functions total(tree) and depth(tree) of {0}.py give wrong results, and fail on \
         deep trees; 20000 levels have to be possible. In a tree, tree[\"{1}\"] is a whole \
         number and tree[\"{2}\"], if it is there, the list of its subtrees. total: the sum of \
         the \"{1}\" of the tree and all trees below. depth: how many levels the tree has, so 1 \
         where there are no subtrees. Fix both.",
    ],
    make: |values, random| {
        let (module, weight, parts) = (values[0], values[1], values[2]);
        let file = format!("{module}.py");
        let of = |total: &str, depth: &str| {
            filled(
                &format!("{}\n\n\n{}\n", total.trim_matches('\n'), depth.trim_matches('\n')),
                &[("@w", weight), ("@p", parts)],
            )
        };
        let broken = of(
            r#"
def total(tree, found=[]):
    """The sum of all numbers."""
    found.append(tree["@w"])
    for part in tree["@p"]:
        total(part)
    return sum(found)
"#,
            r#"
def depth(tree):
    """The number of levels."""
    levels = 0
    for part in tree.get("@p", []):
        levels = 1 + depth(part)
    return levels
"#,
        );
        let near = of(
            r#"
def total(tree):
    """The sum of all numbers."""
    return tree["@w"] + sum(total(part) for part in tree.get("@p", []))
"#,
            r#"
def depth(tree):
    """The number of levels."""
    return 1 + max((depth(part) for part in tree.get("@p", [])), default=0)
"#,
        );
        let fixed = of(
            r#"
def total(tree):
    """The sum of all numbers."""
    found, left = 0, [tree]
    while left:
        part = left.pop()
        found += part["@w"]
        left.extend(part.get("@p", []))
    return found
"#,
            r#"
def depth(tree):
    """The number of levels."""
    levels, level = 0, [tree]
    while level:
        levels += 1
        level = [part for above in level for part in above.get("@p", [])]
    return levels
"#,
        );
        let numbers: Vec<String> = (0..8).map(|_| random.within(1..=99).to_string()).collect();
        let levels = random.within(19_000..=20_000).to_string();
        let calls = filled(
            r#"
def tree(number, *parts):
    return {"@w": number, "@p": list(parts)}
leaf = {"@w": @0}
assert total(leaf) == @0 and depth(leaf) == 1
assert total(tree(@1)) == @1 and depth(tree(@1)) == 1
deep_first = tree(@2, tree(@3, tree(@4, leaf), tree(@5)), tree(@6))
for _ in range(2):
    assert total(deep_first) == @2 + @3 + @4 + @0 + @5 + @6
    assert depth(deep_first) == 4
deep_last = tree(@7, tree(@6), leaf, tree(@1, tree(@2)))
assert total(deep_last) == @7 + @6 + @0 + @1 + @2
assert depth(deep_last) == 3
chain = leaf
for _ in range(@levels - 1):
    chain = tree(1, chain)
assert total(chain) == @0 + @levels - 1
assert depth(chain) == @levels
assert total(deep_last) == @7 + @6 + @0 + @1 + @2
"#,
            &[
                ("@levels", &*levels),
                ("@w", weight),
                ("@p", parts),
                ("@0", &numbers[0]),
                ("@1", &numbers[1]),
                ("@2", &numbers[2]),
                ("@3", &numbers[3]),
                ("@4", &numbers[4]),
                ("@5", &numbers[5]),
                ("@6", &numbers[6]),
                ("@7", &numbers[7]),
            ],
        );
        let leaves =
            of("def total(tree):\n    return tree[\"@w\"]", "def depth(tree):\n    return 1");
        Made {
            start: vec![has(&file, &broken)],
            hidden: vec![check(module, "depth, total", &calls)],
            end: vec![checked()],
            solution: vec![write(&file, &fixed)],
            hard_coded: vec![write(&file, &leaves)],
            near_miss: vec![write(&file, &near)],
            ..Made::default()
        }
    },
};

const MERGER: Parameter =
    Parameter { values: &["merge", "combine", "overlay", "blend", "layered", "settings"] };

const REMOVER: Parameter = Parameter { values: &["unset", "remove", "drop", "none"] };

pub(super) const MERGE: Template = Template {
    name: "merge",
    difficulty: Hard,
    parameters: &[TOOL, MERGER, REMOVER],
    phrasings: &[
        "{1}(base, extra) in {0}.py should merge two nested dicts into a new one. A value of \
         extra replaces that of base under the same key, but where both are dicts, they are \
         merged in the same way. The text \"{2}\" as a value in extra, at any depth, means that \
         the key is not in the result, whether base has it or not. Lists are replaced as a \
         whole. Neither argument may be changed, nor may later changes to the result reach into \
         them. Repair it.",
        "Repair the function {1} in {0}.py, which lays the settings extra over the settings \
         base. Both are dicts of dicts, lists, texts and numbers. The result has the keys of \
         both; under a common key two dicts are merged by the same rules, anything else is taken \
         from extra. A key whose value in extra is \"{2}\" is left out of the result, also in \
         inner dicts, and also if base lacks it. base and extra stay as they are, and the result \
         shares no dict or list with them.",
        "The function {1} of {0}.py merges only the outermost level and spoils its arguments. \
         Wanted: {1}(base, extra) returns a new dict, deeply merged: dict with dict by the same \
         rules, else the value of extra wins (lists too, they are not joined). Wherever extra \
         has the value \"{2}\" for a key, at any level, the result has no such key, and it is no \
         error if base never had it. The result must be independent of both arguments: changing \
         it must not change them.",
    ],
    make: |values, random| {
        let (module, function, remove) = (values[0], values[1], values[2]);
        let file = format!("{module}.py");
        let words = things(random, 8, &[]);
        let broken = filled(
            "
def @f(base, extra):
    \"\"\"The two, merged.\"\"\"
    for key, value in extra.items():
        if value == \"@remove\":
            del base[key]
        else:
            base[key] = value
    return base
",
            &[("@f", function), ("@remove", remove)],
        );
        let fixed = filled(
            "
from copy import deepcopy


def @f(base, extra):
    \"\"\"The two, merged.\"\"\"
    result = deepcopy(base)
    for key, value in extra.items():
        if value == \"@remove\":
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = @f(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = deepcopy(value)
    return result
",
            &[("@f", function), ("@remove", remove)],
        );
        // Copies one level, and takes a new inner dict as it is.
        let near = filled(
            "
def @f(base, extra):
    \"\"\"The two, merged.\"\"\"
    result = dict(base)
    for key, value in extra.items():
        if value == \"@remove\":
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = @f(result[key], value)
        else:
            result[key] = value
    return result
",
            &[("@f", function), ("@remove", remove)],
        );
        let calls = filled(
            r#"
from copy import deepcopy
base = {"@a": {"@b": 1, "@c": {"@d": [1, 2], "@e": "x"}}, "@g": 3, "@h": [7]}
extra = {
    "@a": {"@c": {"@d": [5], "@e": "@remove"}, "@b": "@remove", "@i": 4},
    "@h": [8, {"@d": 1}],
    "@i": {"@d": {"@e": "@remove", "@g": [6]}},
    "@b": "@remove",
}
before = deepcopy((base, extra))
made = @f(base, extra)
assert made == {
    "@a": {"@c": {"@d": [5]}, "@i": 4},
    "@g": 3,
    "@h": [8, {"@d": 1}],
    "@i": {"@d": {"@g": [6]}},
}
assert (base, extra) == before
made["@a"]["@c"]["@d"].append(0)
made["@h"].append(0)
made["@h"][1]["@d"] = 2
made["@i"]["@d"]["@g"].append(0)
made["@i"]["@d"]["@e"] = 1
assert (base, extra) == before
made = @f(base, {})
assert made == base
made["@a"]["@c"]["@d"].append(0)
made["@h"].append(0)
assert (base, extra) == before
assert @f({}, {"@a": "@remove"}) == {}
assert @f({"@a": 1}, {"@a": {"@b": "@remove"}}) == {"@a": {}}
assert @f({"@a": {"@b": 1}}, {"@a": "@c"}) == {"@a": "@c"}
"#,
            &[
                ("@remove", remove),
                ("@f", function),
                ("@a", words[0]),
                ("@b", words[1]),
                ("@c", words[2]),
                ("@d", words[3]),
                ("@e", words[4]),
                ("@g", words[5]),
                ("@h", words[6]),
                ("@i", words[7]),
            ],
        );
        let last = filled("def @f(base, extra):\n    return dict(extra)", &[("@f", function)]);
        Made {
            start: vec![has(&file, &broken)],
            hidden: vec![check(module, function, &calls)],
            end: vec![checked()],
            solution: vec![write(&file, &fixed)],
            hard_coded: vec![write(&file, &last)],
            near_miss: vec![write(&file, &near)],
            ..Made::default()
        }
    },
};
