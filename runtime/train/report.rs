//! The HTML report of a run that trains: what was measured before and after, and the curves. One
//! file that needs nothing else and fetches nothing.

use minijinja::value::Serde;
use serde::Serialize;

use crate::report::environment;
use crate::train::curriculum::Pools;
use crate::train::curves::{self, Curve, DrawError};
use crate::train::metrics::{Evaluated, History, Learnt, Stepped};

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Template(#[from] minijinja::Error),
    #[error(transparent)]
    Draw(#[from] DrawError),
}

/// What of the run stands above the curves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    pub name: String,
    /// In a few lines.
    pub plan: String,
    pub config: String,
    pub command: String,
}

/// The whole file.
///
/// # Errors
/// Defects of the template and of the drawing only.
pub fn render(about: &About, history: &History) -> Result<String, ReportError> {
    let mut environment = environment();
    environment.add_filter("fixed", |number: f64, places: usize| format!("{number:.places$}"));
    // The name's ending turns escaping on; the curves are our own and marked as safe there.
    environment.add_template("train.html", include_str!("report.html"))?;
    let charts = charts(history).into_iter().map(|(title, curves)| {
        let svg = curves::draw(&curves)?;
        Ok(Chart { title, svg })
    });
    let view = View {
        about,
        evaluations: &history.evaluations,
        last: history.steps.last(),
        steps: history.steps.len(),
        split: split(&history.steps),
        charts: charts.collect::<Result<_, DrawError>>()?,
    };
    Ok(environment.get_template("train.html")?.render(Serde(view))?)
}

#[derive(Serialize)]
struct View<'a> {
    about: &'a About,
    evaluations: &'a [Evaluated],
    last: Option<&'a Stepped>,
    steps: usize,
    split: Vec<(&'static str, f64)>,
    charts: Vec<Chart>,
}

#[derive(Serialize)]
struct Chart {
    title: &'static str,
    svg: String,
}

/// Seconds of all steps, by what they went into.
fn split(steps: &[Stepped]) -> Vec<(&'static str, f64)> {
    let sum = |of: fn(&Stepped) -> f64| steps.iter().map(of).sum();
    vec![
        ("waiting for batch", sum(|it| it.seconds.waiting_for_batch)),
        ("training", sum(|it| it.seconds.train)),
        ("delivery of weights", sum(|it| it.seconds.deliver)),
        ("evaluation", sum(|it| it.seconds.evaluate)),
        ("checkpoints", sum(|it| it.seconds.checkpoint)),
        ("of it, waiting for other ranks", sum(|it| it.seconds.reduce)),
        ("rollouts waiting for policy", sum(|it| it.seconds.waiting_for_policy)),
    ]
}

fn charts(history: &History) -> Vec<(&'static str, Vec<Curve>)> {
    let steps = &history.steps;
    let of = |name, value: fn(&Stepped) -> f64| {
        Curve::line(name, steps.iter().map(|it| (it.step as f64, value(it))).collect())
    };
    let learnt = |name, value: fn(&Learnt) -> f64| {
        let points =
            steps.iter().filter_map(|it| Some((it.step as f64, value(it.learnt.as_ref()?))));
        Curve::line(name, points.collect())
    };
    let held_out = history.evaluations.iter().filter_map(|it| {
        let share = it.held_out;
        Some((it.step as f64, share.share?, share.low?, share.high?))
    });
    let tasks = |name, count: fn(&Pools) -> u64| {
        let points = steps
            .iter()
            .filter_map(|it| Some((it.step as f64, count(it.curriculum.as_ref()?) as f64)));
        Curve::line(name, points.collect())
    };
    let pools = vec![
        tasks("in the band", |it| it.in_band),
        tasks("easy", |it| it.easy),
        tasks("hard", |it| it.hard),
        tasks("unmeasured", |it| it.unmeasured),
    ];
    let has_pools = steps.iter().any(|step| step.curriculum.is_some());
    let mut charts = vec![
        (
            "Success: held-out tasks with 95% intervals, and training rollouts",
            vec![
                of("training", |it| it.pass_rate),
                Curve::with_intervals("held out", held_out.collect()),
            ],
        ),
        ("Mean reward of training rollouts", vec![of("reward", |it| it.reward_mean)]),
        (
            "Groups of a batch without signal",
            vec![
                of("all passed", |it| it.groups_all_passed as f64),
                of("all failed", |it| it.groups_all_failed as f64),
            ],
        ),
        ("Entropy, nats", vec![learnt("entropy", |it| it.entropy)]),
        ("Gradient norm before clipping", vec![learnt("norm", |it| it.grad_norm)]),
        ("KL to the samplers, nats", vec![learnt("k3", |it| it.kl_to_sampler)]),
        ("Share of tokens clipped", vec![learnt("clipped", |it| it.clip_fraction)]),
        (
            "Staleness, versions",
            vec![of("mean", |it| it.staleness_mean), of("most", |it| it.staleness_max as f64)],
        ),
        (
            "Seconds of a step",
            vec![
                of("waiting for batch", |it| it.seconds.waiting_for_batch),
                of("training", |it| it.seconds.train),
                of("delivery", |it| it.seconds.deliver),
            ],
        ),
        ("Rollouts per minute", vec![of("rollouts", |it| it.rollouts_per_min)]),
    ];
    charts.extend(has_pools.then_some(("Tasks of the curriculum", pools)));
    charts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Share;
    use crate::train::batch::GroupFigures;
    use crate::train::pacer::Dropped;

    #[test]
    fn a_report_has_its_curves_and_nothing_that_its_names_smuggle_in() {
        let figures = GroupFigures { groups: 2, rollouts: 4, passed: 1, ..GroupFigures::default() };
        let step = |number| Stepped {
            learnt: Some(Learnt { entropy: 0.5, ..Learnt::default() }),
            ..Stepped::of(number, &figures, Dropped::default())
        };
        let evaluated = |step| Evaluated { step, held_out: Share::wilson(3 + step, 10), lost: 0 };
        let history = History {
            steps: (1..=4).map(step).collect(),
            evaluations: vec![evaluated(0), evaluated(4)],
        };
        let about = About {
            name: "<script>alert(1)</script>".to_owned(),
            plan: "2 steps".to_owned(),
            config: "[run]".to_owned(),
            command: "orcapack train".to_owned(),
        };
        let page = render(&about, &history).unwrap();
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("<svg").count(), 10);
        assert!(page.contains("70.0%"), "{page}");
        let mut chosen = history;
        chosen.steps[0].curriculum = Some(Pools::default());
        assert_eq!(render(&about, &chosen).unwrap().matches("<svg").count(), 11);
        // Of a run that has just begun.
        assert!(render(&about, &History::default()).is_ok());
    }
}
