use proptest::prelude::*;

use super::*;

fn stops(texts: &[&str]) -> StopTexts {
    StopTexts::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

/// All that comes out of `pieces`, and what ended it.
fn run(mut stops: StopTexts, pieces: &[&str]) -> (String, Option<usize>) {
    let mut text = String::new();
    for piece in pieces {
        let held = stops.push(piece);
        text += &held.text;
        if held.stopped.is_some() {
            return (text, held.stopped);
        }
    }
    (text + &stops.finish(), None)
}

#[test]
fn a_text_is_cut_before_what_ends_it() {
    assert_eq!(run(stops(&["\n\n"]), &["one\n", "\ntwo"]), ("one".to_owned(), Some(0)));
    assert_eq!(run(stops(&["x", "END"]), &["aEN", "D"]), ("a".to_owned(), Some(1)));
    assert_eq!(run(stops(&["END"]), &["aEN"]), ("aEN".to_owned(), None));
    assert_eq!(run(stops(&[]), &["a", "b"]), ("ab".to_owned(), None));
}

#[test]
fn only_what_may_begin_a_stop_text_is_held_back() {
    let mut stops = stops(&["</é>"]);
    let mut push = |piece| stops.push(piece).text;
    assert_eq!(push("a<"), "a");
    assert_eq!(push("b<</"), "<b<");
    assert_eq!(push("é"), "");
    assert_eq!(push("è"), "</éè");
}

#[test]
fn the_first_complete_text_ends_it_and_the_longest_of_these() {
    assert_eq!(run(stops(&["abcd", "b"]), &["abcd"]), ("a".to_owned(), Some(1)));
    assert_eq!(run(stops(&["b", "ab"]), &["xa", "b"]), ("x".to_owned(), Some(1)));
}

#[test]
fn nothing_comes_after_the_end() {
    let mut stops = stops(&["b"]);
    assert_eq!(stops.push("abc").stopped, Some(0));
    assert_eq!(stops.push("b"), Held { text: String::new(), stopped: None });
}

proptest! {
    #[test]
    fn where_pieces_are_cut_makes_no_difference(
        text in "[abé]{0,24}",
        texts in prop::collection::vec("[abé]{1,4}", 0..4),
        cuts in prop::collection::vec(0_usize..24, 0..8),
    ) {
        let whole = run(StopTexts::new(&texts), &[&text]);
        let mut cuts: Vec<usize> =
            cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        prop_assert_eq!(run(StopTexts::new(&texts), &pieces), whole.clone());
        // And it is what its words say.
        let ends = texts.iter().filter_map(|stop| text.find(stop).map(|at| (at + stop.len(), at)));
        let expected = ends.min().map_or(text.as_str(), |(_, start)| &text[..start]);
        prop_assert_eq!(whole.0, expected);
    }
}
