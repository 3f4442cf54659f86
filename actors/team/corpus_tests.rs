//! Answers as models write them, good and broken, and what is read from each.
//!
//! A file of the corpus holds the answers of one role. Each begins at a line `=== NAME`, which may
//! go on with `length` (cut at its limit), `crlf` (line ends) and `bom`.

use std::fmt::{Debug, Write as _};

use crate::model::Finish;
use crate::team::read_action::{self, Reading};

fn read_all<A: Debug>(corpus: &str, read: fn(&str, Finish) -> Reading<A>) -> String {
    let mut shown = String::new();
    for case in corpus.split("=== ").skip(1) {
        let (head, text) = case.split_once('\n').unwrap();
        let marks: Vec<&str> = head.split(' ').skip(1).collect();
        let has = |mark: &str| marks.contains(&mark);
        assert!(marks.iter().all(|mark| ["length", "crlf", "bom"].contains(mark)), "{head}");
        let mut text = text.to_owned();
        if has("crlf") {
            text = text.replace('\n', "\r\n");
        }
        if has("bom") {
            text.insert(0, '\u{feff}');
        }
        let reading = read(&text, if has("length") { Finish::Length } else { Finish::Stop });
        writeln!(shown, "=== {head}").unwrap();
        for action in &reading.actions {
            writeln!(shown, "{action:?}").unwrap();
        }
        if let Some(complaint) = reading.complaint() {
            writeln!(shown, "! {}", complaint.replace('\n', "\n! ")).unwrap();
        }
    }
    shown
}

#[test]
fn orchestrators_are_read() {
    let corpus = include_str!("corpus/orchestrator.txt");
    insta::assert_snapshot!(read_all(corpus, read_action::orchestrator));
}

#[test]
fn explorers_are_read() {
    let corpus = include_str!("corpus/explorer.txt");
    insta::assert_snapshot!(read_all(corpus, read_action::explorer));
}

#[test]
fn coders_are_read() {
    let corpus = include_str!("corpus/coder.txt");
    insta::assert_snapshot!(read_all(corpus, read_action::coder));
}
