use proptest::prelude::*;

use super::*;

const LONG: &str = "Count the requests of each client in the access log, most first, and write \
                    the ten busiest clients with their counts into the report.";

fn text<'t>(name: &'t str, instruction: &'t str, tests: &'t [String]) -> Text<'t> {
    Text { name, instruction, tests }
}

fn library(benchmarks: &[(&str, &str)]) -> Library {
    let mut library = Library::new(SIMILARITY_MAX);
    for (name, instruction) in benchmarks {
        library.add_benchmark(text(name, instruction, &[]));
    }
    library
}

fn found(library: &Library, name: &str, instruction: &str) -> Vec<String> {
    let findings = library.compare(1, text(name, instruction, &[]));
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn thirteen_words_of_a_benchmark_are_found_whatever_their_case_and_punctuation() {
    let library = library(&[("other", "Sort the file."), ("bench/busy", LONG)]);
    let twelve = "count the requests of each client in the access log most first";
    assert_eq!(found(&library, "a", twelve), [""; 0]);
    let thirteen = format!("Now: ({}, AND then) do another thing", twelve.to_uppercase());
    let expected = "it shares 1 sequences of 13 words with bench/busy, the first of them: \
                    count the requests of each client in the access log most first and";
    assert_eq!(found(&library, "a", &thirteen), [expected]);
}

#[test]
fn the_tests_of_a_benchmark_are_its_words_too_and_those_of_a_task() {
    let tests = [LONG.to_owned()];
    let mut library = Library::new(SIMILARITY_MAX);
    library.add_benchmark(text("bench", "Do it.", &tests));
    let findings = library.compare(1, text("a", "Do something else.", &tests));
    assert!(matches!(&findings[..], [Finding::Contaminated { other, .. }] if other == "bench"));
}

#[test]
fn what_many_tasks_or_all_are_told_to_have_is_nobodys() {
    let names: Vec<String> = (0..11).map(|n| format!("task-{n}")).collect();
    let tests = [LONG.to_owned()];
    let mut library = Library::new(SIMILARITY_MAX);
    for name in &names[..10] {
        library.add_benchmark(text(name, name, &tests));
    }
    assert_eq!(library.compare(1, text("a", "Other.", &tests)).len(), 1);
    library.add_benchmark(text(&names[10], &names[10], &tests));
    assert_eq!(library.compare(1, text("a", "Other.", &tests)), []);

    let mut library = Library::new(SIMILARITY_MAX);
    library.add_benchmark(text("bench", "Do it.", &tests));
    library.pass_over(LONG);
    assert_eq!(library.compare(1, text("a", "Other.", &tests)), []);
}

#[test]
fn names_are_the_same_whatever_parts_their_words() {
    let library = library(&[("bench/Log_Report", "Do it.")]);
    assert_eq!(found(&library, "log-report", "Else."), ["it has the name of bench/Log_Report"]);
    assert_eq!(found(&library, "log-reports", "Else."), [""; 0]);
}

#[test]
fn own_tasks_are_compared_with_each_other_and_not_with_themselves() {
    let mut library = library(&[]);
    library.set_own(1, "first", &["an idea", "Sort the lines of the file by their numbers."]);
    library.set_own(2, "second", &["another idea"]);
    let nearly = text("third", "Sort the lines of the file by their numbers, please.", &[]);
    assert_eq!(library.compare(1, nearly), []);
    let [Finding::NearlySame { other, jaccard }] = &library.compare(3, nearly)[..] else {
        panic!("nearly the same");
    };
    assert_eq!((other.as_str(), *jaccard), ("first", 7.0 / 8.0));
    library.forget_own(1);
    assert_eq!(library.compare(3, nearly), []);
}

#[test]
fn a_text_of_two_words_is_compared_as_a_whole() {
    let library = library(&[("bench", "Sort it")]);
    assert_eq!(found(&library, "a", "sort it!").len(), 1);
    assert_eq!(found(&library, "a", ""), [""; 0]);
}

proptest! {
    #[test]
    fn a_jaccard_index_is_symmetric_and_one_only_for_the_same_set(
        a in prop::collection::hash_set(0_u64..20, 0..12),
        b in prop::collection::hash_set(0_u64..20, 0..12),
    ) {
        let index = jaccard(&a, &b);
        prop_assert_eq!(index, jaccard(&b, &a));
        prop_assert!((0.0..=1.0).contains(&index));
        prop_assert_eq!(index == 1.0, a == b && !a.is_empty());
        prop_assert_eq!(index == 0.0, a.is_disjoint(&b));
    }

    /// A benchmark's instruction is found in whatever is written around it.
    #[test]
    fn a_copy_is_always_found(
        words in prop::collection::vec("[a-z]{1,8}", GRAM_WORDS..40),
        before in "([A-Z]{1,5} ){0,9}",
        after in "( [A-Z]{1,5}){0,9}",
    ) {
        let copied = words.join(" ");
        let library = library(&[("bench", copied.as_str())]);
        let text = format!("{before}{copied}{after}");
        prop_assert!(!found(&library, "a", &text).is_empty());
    }
}
