//! A server in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use orcapack::config_policy::BOUNDS;
use orcapack::policy_engine::PolicyEngine;
use orcapack::serve::{Served, router};
use orcapack_actors::model::settings::{EngineBounds, PolicySettings, Secret};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::http::{Coming, Reply, send};
use crate::policy;

pub const MODEL: &str = "tiny";

/// Stops when it is dropped.
pub struct Lab {
    pub at: SocketAddr,
    serving: JoinHandle<()>,
    _dir: TempDir,
}

/// What of a server is not as usual.
#[derive(Clone, Copy)]
pub struct Setup {
    pub slots: usize,
    pub queue: usize,
    pub context: usize,
    pub key: Option<&'static str>,
}

pub const USUAL: Setup = Setup { slots: 8, queue: 32, context: 512, key: None };

impl Lab {
    pub async fn start() -> Self {
        Self::with(USUAL).await
    }

    pub async fn with(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        policy::write(dir.path(), 7);
        let settings = PolicySettings {
            checkpoint: dir.path().to_owned(),
            bounds: EngineBounds {
                slots: setup.slots,
                context_tokens_max: Some(setup.context),
                threads: Some(1),
                ..BOUNDS
            },
            chat_template_kwargs: Default::default(),
        };
        let opened = PolicyEngine::open(&settings).unwrap().with_queue(setup.queue);
        let opened = Arc::new(opened);
        let engine = opened.start(None).await.unwrap().unwrap();
        let key = setup.key.map(Secret::new);
        let served = Served::new(opened, engine, MODEL.to_owned(), key, Some(1));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = router(Arc::new(served));
        let serving = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        Self { at, serving, _dir: dir }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.at)
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.at, path, &[], None).await.whole().await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.begin(path, body).await.whole().await
    }

    /// As far as the head of the response.
    pub async fn begin(&self, path: &str, body: &Value) -> Coming {
        send(self.at, path, &[("content-type", "application/json")], Some(body.to_string())).await
    }

    /// A number of `/metrics`.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next().unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    /// Until a number of `/metrics` is as it should be.
    pub async fn until(&self, name: &str, is: impl Fn(f64) -> bool) {
        while !is(self.metric(name).await) {
            // Metrics wake nobody: polled.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
