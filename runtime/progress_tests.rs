use std::cell::RefCell;
use std::rc::Rc;

use super::*;

fn busy() -> RunStatus {
    let mut status = RunStatus {
        total: 100,
        done: 40,
        passed: 31,
        infra_failures: 1,
        retries: 2,
        live_environments: 14,
        ..RunStatus::default()
    };
    for (phase, count) in
        [(Phase::Queue, 3), (Phase::Create, 4), (Phase::Exec, 8), (Phase::Grade, 2)]
    {
        status.in_phase[phase as usize] = count;
    }
    status
}

fn measured(done: usize, elapsed_sec: u64, left: usize) -> Measured {
    Measured { done, elapsed: Duration::from_secs(elapsed_sec), left }
}

#[test]
fn queued_counts_every_rollout_that_no_environment_works_on() {
    assert_eq!(busy().queued(), 100 - 40 - (4 + 8 + 2));
    assert_eq!(RunStatus { total: 3, done: 3, ..RunStatus::default() }.queued(), 0);
}

#[test]
fn a_plain_line_names_only_the_phases_that_are_busy() {
    insta::assert_snapshot!(line(&busy(), measured(20, 120, 60)), @"40/100 done, 31 passed, 1 infrastructure failure, 2 attempts repeated, 14 environments up; queued 46, create 4, agent 8, verify 2; 10.0 rollouts/min, about 6 min 00 s left");
    let start = RunStatus { total: 1, ..RunStatus::default() };
    insta::assert_snapshot!(line(&start, measured(0, 0, 1)), @"0/1 done, 0 passed, 0 infrastructure failures; queued 1");
    let end = RunStatus { total: 2, done: 2, passed: 2, ..RunStatus::default() };
    insta::assert_snapshot!(line(&end, measured(2, 60, 0)), @"2/2 done, 2 passed, 0 infrastructure failures; 2.0 rollouts/min");
}

#[test]
fn the_block_has_a_row_for_each_phase_and_a_line_for_what_is_waited_for() {
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut status = busy();
    status.waiting = vec![Waiting { what: "the docker engine".to_owned(), since }];
    let text = block(&status, measured(20, 120, 60), since + Duration::from_secs(75));
    let (rows, waiting) = text.rsplit_once('\n').unwrap();
    insta::assert_snapshot!(rows, @"
      queued       46
      image         0
      create        4
      agent         8
      verify        2
      clean up      0
    31 passed, 1 infrastructure failure, 2 attempts repeated, 14 environments up
    10.0 rollouts/min, about 6 min 00 s left
    ");
    assert!(waiting.starts_with("waiting for the docker engine since "), "{waiting}");
    assert!(waiting.ends_with(" (1 min 15 s)"), "{waiting}");
}

#[test]
fn a_resumed_run_measures_its_pace_without_what_was_done_before() {
    let mut status = busy();
    let pace = Pace { began: Instant::now(), done_before: status.done };
    assert!(pace.at(&status, pace.began + Duration::from_secs(60)).text().is_none());
    status.done += 10;
    let text = pace.at(&status, pace.began + Duration::from_secs(60)).text().unwrap();
    assert_eq!(text, "10.0 rollouts/min, about 5 min 00 s left");
}

#[test]
fn progress_is_live_only_on_a_terminal_that_nothing_else_writes_to() {
    assert_eq!(Mode::choose(false, false, true), Mode::Live);
    assert_eq!(Mode::choose(false, true, true), Mode::Plain);
    assert_eq!(Mode::choose(false, false, false), Mode::Plain);
    assert_eq!(Mode::choose(true, true, true), Mode::Silent);
}

#[tokio::test(start_paused = true)]
async fn plain_lines_come_on_change_and_two_seconds_apart_and_the_last_at_once() {
    let (sender, receiver) = watch::channel(RunStatus { total: 1000, ..RunStatus::default() });
    let lines = Rc::new(RefCell::new(Vec::new()));
    let start = Instant::now();
    let printed = lines.clone();
    let shown = show_plain(receiver, move |line| {
        let done = line.split('/').next().unwrap_or_default().to_owned();
        printed.borrow_mut().push((start.elapsed().as_millis(), done));
    });
    let run = async move {
        for _ in 0..50 {
            // On the paused clock.
            tokio::time::sleep(Duration::from_millis(100)).await;
            sender.send_modify(|status| status.done += 1);
        }
    };
    tokio::join!(shown, run);
    let lines = lines.borrow();
    let times: Vec<u128> = lines.iter().map(|(at, _)| *at).collect();
    assert!(times.windows(2).rev().skip(1).all(|pair| pair[1] - pair[0] >= 2000), "{lines:?}");
    assert_eq!(lines.first(), Some(&(0, "0".to_owned())));
    assert_eq!(lines.last(), Some(&(5000, "50".to_owned())), "the end is shown when it comes");
    assert!(lines.len() <= 5, "{lines:?}");
}
