//! A real HTTP server on a free port, for whoever needs to be talked to in tests.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt as _};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What the server does then.
#[derive(Clone, Debug)]
pub enum HttpReply {
    Json(u16, Value),
    /// Any body, and headers besides.
    Raw(u16, Vec<(&'static str, String)>, String),
    /// Never answers.
    Hang,
    /// Closes the connection without a word.
    Drop,
    /// Closes the connection in the middle of the body.
    Break(String),
}

/// Stops when it is dropped.
pub struct HttpServer {
    pub url: String,
    log: Arc<Mutex<Log>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    /// Whole answers in JSON only.
    answered: Vec<Value>,
}

type Body = BoxBody<Bytes, std::io::Error>;
type Answering = dyn Fn(&Asked) -> HttpReply + Send + Sync;

impl HttpServer {
    /// `answer` is called for each `POST`, in the order in which they come in.
    pub async fn start(answer: impl Fn(&Asked) -> HttpReply + Send + Sync + 'static) -> Self {
        Self::start_any(move |asked| {
            assert_eq!((asked.method.as_str(), asked.query.as_str()), ("POST", ""));
            answer(asked)
        })
        .await
    }

    /// `answer` is called for each request, in the order in which they come in.
    pub async fn start_any(answer: impl Fn(&Asked) -> HttpReply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Log::default()));
        let (answer, written): (Arc<Answering>, _) = (Arc::new(answer), log.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), written.clone());
                let service =
                    service_fn(move |request| serve(request, answer.clone(), log.clone()));
                // Whoever drops a connection knows; the client's end is what is tested.
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { url, log, accepting }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().asked.clone()
    }

    /// All whole answers so far.
    pub fn answered(&self) -> Vec<Value> {
        self.log.lock().unwrap().answered.clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    request: Request<Incoming>,
    answer: Arc<Answering>,
    log: Arc<Mutex<Log>>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
    };
    log.lock().unwrap().asked.push(asked.clone());
    match answer(&asked) {
        HttpReply::Json(status, body) => {
            let response = response(status, &[], body.to_string());
            log.lock().unwrap().answered.push(body);
            Ok(response)
        }
        HttpReply::Raw(status, headers, body) => Ok(response(status, &headers, body)),
        HttpReply::Hang => std::future::pending().await,
        HttpReply::Drop => Err(std::io::Error::other("dropped")),
        HttpReply::Break(begun) => {
            let begun = stream::iter([Ok(Frame::data(begun.into()))]);
            let broken = stream::once(async {
                // What has begun is sent when there is nothing more to send at once.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken"))
            });
            let body = StreamBody::new(begun.chain(broken));
            Ok(Response::new(BodyExt::boxed(body)))
        }
    }
}

fn response(status: u16, headers: &[(&'static str, String)], body: String) -> Response<Body> {
    let never = |never: Infallible| match never {};
    let mut response = Response::new(Full::new(body.into()).map_err(never).boxed());
    *response.status_mut() = status.try_into().unwrap();
    let json = ("content-type", "application/json".to_owned());
    for (name, value) in [&json].into_iter().chain(headers) {
        let value = HeaderValue::from_str(value).unwrap();
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}
