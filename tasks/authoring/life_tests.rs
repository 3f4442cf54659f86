use proptest::prelude::*;

use super::*;
use crate::authoring::line::Tokens;
use crate::authoring::wish::Wishes;

const IDEA: &str = "<idea>\ntitle: The answer\nslug: the-answer\ncategory: files\n\
                    difficulty: easy\ndescription: Write a number into a file.\n</idea>\n";
const FILES: &str = "\
<file path=\"instruction.md\">
Write 42 into /app/answer.
</file>
<file path=\"environment/Dockerfile\">
FROM orcapack/base:1
</file>
<file path=\"tests/test.sh\">
false
</file>
<file path=\"solution/solve.sh\">
true
</file>
<file path=\"known-bad/guess.sh\">
true
</file>
";
const FIX: &str = "<file path=\"tests/test.sh\">\ntrue\n</file>\n";
const BREAK: &str = "<remove path=\"tests/test.sh\"/>\n";
const ACCEPT: &str = "<verdict>\ndecision: accept\n</verdict>\n";
const REJECT: &str = "<verdict>\ndecision: reject\nreason: dull\n</verdict>\n";
const PATCH: &str = "<verdict>\ndecision: patch\nreason: too lax\n</verdict>\n";

/// A life, and what it has heard.
struct Driver {
    life: Life,
    heard: Vec<Event>,
}

impl Driver {
    fn new(rounds_max: u32) -> Self {
        let wish = Wishes::new(None, None, 0).expect("our own").of(1);
        Self { life: Life::new(&wish, &[], rounds_max), heard: Vec::new() }
    }

    fn hear(&mut self, event: Event) -> &mut Self {
        self.life.hear(&event).expect("it is wanted");
        self.heard.push(event);
        self
    }

    fn says(&mut self, text: &str) -> &mut Self {
        let Want::Ask(author) = *self.life.want() else { panic!("{:?}", self.life.want()) };
        self.hear(Event::Answer(answer(author, self.life.turn(author), text, false)))
    }

    fn is_new(&mut self) -> &mut Self {
        self.hear(Event::Compared { taken: None, findings: Vec::new() })
    }

    fn tried(&mut self, evidence: Evidence) -> &mut Self {
        self.hear(Event::Tried(evidence))
    }

    /// What the author who is to be asked is told.
    fn told(&self) -> (Author, &str) {
        let Want::Ask(author) = *self.life.want() else { panic!("{:?}", self.life.want()) };
        (author, self.life.talk(author).last().expect("a message"))
    }

    fn ended(&self) -> &Ending {
        let Want::Nothing(ending) = self.life.want() else { panic!("{:?}", self.life.want()) };
        ending
    }
}

fn answer(author: Author, turn: u32, text: &str, is_cut: bool) -> Answer {
    Answer {
        author,
        turn,
        text: text.to_owned(),
        reasoning: None,
        is_cut,
        tokens: Tokens::default(),
        model: String::new(),
        cost_usd: None,
    }
}

fn nop_passed() -> Evidence {
    let reasons = vec!["the tests pass when nothing is done".to_owned()];
    Evidence { reasons, ..Evidence::default() }
}

fn similar() -> Evidence {
    Evidence { findings: vec!["it has the name of a/b".to_owned()], ..Evidence::default() }
}

#[test]
fn a_task_that_is_right_at_once_needs_no_round() {
    let mut driver = Driver::new(5);
    driver.says(IDEA).is_new();
    assert!(driver.told().1.contains("Write a number into a file."));
    driver.says(FILES).tried(Evidence::default());
    let (author, told) = driver.told();
    assert_eq!(author, Author::Reviewer);
    assert!(told.contains("The answer") && told.contains("<file path=\"tests/test.sh\">\nfalse\n"));
    driver.says(ACCEPT);
    assert_eq!((driver.ended(), driver.life.rounds()), (&Ending::Accepted, 0));
}

#[test]
fn a_builder_is_told_its_faults_and_then_the_reviewers_wishes() {
    let mut driver = Driver::new(5);
    driver.says(IDEA).is_new().says("I cannot.");
    assert!(driver.told().1.contains("expected <file path=\"PATH\">"), "{:?}", driver.told());
    driver.says(FILES).tried(nop_passed()).says(PATCH);
    let (author, told) = driver.told();
    assert_eq!(author, Author::Builder);
    assert!(told.contains("too lax") && told.contains("3 times more"), "{told}");
    driver.says(FIX).tried(Evidence::default());
    let told = driver.told().1;
    assert!(told.contains("have changed") && !told.contains("instruction.md"), "{told}");
    driver.says(ACCEPT);
    assert_eq!((driver.ended(), driver.life.rounds()), (&Ending::Accepted, 2));
}

#[test]
fn a_reviewer_mends_the_task_itself_and_the_builder_hears_of_it() {
    let mut driver = Driver::new(5);
    driver.says(IDEA).is_new().says(FILES).tried(nop_passed());
    driver.says(&format!("{PATCH}{FIX}"));
    assert_eq!(driver.life.want(), &Want::Try);
    assert_eq!(driver.life.draft().tests(), ["true\n"]);
    driver.tried(Evidence::default()).says(PATCH);
    assert!(driver.told().1.contains("meanwhile:\n\n<file path=\"tests/test.sh\">\ntrue\n"));
    driver.says(BREAK);
    assert!(driver.told().1.contains("tests/test.sh: expected a file, found none"));
    driver.says(FIX).hear(Event::Unreadable { faults: vec!["task.toml: odd".into()] });
    assert_eq!(driver.told().0, Author::Builder);
}

#[test]
fn what_is_not_admitted_or_too_similar_is_never_accepted() {
    for (evidence, why) in [(nop_passed(), Why::NotAdmitted), (similar(), Why::Similar)] {
        let mut driver = Driver::new(1);
        driver.says(IDEA).is_new().says(FILES).tried(evidence.clone()).says(ACCEPT);
        let told = driver.told().1;
        assert!(told.contains("cannot be accepted") && told.contains("No change"), "{told}");
        driver.says(ACCEPT);
        let reasons = evidence.against();
        assert_eq!(driver.ended(), &Ending::Rejected { why, reasons });
    }
}

#[test]
fn tests_that_pass_on_nothing_are_given_up_after_the_last_round() {
    let mut driver = Driver::new(5);
    driver.says(IDEA).is_new().says(FILES);
    for _ in 0..5 {
        driver.tried(nop_passed()).says(PATCH).says(FIX);
    }
    driver.tried(nop_passed()).says(PATCH);
    let Ending::Rejected { why, reasons } = driver.ended() else { panic!("accepted") };
    assert_eq!((*why, driver.life.rounds()), (Why::NotAdmitted, 5));
    assert_eq!(reasons[0], "the tests pass when nothing is done");
    assert_eq!(reasons[1], "the reviewer wanted it patched: too lax");
}

#[test]
fn an_idea_is_mended_where_its_name_is_taken_and_given_up_where_it_is_a_copy() {
    let mut driver = Driver::new(5);
    driver.says("hm").says(IDEA);
    driver.hear(Event::Compared { taken: Some("task 1".into()), findings: Vec::new() });
    let (author, told) = driver.told();
    assert_eq!(author, Author::Idea);
    assert!(told.contains("expected a name of its own, found that of task 1"), "{told}");
    driver.says(IDEA);
    driver.hear(Event::Compared { taken: None, findings: vec!["a copy of a/b".into()] });
    let rejected = Ending::Rejected { why: Why::Similar, reasons: vec!["a copy of a/b".into()] };
    assert_eq!(driver.ended(), &rejected);
}

#[test]
fn what_the_reviewer_or_an_endpoint_ends_is_ended() {
    let mut driver = Driver::new(5);
    driver.says(IDEA).is_new().says(FILES).tried(Evidence::default()).says(REJECT);
    let rejected = Ending::Rejected { why: Why::Reviewer, reasons: vec!["dull".into()] };
    assert_eq!(driver.ended(), &rejected);

    let mut driver = Driver::new(5);
    driver.hear(Event::Unanswered { author: Author::Idea, reason: "too long".into() });
    let reasons = vec!["idea: too long".to_owned()];
    assert_eq!(driver.ended(), &Ending::Rejected { why: Why::Unanswered, reasons });
}

#[test]
fn what_nobody_asked_for_is_out_of_place_and_changes_nothing() {
    let mut driver = Driver::new(5);
    for event in [
        Event::Accepted,
        Event::Tried(Evidence::default()),
        Event::Compared { taken: None, findings: Vec::new() },
        Event::Answer(answer(Author::Builder, 1, FILES, false)),
        Event::Answer(answer(Author::Idea, 2, IDEA, false)),
    ] {
        let error = driver.life.hear(&event).expect_err("out of place");
        assert_eq!(error.expected, "answer 1 of the idea");
    }
    driver.says(IDEA).is_new();
}

/// What may come of what is wanted.
fn any_event(life: &Life, draw: u8) -> Event {
    let some = |draw: u8, texts: &[&str]| texts[usize::from(draw) % texts.len()].to_owned();
    match life.want() {
        Want::Ask(author) => {
            if draw % 16 == 15 {
                return Event::Unanswered { author: *author, reason: "gone".into() };
            }
            let both = format!("{PATCH}{FIX}");
            let text = match author {
                Author::Idea => some(draw, &[IDEA, IDEA, "hm"]),
                Author::Builder => some(draw, &[FILES, FIX, BREAK, "hm"]),
                Author::Reviewer => some(draw, &[ACCEPT, PATCH, &both, REJECT, "hm", ACCEPT]),
            };
            Event::Answer(answer(*author, life.turn(*author), &text, draw % 16 == 14))
        }
        Want::Compare => Event::Compared {
            taken: (draw % 4 == 1).then(|| "task 1".into()),
            findings: if draw % 8 == 2 { vec!["a copy".into()] } else { Vec::new() },
        },
        Want::Try => match draw % 5 {
            0 => Event::Unreadable { faults: vec!["odd".into()] },
            1 => Event::Tried(nop_passed()),
            2 => Event::Tried(similar()),
            _ => Event::Tried(Evidence::default()),
        },
        Want::Nothing(_) => Event::Accepted,
    }
}

proptest! {
    /// AU-1, AU-2, AU-3.
    #[test]
    fn every_life_ends_within_its_rounds_and_none_is_accepted_unproven(
        rounds_max in 0..7_u32,
        draws in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut driver = Driver::new(rounds_max);
        // The files that were found to be clean.
        let mut proven = None;
        for draw in draws {
            if matches!(driver.life.want(), Want::Nothing(_)) {
                break;
            }
            let event = any_event(&driver.life, draw);
            if let Event::Tried(evidence) = &event {
                proven = evidence.is_clean().then(|| driver.life.draft().clone());
            }
            driver.hear(event);
            prop_assert!(driver.life.rounds() <= rounds_max);
            prop_assert!(driver.heard.len() <= 5 + 3 * rounds_max as usize);
        }
        let Want::Nothing(ending) = driver.life.want() else { panic!("it does not end") };
        if *ending == Ending::Accepted {
            prop_assert_eq!(proven.as_ref(), Some(driver.life.draft()));
            let last = driver.heard.last();
            let by_reviewer = |answer: &Answer| answer.author == Author::Reviewer;
            prop_assert!(matches!(last, Some(Event::Answer(answer)) if by_reviewer(answer)));
        }
        let mut again = Driver::new(rounds_max);
        for event in &driver.heard {
            again.hear(event.clone());
        }
        prop_assert_eq!(again.life.want(), driver.life.want());
        prop_assert_eq!(again.life.draft(), driver.life.draft());
        for author in Author::ALL {
            prop_assert_eq!(again.life.talk(author), driver.life.talk(author));
        }
    }
}
