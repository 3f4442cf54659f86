//! A client of plain HTTP that hides nothing.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer that is none of an error.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The `error` of a body: message, parameter, code.
    #[track_caller]
    pub fn error(&self) -> (String, Option<String>, String) {
        let error = &self.json()["error"];
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        assert!(text("type").is_some() && error.as_object().unwrap().len() == 4, "{error}");
        (text("message").expect("a message"), text("param"), text("code").expect("a code"))
    }

    /// The objects of a stream, without its end.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(self.headers["content-type"], "text/event-stream");
        let mut events: Vec<&str> =
            self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(events.pop(), Some("[DONE]"), "{}", self.text);
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

/// A response whose body comes as it is read. Dropping it closes the connection.
pub struct Coming {
    response: Response<Incoming>,
    _connection: Connection,
}

struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Coming {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The next bytes of the body.
    pub async fn frame(&mut self) -> Option<String> {
        let frame = self.response.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap_or_default().to_vec()).unwrap())
    }

    pub async fn whole(mut self) -> Reply {
        let mut text = String::new();
        while let Some(frame) = self.frame().await {
            text.push_str(&frame);
        }
        let (status, headers) = (self.status(), self.response.headers().clone());
        Reply { status, headers, text }
    }
}

/// Sends a request on a connection of its own, which closes when the future is dropped; a body of
/// nothing is a `GET`.
pub async fn send(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<String>,
) -> Coming {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    // Whatever becomes of the connection shows in the response.
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder().method(method).uri(path).header("host", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    Coming { response, _connection: connection }
}
