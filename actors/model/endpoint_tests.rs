//! Endpoints over a scripted model, on a clock that jumps to the next thing that is due.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::Map;

use super::*;
use crate::model::settings::{EndpointKind, Price, Sampling};
use crate::model::{CallKey, Finish, Message, Speaker, Usage};

const SECOND: Duration = Duration::from_secs(1);

/// What a try comes to.
#[derive(Clone)]
enum Try {
    Answer,
    Fail(ModelErrorKind, Option<Duration>),
    Hang,
}

use Try::{Answer as Ok200, Fail, Hang};

/// Does what it is told, then answers everything, each after a second; with more at one time than
/// it can take, it refuses.
struct Scripted {
    script: Mutex<VecDeque<Try>>,
    capacity: usize,
    began: Mutex<Vec<(Instant, u64)>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Try>) -> Arc<Self> {
        Self::with_capacity(usize::MAX, script)
    }

    fn with_capacity(capacity: usize, script: impl IntoIterator<Item = Try>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            capacity,
            began: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    /// When each try began, in seconds since `start`.
    fn tries(&self, start: Instant) -> Vec<f64> {
        let began = self.began.lock().unwrap();
        began.iter().map(|(at, _)| (*at - start).as_secs_f64()).collect()
    }
}

/// In flight until it is dropped.
struct Flight<'a>(&'a AtomicUsize);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Model for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        async move {
            self.began.lock().unwrap().push((Instant::now(), request.policy_version));
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _flight = Flight(&self.now);
            let next = self.script.lock().unwrap().pop_front().unwrap_or(Ok200);
            match next {
                Ok200 if self.now.load(Ordering::SeqCst) > self.capacity => {
                    Err(ModelError::new(ModelErrorKind::RateLimited, "too many"))
                }
                Ok200 => {
                    a_second().await;
                    Ok(answer())
                }
                Fail(kind, retry_after) => {
                    Err(ModelError { retry_after, ..ModelError::new(kind, "as it was told") })
                }
                Hang => pending().await,
            }
        }
        .boxed()
    }
}

fn answer() -> Answer {
    Answer {
        text: "yes".to_owned(),
        reasoning: None,
        finish: Finish::Stop,
        usage: Usage { prompt_tokens: 1000, completion_tokens: 100, cached_tokens: 600 },
        model: "scripted-1".to_owned(),
        tokens: None,
    }
}

fn request(agent: u32) -> Request {
    Request {
        key: CallKey { rollout: 1, attempt: 1, step: 0, agent, turn: 1 },
        messages: vec![Message::new(Speaker::User, "do it")],
        max_tokens: 100,
        instruction: "do it".into(),
        policy_version: 0,
        scripts: None,
    }
}

pub(crate) fn settings(name: &str, kind: EndpointKind) -> EndpointSettings {
    EndpointSettings {
        name: name.to_owned(),
        kind,
        model: String::new(),
        url: String::new(),
        api_key: None,
        sampling: Sampling::default(),
        extra: Map::new(),
        try_timeout: SECOND * 60,
        tries_max: 5,
        in_flight_max: 8,
        price: Some(Price { input: 3.0, cached_input: 0.3, output: 15.0 }),
        run: None,
        policy: None,
        mistakes: Default::default(),
    }
}

pub(crate) struct Parent;

impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn endpoint(model: &Arc<Scripted>) -> (Endpoint, Arc<Board>) {
    let (parent, _) = Actor::spawn(None, Parent, ()).await.unwrap();
    let board = Arc::new(Board::default());
    let settings = settings("m", EndpointKind::OpenAi);
    let parent = parent.get_cell();
    let endpoint = Endpoint::spawn(settings, model.clone(), board.clone(), parent).await.unwrap();
    (endpoint, board)
}

/// The clock stands still while anything is left to do, so that all of it has been done when this
/// ends.
async fn a_second() {
    // Moves the paused clock; nobody waits.
    sleep(SECOND).await;
}

fn in_secs(seconds: u32) -> Instant {
    Instant::now() + SECOND * seconds
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_with_what_it_cost() {
    let model = Scripted::new([]);
    let (endpoint, _) = endpoint(&model).await;
    endpoint.set_policy_version(7);
    let Called { answer: text, facts } = endpoint.ask(&request(0), in_secs(100)).await.unwrap();
    assert_eq!(text, answer());
    assert_eq!((facts.tries, facts.waited, facts.took), (1, Duration::ZERO, SECOND));
    let cost = facts.cost_usd.unwrap();
    assert!((cost - (400.0 * 3.0 + 600.0 * 0.3 + 100.0 * 15.0) / 1e6).abs() < 1e-12, "{cost}");
    assert_eq!(model.began.lock().unwrap()[0].1, 7, "the policy's version");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_call_waits_as_long_as_it_was_told_and_no_less() {
    let limited = Fail(ModelErrorKind::RateLimited, Some(SECOND * 20));
    let model = Scripted::new([limited]);
    let (endpoint, _) = endpoint(&model).await;
    let start = Instant::now();
    let called = endpoint.ask(&request(0), in_secs(100)).await.unwrap();
    let tries = model.tries(start);
    assert!(
        tries[1] >= 20.0 && tries[1] <= 21.01,
        "20 s and the jitter of a first retry: {tries:?}"
    );
    assert_eq!((called.facts.tries, called.facts.took), (2, SECOND));
    assert!((called.facts.waited.as_secs_f64() - tries[1]).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_cut_at_its_limit_and_tried_again() {
    let model = Scripted::new([Hang]);
    let (endpoint, _) = endpoint(&model).await;
    let start = Instant::now();
    let called = endpoint.ask(&request(0), in_secs(1000)).await.unwrap();
    let tries = model.tries(start);
    assert!(tries[1] >= 60.0 && tries[1] <= 61.01, "{tries:?}");
    assert_eq!(called.facts.tries, 2);
    assert!(called.facts.waited <= SECOND, "the try that hung is no waiting");
}

#[tokio::test(start_paused = true)]
async fn what_would_fare_no_better_is_tried_once() {
    for kind in [ModelErrorKind::Rejected, ModelErrorKind::Unauthorized] {
        let model = Scripted::new([Fail(kind, None)]);
        let (endpoint, _) = endpoint(&model).await;
        let error = endpoint.ask(&request(0), in_secs(1000)).await.unwrap_err();
        assert_eq!((error.why, error.tries, error.error.kind), (GaveUp::Fatal, 1, kind));
    }
}

#[tokio::test(start_paused = true)]
async fn tries_are_used_up_and_the_last_error_is_told() {
    let model = Scripted::new(vec![Fail(ModelErrorKind::Malformed, None); 9]);
    let (endpoint, _) = endpoint(&model).await;
    let error = endpoint.ask(&request(0), in_secs(1000)).await.unwrap_err();
    assert_eq!((error.why, error.tries), (GaveUp::TriesUsedUp, 5));
    assert_eq!(error.error.kind, ModelErrorKind::Malformed);
    assert_eq!(error.to_string(), "as it was told (tries used up, tries made: 5)");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_comes_before_everything() {
    // Within a try.
    let model = Scripted::new([Hang]);
    let (within, _) = endpoint(&model).await;
    let start = Instant::now();
    let error = within.ask(&request(0), in_secs(10)).await.unwrap_err();
    assert_eq!((error.why, error.tries, start.elapsed()), (GaveUp::Deadline, 1, SECOND * 10));
    assert_eq!(error.error.kind, ModelErrorKind::TimedOut);

    // Before a wait that would go past it: at once, with the last error.
    let model = Scripted::new([Fail(ModelErrorKind::Overloaded, Some(SECOND * 30))]);
    let (between, _) = endpoint(&model).await;
    let start = Instant::now();
    let error = between.ask(&request(0), in_secs(20)).await.unwrap_err();
    assert_eq!((error.why, error.tries, start.elapsed()), (GaveUp::Deadline, 1, Duration::ZERO));
    assert_eq!(error.error.kind, ModelErrorKind::Overloaded);

    // In the queue.
    let model = Scripted::new(vec![Hang; 8]);
    let (queued, _) = endpoint(&model).await;
    let start = Instant::now();
    let (key, soon, late) = (request(9), in_secs(5), in_secs(30));
    let others: Vec<Request> = (0..8).map(request).collect();
    let hung = join_all(others.iter().map(|request| queued.ask(request, late)));
    let last = async {
        let error = queued.ask(&key, soon).await.unwrap_err();
        (error, start.elapsed())
    };
    let (hung, (error, after)) = tokio::join!(hung, last);
    assert!(hung.iter().all(|ended| ended.as_ref().unwrap_err().why == GaveUp::Deadline));
    assert_eq!((error.why, error.tries, after), (GaveUp::Deadline, 0, SECOND * 5));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_never_exceed_the_cap_and_all_end_in_order() {
    let model = Scripted::new([]);
    let (endpoint, _) = endpoint(&model).await;
    let order = Mutex::new(Vec::new());
    let requests: Vec<Request> = (0..1000).map(request).collect();
    let deadline = in_secs(1000);
    let calls = requests.iter().map(|request| {
        let (endpoint, order) = (&endpoint, &order);
        async move {
            endpoint.ask(request, deadline).await.unwrap();
            order.lock().unwrap().push(request.key.agent);
        }
    });
    let start = Instant::now();
    join_all(calls).await;
    assert_eq!(model.most.load(Ordering::SeqCst), 8);
    let took = start.elapsed().as_secs();
    assert_eq!(took, 125, "1000 calls of 1 s each, 8 at a time");
    let order = order.into_inner().unwrap();
    for (place, agent) in order.into_iter().enumerate() {
        assert_eq!(place / 8, agent as usize / 8, "who came first was served first");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_refuses_what_is_too_much_is_kept_busy_with_what_it_takes() {
    let model = Scripted::with_capacity(5, []);
    let (endpoint, board) = endpoint(&model).await;
    let requests: Vec<Request> = (0..500).map(request).collect();
    let (start, deadline) = (Instant::now(), in_secs(1000));
    let ended = join_all(requests.iter().map(|request| endpoint.ask(request, deadline))).await;
    let answered = ended.iter().filter(|ended| ended.is_ok()).count();
    let (tries, took) = (model.began.lock().unwrap().len(), start.elapsed().as_secs_f64());
    assert!(answered >= 495, "{answered} of 500, none but with its tries used up");
    assert!((500..650).contains(&tries), "{tries} tries for 500 calls");
    assert!((100.0..140.0).contains(&took), "{took} s, where 100 s is all that it can do");
    assert_eq!(board.waiting(), []);
}

#[tokio::test(start_paused = true)]
async fn callers_that_are_cancelled_leave_their_places() {
    let model = Scripted::new(vec![Hang; 8]);
    let (endpoint, _) = endpoint(&model).await;
    let ask = |agent| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move { endpoint.ask(&request(agent), in_secs(1000)).await })
    };
    let hung: Vec<_> = (0..8).map(ask).collect();
    a_second().await;
    let queued: Vec<_> = (8..100).map(ask).collect();
    a_second().await;
    let last = ask(100);
    a_second().await;
    let start = Instant::now();
    hung.iter().chain(&queued).for_each(tokio::task::JoinHandle::abort);
    last.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), SECOND, "nobody was before it");
    assert_eq!(model.began.lock().unwrap().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_is_said_to_be_waited_for_and_found_again() {
    let model = Scripted::new(vec![Fail(ModelErrorKind::Unreachable, None); 20]);
    let (endpoint, board) = endpoint(&model).await;
    let requests: Vec<Request> = (0..16).map(request).collect();
    let deadline = in_secs(3600);
    let calls = join_all(requests.iter().map(|request| endpoint.ask(request, deadline)));
    let watch = async {
        a_second().await;
        board.waiting()
    };
    let (ended, waiting) = tokio::join!(calls, watch);
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let said: Vec<&str> = waiting.iter().map(|waiting| waiting.what.as_str()).collect();
    assert_eq!(said, ["the endpoint m, unreachable of late"]);
    assert_eq!(board.waiting(), []);
}

#[tokio::test(start_paused = true)]
async fn the_death_of_the_gateway_ends_every_call_at_once() {
    let model = Scripted::new(vec![Hang; 8]);
    let (endpoint, board) = endpoint(&model).await;
    let requests: Vec<Request> = (0..20).map(request).collect();
    let start = Instant::now();
    let deadline = in_secs(3600);
    let calls = join_all(requests.iter().map(|request| endpoint.ask(request, deadline)));
    let kill = async {
        a_second().await;
        endpoint.cell().kill();
    };
    let (ended, ()) = tokio::join!(calls, kill);
    assert_eq!(start.elapsed(), SECOND);
    for (agent, ended) in ended.into_iter().enumerate() {
        let error = ended.unwrap_err();
        assert_eq!((error.why, error.tries), (GaveUp::GatewayGone, u32::from(agent < 8)));
    }
    let error = endpoint.ask(&request(0), deadline).await.unwrap_err();
    assert_eq!(error.why, GaveUp::GatewayGone);
    assert_eq!((board.waiting().len(), model.now.load(Ordering::SeqCst)), (0, 0));
}
