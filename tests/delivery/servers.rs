//! To vLLM and SGLang servers: method, path, query, body and order of all that they are told.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use orcapack::train::delivery::server::WeightServer;
use orcapack::train::delivery::servers::{Servers, ServersConfig};
use orcapack::train::delivery::{Delivered, Delivery, DeliveryError};
use orcapack_actors::model::ModelErrorKind;
use orcapack_actors::model::settings::{EndpointKind, EndpointSettings, Secret};
use orcapack_trainer::model::weights_write::WeightsFormat;
use serde_json::{Value, json};

use super::*;
use crate::http_server::{Asked, HttpReply, HttpServer};

/// No test waits for it.
const LIMIT: Duration = Duration::from_secs(300);
const VLLM: EndpointKind = EndpointKind::Vllm;
const SGLANG: EndpointKind = EndpointKind::Sglang;

/// A server that keeps to its protocol, but for what it is to do wrong.
struct Fake {
    http: HttpServer,
    /// What becomes of the next orders of these paths, instead.
    faults: Arc<Mutex<Vec<(&'static str, HttpReply)>>>,
    /// What it says that it samples with.
    version: Arc<Mutex<String>>,
}

impl Fake {
    async fn new(kind: EndpointKind) -> Self {
        let faults = Arc::new(Mutex::new(Vec::<(&'static str, HttpReply)>::new()));
        let version = Arc::new(Mutex::new("default".to_owned()));
        let (wrong, has) = (faults.clone(), version.clone());
        let http = HttpServer::start_any(move |asked| {
            let mut faults = wrong.lock().unwrap();
            if let Some(at) = faults.iter().position(|(path, _)| *path == asked.path) {
                return faults.remove(at).1;
            }
            let mut has = has.lock().unwrap();
            if kind == VLLM { vllm(asked, &mut has) } else { sglang(asked, &mut has) }
        });
        Self { http: http.await, faults, version }
    }

    fn fails(&self, path: &'static str, reply: HttpReply) {
        self.faults.lock().unwrap().push((path, reply));
    }

    /// Since the last time.
    fn told(&self, seen: &mut usize) -> Vec<String> {
        let asked = self.http.asked();
        let new = asked.iter().skip(*seen).map(|asked| {
            assert_eq!(asked.header("authorization"), Some("Bearer sk-1"));
            let Asked { method, path, query, body, .. } = asked;
            let mark = if query.is_empty() { "" } else { "?" };
            let body = if body.is_null() { String::new() } else { format!(" {body}") };
            format!("{method} {path}{mark}{query}{body}")
        });
        let new = new.collect();
        *seen = asked.len();
        new
    }
}

fn vllm(asked: &Asked, has: &mut String) -> HttpReply {
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/pause") => HttpReply::Json(200, json!({"status": "paused"})),
        ("POST", "/collective_rpc") => HttpReply::Json(200, json!({"results": [null]})),
        ("POST", "/reset_prefix_cache") => HttpReply::Raw(200, Vec::new(), String::new()),
        ("POST", "/update_weight_version") => {
            *has = asked.body["new_version"].as_str().unwrap().to_owned();
            HttpReply::Json(200, json!({"success": true, "new_version": has}))
        }
        ("POST", "/resume") => HttpReply::Json(200, json!({"status": "resumed"})),
        ("GET", "/weight_info") => HttpReply::Json(200, json!({"weight_version": has})),
        _ => HttpReply::Json(404, json!({"detail": "Not Found"})),
    }
}

fn sglang(asked: &Asked, has: &mut String) -> HttpReply {
    let ok = |message: &str| HttpReply::Json(200, json!({"message": message, "status": "ok"}));
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/pause_generation") => ok("Generation paused successfully."),
        ("POST", "/flush_cache") => {
            let text = ("content-type", "text/plain; charset=utf-8".to_owned());
            HttpReply::Raw(200, vec![text], "Cache flushed.\n".to_owned())
        }
        ("POST", "/update_weights_from_disk") => {
            *has = asked.body["weight_version"].as_str().unwrap().to_owned();
            let message = "Succeeded to update model weights.";
            let body = json!({"success": true, "message": message, "num_paused_requests": 0});
            HttpReply::Json(200, body)
        }
        ("POST", "/continue_generation") => ok("Generation continued successfully."),
        ("GET", "/model_info") => {
            HttpReply::Json(200, json!({"model_path": "m", "weight_version": has}))
        }
        _ => HttpReply::Json(404, json!({"detail": "Not Found"})),
    }
}

fn server(kind: EndpointKind, url: &str, limit: Duration, tries: u32) -> WeightServer {
    let settings = EndpointSettings {
        name: kind.as_str().to_owned(),
        kind,
        model: "m".into(),
        // With the version at its end, as an endpoint to sample from is configured.
        url: format!("{url}/v1"),
        api_key: Some(Secret::new("sk-1")),
        sampling: Default::default(),
        extra: Default::default(),
        try_timeout: Duration::from_secs(1),
        tries_max: 1,
        in_flight_max: 1,
        price: None,
        run: None,
        policy: None,
        mistakes: Default::default(),
    };
    WeightServer::new(&settings, limit, tries).unwrap().unwrap()
}

/// A run's policy, and where its weights are written.
struct Lab {
    policy: TempDir,
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { policy: policy_dir(1), folder: tempfile::tempdir().unwrap() }
    }

    fn servers(&self, servers: Vec<WeightServer>) -> Servers {
        let policy = Policy::open(self.policy.path()).unwrap();
        let folder = self.folder.path().join("weights");
        let config = ServersConfig { folder, policy, format: WeightsFormat::default() };
        Servers::new(config, servers)
    }

    fn one(&self, fake: &Fake, kind: EndpointKind, tries: u32) -> Servers {
        self.servers(vec![server(kind, &fake.http.url, LIMIT, tries)])
    }

    fn weights(&self, version: u64) -> Snapshot {
        snapshot(self.policy.path(), version, version)
    }

    fn dir(&self, version: u64) -> std::path::PathBuf {
        self.folder.path().canonicalize().unwrap().join(format!("weights/step_{version}"))
    }
}

fn names(delivered: &Delivered) -> Vec<&str> {
    delivered.targets.iter().map(|it| it.target.as_str()).collect()
}

fn vllm_orders(dir: &Path, version: u64) -> Vec<String> {
    let reload = json!({"method": "reload_weights", "kwargs": {"weights_path": dir}});
    let names = json!({"new_version": version.to_string()});
    vec![
        "POST /pause?mode=keep {}".to_owned(),
        format!("POST /collective_rpc {reload}"),
        "POST /reset_prefix_cache?reset_running_requests=true {}".to_owned(),
        format!("POST /update_weight_version {names}"),
        "POST /resume {}".to_owned(),
    ]
}

fn sglang_orders(dir: &Path, version: u64) -> Vec<String> {
    let version = version.to_string();
    let update = json!({"model_path": dir, "weight_version": version, "flush_cache": true});
    vec![
        r#"POST /pause_generation {"mode":"retract"}"#.to_owned(),
        "POST /flush_cache {}".to_owned(),
        format!("POST /update_weights_from_disk {update}"),
        "POST /continue_generation {}".to_owned(),
    ]
}

fn failed(result: Result<Delivered, DeliveryError>) -> (u32, ModelErrorKind, String) {
    match result.unwrap_err() {
        DeliveryError::Servers(mut errors) => {
            assert_eq!(errors.len(), 1);
            let error = errors.remove(0);
            (error.tries, error.error.kind, error.to_string())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn both_kinds_are_told_in_their_own_words_where_the_weights_are() {
    let (lab, vllm, sglang) = (Lab::new(), Fake::new(VLLM).await, Fake::new(SGLANG).await);
    let servers = lab.servers(vec![
        server(VLLM, &vllm.http.url, LIMIT, 1),
        server(SGLANG, &sglang.http.url, LIMIT, 1),
    ]);
    let delivered = servers.deliver(&lab.weights(4)).await.unwrap();
    assert_eq!(names(&delivered), ["vllm", "sglang"]);
    assert_eq!(vllm.told(&mut 0), vllm_orders(&lab.dir(4), 4));
    assert_eq!(sglang.told(&mut 0), sglang_orders(&lab.dir(4), 4));
    // What they were told to read is a whole policy with these weights.
    let written = Policy::open(&lab.dir(4)).unwrap();
    let written = written.load(&lab.dir(4), &Device::Cpu).unwrap();
    let written = Snapshot::of(&written, 4).unwrap();
    assert_eq!(written.digest(), lab.weights(4).digest());
}

#[tokio::test]
async fn an_order_that_fails_for_now_is_followed_by_all_of_them_from_the_first() {
    for kind in [VLLM, SGLANG] {
        let (lab, fake) = (Lab::new(), Fake::new(kind).await);
        let (path, orders) = if kind == VLLM {
            ("/collective_rpc", vllm_orders(&lab.dir(1), 1))
        } else {
            ("/update_weights_from_disk", sglang_orders(&lab.dir(1), 1))
        };
        fake.fails(path, HttpReply::Json(500, json!({"error": "busy"})));
        lab.one(&fake, kind, 2).deliver(&lab.weights(1)).await.unwrap();
        let begun = orders.iter().take_while(|order| !order.contains(path)).count() + 1;
        let expected = [&orders[..begun], &orders].concat();
        assert_eq!(fake.told(&mut 0), expected);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again() {
    let (lab, fake) = (Lab::new(), Fake::new(VLLM).await);
    fake.fails("/pause", HttpReply::Drop);
    lab.one(&fake, VLLM, 3).deliver(&lab.weights(1)).await.unwrap();
    assert_eq!(*fake.version.lock().unwrap(), "1");
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_a_failure_and_stays_paused() {
    let (lab, fake) = (Lab::new(), Fake::new(SGLANG).await);
    fake.fails("/update_weights_from_disk", HttpReply::Hang);
    let slow = server(SGLANG, &fake.http.url, Duration::from_secs(2), 1);
    let (tries, kind, _) = failed(lab.servers(vec![slow]).deliver(&lab.weights(1)).await);
    assert_eq!((tries, kind), (1, ModelErrorKind::TimedOut));
    let told = fake.told(&mut 0);
    assert!(!told.iter().any(|order| order.contains("continue_generation")), "{told:?}");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_fails_and_the_others_have_the_weights() {
    let (lab, well) = (Lab::new(), Fake::new(SGLANG).await);
    let gone = Fake::new(VLLM).await.http.url.clone();
    let servers =
        lab.servers(vec![server(VLLM, &gone, LIMIT, 2), server(SGLANG, &well.http.url, LIMIT, 1)]);
    let (tries, kind, said) = failed(servers.deliver(&lab.weights(1)).await);
    assert_eq!((tries, kind), (2, ModelErrorKind::Unreachable));
    assert!(said.starts_with("vllm: version 1 not taken in 2 tries"), "{said}");
    assert_eq!(*well.version.lock().unwrap(), "1");
}

#[tokio::test]
async fn a_wrong_answer_is_no_success() {
    let wrong = [
        (VLLM, "/pause", json!({"status": "running"})),
        (VLLM, "/collective_rpc", json!("done")),
        (VLLM, "/update_weight_version", json!({"success": false})),
        (VLLM, "/resume", Value::Null),
        (SGLANG, "/pause_generation", json!({"status": "no"})),
        (SGLANG, "/update_weights_from_disk", json!({"message": "ok"})),
        (SGLANG, "/update_weights_from_disk", json!({"success": false, "message": "no such dir"})),
        (SGLANG, "/continue_generation", json!([])),
    ];
    let lab = Lab::new();
    for (kind, path, answer) in wrong {
        let fake = Fake::new(kind).await;
        fake.fails(path, HttpReply::Json(200, answer.clone()));
        let (tries, error, said) = failed(lab.one(&fake, kind, 1).deliver(&lab.weights(1)).await);
        let is_wrong = matches!(error, ModelErrorKind::Malformed | ModelErrorKind::Rejected);
        assert!(tries == 1 && is_wrong && said.contains(path), "{path} {answer}: {said}");
        let last = fake.told(&mut 0).pop().unwrap();
        assert!(last.contains(path), "nothing is ordered after it: {last}");
    }
}

#[tokio::test]
async fn a_server_without_its_development_routes_is_not_tried_again() {
    let (lab, fake) = (Lab::new(), Fake::new(VLLM).await);
    fake.fails("/pause", HttpReply::Json(404, json!({"detail": "Not Found"})));
    let (tries, kind, said) = failed(lab.one(&fake, VLLM, 5).deliver(&lab.weights(1)).await);
    assert_eq!((tries, kind), (1, ModelErrorKind::Rejected));
    assert!(said.contains("404"), "{said}");
}

#[tokio::test]
async fn a_vllm_that_tells_no_versions_gets_weights_all_the_same() {
    let (lab, fake) = (Lab::new(), Fake::new(VLLM).await);
    fake.fails("/update_weight_version", HttpReply::Json(404, json!({"detail": "Not Found"})));
    let servers = lab.one(&fake, VLLM, 1);
    servers.deliver(&lab.weights(1)).await.unwrap();
    assert_eq!(fake.told(&mut 0), vllm_orders(&lab.dir(1), 1));
    let seen = &mut fake.http.asked().len();
    fake.fails("/weight_info", HttpReply::Json(404, json!({"detail": "Not Found"})));
    servers.refresh().await.unwrap();
    assert_eq!(fake.told(seen), ["GET /weight_info"]);
}

#[tokio::test]
async fn versions_do_not_go_back_and_a_server_that_began_anew_is_brought_up_to_date() {
    for kind in [VLLM, SGLANG] {
        let (lab, fake) = (Lab::new(), Fake::new(kind).await);
        let servers = lab.one(&fake, kind, 1);
        assert_eq!(servers.refresh().await.unwrap(), Delivered::default());
        servers.deliver(&lab.weights(2)).await.unwrap();
        let older = servers.deliver(&lab.weights(1)).await.unwrap_err();
        assert!(matches!(older, DeliveryError::Older { version: 1, newest: 2 }), "{older}");
        let seen = &mut fake.http.asked().len();
        let look = if kind == VLLM { "GET /weight_info" } else { "GET /model_info" };
        servers.deliver(&lab.weights(2)).await.unwrap();
        servers.refresh().await.unwrap();
        assert_eq!(fake.told(seen), [look, look]);
        *fake.version.lock().unwrap() = "default".to_owned();
        let delivered = servers.refresh().await.unwrap();
        assert_eq!(names(&delivered), [kind.as_str()]);
        let orders =
            if kind == VLLM { vllm_orders(&lab.dir(2), 2) } else { sglang_orders(&lab.dir(2), 2) };
        assert_eq!(fake.told(seen), [vec![look.to_owned()], orders].concat());
    }
}

#[tokio::test]
async fn what_a_server_has_not_taken_it_is_brought_the_next_time() {
    let (lab, fake) = (Lab::new(), Fake::new(SGLANG).await);
    let servers = lab.one(&fake, SGLANG, 1);
    fake.fails("/flush_cache", HttpReply::Raw(400, Vec::new(), "Flush cache failed.\n".into()));
    let (_, kind, said) = failed(servers.deliver(&lab.weights(1)).await);
    assert_eq!(kind, ModelErrorKind::Overloaded, "it may be tried again");
    assert!(said.contains("Flush cache failed."), "{said}");
    let seen = &mut fake.http.asked().len();
    servers.refresh().await.unwrap();
    assert_eq!(fake.told(seen), sglang_orders(&lab.dir(1), 1));
}

#[tokio::test]
async fn the_last_two_directories_are_kept_and_nothing_of_an_earlier_life() {
    let lab = Lab::new();
    let left = |lab: &Lab| {
        let entries = fs::read_dir(lab.folder.path().join("weights")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for old in ["weights/step_1", "weights/step_9", "weights/.staged_3"] {
        fs::create_dir_all(lab.folder.path().join(old)).unwrap();
        fs::write(lab.folder.path().join(old).join("model.safetensors"), "old").unwrap();
    }
    let servers = lab.servers(Vec::new());
    servers.deliver(&lab.weights(1)).await.unwrap();
    assert_eq!(left(&lab), ["step_1"]);
    assert_ne!(fs::read(lab.dir(1).join("model.safetensors")).unwrap(), b"old");
    for version in [2, 4] {
        servers.deliver(&lab.weights(version)).await.unwrap();
    }
    assert_eq!(left(&lab), ["step_2", "step_4"]);
}
