use proptest::prelude::*;

use super::*;

fn edit(old: &str, new: &str) -> Edit {
    Edit { old: old.to_owned(), new: new.to_owned(), replace_all: false }
}

fn all(old: &str, new: &str) -> Edit {
    Edit { replace_all: true, ..edit(old, new) }
}

fn refused(content: &str, edits: &[Edit]) -> String {
    apply(content.as_bytes(), edits).expect_err("it cannot be done").0
}

#[test]
fn an_absent_old_string_fails_and_shows_the_nearest_place() {
    let content = "fn a() {}\n\nfn main() {\n    let x = 1;\n    print(x);\n}\n";
    let why = refused(content, &[edit("fn main() {\n  let x = 1;", "y")]);
    assert!(why.contains("does not occur") && why.contains("Nothing was changed"), "{why}");
    assert!(why.contains("white space") && why.contains("     4\t    let x = 1;"), "{why}");
    let why = refused(content, &[edit("    let x = 2;", "y")]);
    assert!(why.contains("     4\t    let x = 1;"), "{why}");
    let why = refused(content, &[edit("fn main() {\n    let x = 3;\n    print(x);", "y")]);
    assert!(why.contains("     4\t    let x = 1;") && !why.contains("fn a()"), "{why}");
    assert!(!refused(content, &[edit("zzzzzz", "y")]).contains('\t'));
}

#[test]
fn an_ambiguous_old_string_fails_with_the_lines_where_it_occurs() {
    let why = refused("x\ny\nx\n", &[edit("x", "z")]);
    assert!(why.contains("occurs 2 times (at lines 1, 3)"), "{why}");
    let many = "x\n".repeat(50);
    assert!(refused(&many, &[edit("x", "z")]).contains("10, ...)"));
    assert!(refused("aaa", &[edit("aa", "b")]).contains("occurs 2 times"));
    assert_eq!(apply(b"aaa", &[all("aa", "b")]), Ok(b"ba".to_vec()));
}

#[test]
fn edits_that_change_nothing_are_refused() {
    for edits in [&[][..], &[edit("a", "a")], &[edit("", "b")], &[edit("a", "b"), edit("b", "a")]] {
        apply(b"a", edits).expect_err("nothing is changed");
    }
}

#[test]
fn a_later_edit_sees_what_an_earlier_one_did_and_its_failure_undoes_it() {
    let edits = [edit("one", "two"), edit("two", "three")];
    assert_eq!(apply(b"one\n", &edits), Ok(b"three\n".to_vec()));
    let why = refused("one\n", &[edit("one", "two"), edit("one", "three")]);
    assert!(why.starts_with("edit 2 of 2: "), "{why}");
}

#[test]
fn line_ends_stay_what_they_are() {
    let edits = [edit("a\nb", "a\nnew\nb")];
    assert_eq!(apply(b"a\r\nb\r\n", &edits), Ok(b"a\r\nnew\r\nb\r\n".to_vec()));
    let explicit = [edit("a\r\nb", "a\r\nnew\r\nb")];
    assert_eq!(apply(b"a\r\nb\r\n", &explicit), Ok(b"a\r\nnew\r\nb\r\n".to_vec()));
    // Of mixed line ends nobody can tell which are meant.
    apply(b"a\r\nb\nc", &edits).expect_err("a and b are on lines that end otherwise");
    assert_eq!(apply(b"\xef\xbb\xbfx\n", &[edit("x", "y")]), Ok(b"\xef\xbb\xbfy\n".to_vec()));
}

#[test]
fn a_file_that_is_not_utf8_keeps_its_bytes() {
    let latin = b"caf\xe9 = 1\nx = 2\n";
    assert_eq!(apply(latin, &[edit("x = 2", "x = 3")]), Ok(b"caf\xe9 = 1\nx = 3\n".to_vec()));
    let why = apply(latin, &[edit("x = 2", "é = 3")]).expect_err("bytes of another encoding").0;
    assert!(why.contains("not UTF-8"), "{why}");
    let why = apply(latin, &[edit("café", "tea")]).expect_err("not these bytes").0;
    assert!(why.contains("not UTF-8"), "{why}");
    assert!(apply(b"a\0b", &[edit("a", "b")]).expect_err("binary").0.contains("binary"));
}

#[test]
fn a_file_does_not_grow_beyond_its_bound() {
    let content = "x".repeat(1 << 20);
    let why = refused(&content, &[all("x", "12345")]);
    assert!(why.contains("longer than"), "{why}");
}

/// The plain meaning of one edit, on bytes that are text.
fn reference(content: &str, edit: &Edit) -> Option<String> {
    let places = (0..content.len()).filter(|at| {
        content.as_bytes().get(*at..).is_some_and(|rest| rest.starts_with(edit.old.as_bytes()))
    });
    let allowed = !edit.old.is_empty() && edit.old != edit.new;
    let found = match places.count() {
        0 => false,
        1 => true,
        _ => edit.replace_all,
    };
    (allowed && found).then(|| content.replace(&edit.old, &edit.new))
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = ("[ab\n]{0,3}", "[abc\n]{0,3}", any::<bool>())
        .prop_map(|(old, new, replace_all)| Edit { old, new, replace_all });
    prop::collection::vec(edit, 1..4)
}

proptest! {
    #[test]
    fn edits_do_what_they_mean_and_all_or_nothing(content in "[abé\n]{0,20}", edits in edits()) {
        let steps = edits.iter().try_fold(content.clone(), |content, e| reference(&content, e));
        let expected = steps.filter(|edited| *edited != content).map(String::into_bytes);
        prop_assert_eq!(apply(content.as_bytes(), &edits).ok(), expected);
    }

    #[test]
    fn bytes_outside_of_the_edit_stay(
        before in prop::collection::vec(128..=255_u8, 0..30),
        after in prop::collection::vec(128..=255_u8, 0..30),
    ) {
        let content = [&before[..], b"old", &after].concat();
        let edited = [&before[..], b"new!", &after].concat();
        prop_assert_eq!(apply(&content, &[edit("old", "new!")]).ok(), Some(edited));
    }

    #[test]
    fn nothing_is_too_strange_to_be_refused(
        content in prop::collection::vec(any::<u8>(), 0..60), old in "\\PC{0,5}", new in "\\PC{0,5}"
    ) {
        let result = apply(&content, &[edit(&old, &new)]);
        prop_assert!(result.is_err() || result.is_ok_and(|edited| edited != content));
    }
}
