//! What is known of all tasks together: a function of the journal's lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use orcapack_tasks::authoring::idea::Idea;
use orcapack_tasks::authoring::life::{Life, Want};
use orcapack_tasks::authoring::line::{Event, Line};
use orcapack_tasks::similarity::{Library, Text};
use orcapack_tasks::{Defect, Defects};

use crate::generate::plan::Plan;
use crate::generate::tally::Tally;

pub struct State {
    library: Library,
    /// Of ideas with a name of their own, in their order.
    titles: Vec<String>,
    /// Whose name it is; also of tasks that were rejected.
    slugs: BTreeMap<String, u32>,
    pub tally: Tally,
}

/// Tasks that have begun and not ended, by number.
pub type Unfinished = BTreeMap<u32, Life>;

impl State {
    /// From the lines of earlier starts.
    ///
    /// # Errors
    /// Lines that tell no story of ours.
    pub fn resume(
        plan: &Plan,
        journal: &Path,
        lines: Vec<(usize, Line)>,
    ) -> Result<(Self, Unfinished), Defects> {
        let mut state = Self {
            library: plan.library(),
            titles: Vec::new(),
            slugs: BTreeMap::new(),
            tally: Tally::default(),
        };
        let ends = |line: &Line| matches!(line.event, Event::Accepted | Event::Rejected { .. });
        let ended = lines.iter().filter(|(_, line)| ends(line)).map(|(_, line)| line.task);
        let ended: BTreeSet<u32> = ended.collect();
        let (mut lives, mut defects) = (BTreeMap::new(), Vec::new());
        for (number, line) in lines {
            let task = line.task;
            let life = lives.entry(task).or_insert_with(|| state.begin(plan, task));
            if !ends(&line)
                && let Err(error) = life.hear(&line.event)
                // What has ended may have done so within other bounds.
                && !ended.contains(&task)
            {
                let expected = format!("{}, with --patch-rounds as before", error.expected);
                let defect = Defect::new(journal, expected, "another event");
                defects.push(defect.at_line(number).at_key(format!("task {task}")));
            }
            state.note(task, life, &line.event);
        }
        lives.retain(|task, _| !ended.contains(task));
        Defects(defects).into_result((state, lives))
    }

    /// A task that nothing is known of yet.
    pub fn begin(&self, plan: &Plan, number: u32) -> Life {
        Life::new(&plan.wishes.of(number), &self.titles, plan.rounds_max)
    }

    /// Compares an idea with what there is.
    pub fn compare_idea(&self, number: u32, idea: &Idea) -> Event {
        let taken = self.slugs.get(&idea.slug).filter(|other| **other != number);
        let taken = taken.map(|other| format!("task {other}"));
        let text = Text { name: &idea.slug, instruction: &idea.text(), tests: &[] };
        Event::Compared { taken, findings: self.compare(number, text) }
    }

    /// What a task is too much like.
    pub fn compare(&self, number: u32, text: Text<'_>) -> Vec<String> {
        self.library.compare(number, text).iter().map(ToString::to_string).collect()
    }

    /// Knows of an event of a task; `life` has heard it.
    pub fn note(&mut self, number: u32, life: &Life, event: &Event) {
        self.tally.note(number, life, event);
        let Some(idea) = life.idea() else { return };
        match event {
            Event::Compared { taken: None, findings } => {
                self.slugs.insert(idea.slug.clone(), number);
                self.titles.push(idea.title.clone());
                if findings.is_empty() {
                    self.library.set_own(number, &idea.slug, &[&idea.text()]);
                }
            }
            Event::Answer(_) if *life.want() == Want::Try => {
                let texts = [&idea.text(), life.draft().instruction()];
                self.library.set_own(number, &idea.slug, &texts);
            }
            Event::Rejected { .. } => self.library.forget_own(number),
            _ => {}
        }
    }
}
