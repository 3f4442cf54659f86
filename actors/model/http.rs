//! The only door to HTTP: one JSON request, one JSON answer, and everything else a
//! [`ModelError`].
//!
//! Nothing is tried again here, and no redirect is followed, so that a key goes only where it was
//! configured to go. Proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`,
//! `ALL_PROXY`, `NO_PROXY`), and trusted certificates those of the machine (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` say otherwise). The protocol is HTTP/1.1: hundreds of long calls over one HTTP/2
//! connection would wait for its limit of streams, which the gateway cannot see.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::http_fault::{Words, kind_of, one_line, retry_after};
use super::settings::EndpointSettings;
use super::{ModelError, ModelErrorKind};

/// Of one answer: a long answer with its tokens and log-probabilities is a few MiB, and an endpoint
/// that never stops must not fill the node's memory.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// No endpoint is so far away that a connection takes longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// For how long a connection without a call is kept. Uvicorn, under vLLM and SGLang, closes it
/// after 5 seconds; a call that is just being sent then would be lost.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Finds connections whose other end is gone without a word, while an answer is awaited.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How a key is shown to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// A header of its own.
    Header(&'static str),
}

/// An endpoint behind HTTP.
pub(super) struct Http {
    client: Client,
    /// Its name in the configuration.
    name: String,
    base: Url,
    headers: HeaderMap,
    /// What must not be shown, should the endpoint say it back.
    secrets: Vec<String>,
    try_timeout: Duration,
}

/// What is asked of an address.
#[derive(Clone)]
pub(super) struct Route {
    method: Method,
    url: Url,
}

/// A status of another kind than 2xx, where there is an answer at all, and what it means.
pub(super) type Refusal = (Option<u16>, ModelError);

impl Http {
    /// # Errors
    /// `Rejected` where no call could ever be made: what is wrong with the URL or the key.
    pub fn new(
        settings: &EndpointSettings,
        credential: Credential,
        fixed_headers: &[(&'static str, &'static str)],
    ) -> Result<Self, ModelError> {
        let name = settings.name.clone();
        let unusable = |what: String| {
            ModelError::new(ModelErrorKind::Rejected, format!("endpoint {name:?}: {what}"))
        };
        let base = Url::parse(&settings.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                let found = one_line(&settings.url);
                unusable(format!("url: expected http:// or https:// and a host, found {found:?}"))
            })?;
        let mut headers = HeaderMap::new();
        for (name, value) in fixed_headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let key = settings.api_key.as_ref().map_or("", |key| key.reveal().trim());
        if !key.is_empty() {
            let (header, value) = match credential {
                Credential::Bearer => ("authorization", format!("Bearer {key}")),
                Credential::Header(header) => (header, key.to_owned()),
            };
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                unusable("api_key: expected one line of ASCII, found other characters".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(header), value);
        }
        let client = client().map_err(|error| unusable(chain(&*error)))?;
        let passwords = base.password().map(str::to_owned);
        let secrets = [Some(key.to_owned()), passwords].into_iter().flatten();
        let secrets = secrets.filter(|secret| !secret.is_empty()).collect();
        let try_timeout = settings.try_timeout;
        Ok(Self { client, name: settings.name.clone(), base, headers, secrets, try_timeout })
    }

    /// Below the configured URL.
    pub fn route(&self, path: &str) -> Route {
        Route::post(below(&self.base, path))
    }

    /// Below the configured URL with `v1` at its end, whether it is configured with it or not.
    pub fn versioned_route(&self, path: &str) -> Route {
        let has_version = last_segment(&self.base) == "v1";
        Route::post(below(
            &self.base,
            &if has_version { path.to_owned() } else { format!("v1/{path}") },
        ))
    }

    /// Below the configured URL without the `v1` at its end.
    pub fn root_route(&self, path: &str) -> Route {
        let mut base = self.base.clone();
        if last_segment(&base) == "v1"
            && let Ok(mut segments) = base.path_segments_mut()
        {
            segments.pop_if_empty().pop();
        }
        Route::post(below(&base, path))
    }

    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// When a try that begins now has taken too long.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.try_timeout
    }

    /// One request and its whole answer.
    ///
    /// # Errors
    /// Whatever is not a 2xx answer in the shape of `A` by `deadline`.
    pub async fn post<A: DeserializeOwned>(
        &self,
        route: &Route,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<A, ModelError> {
        let exchange = async {
            let response = self.send(route, body).await?;
            self.read(route, response).await
        };
        let late = |_| Err(self.late(route));
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or_else(late)
    }

    /// One request to a route that says in JSON what it has done, or in words, or nothing, which is
    /// null.
    ///
    /// # Errors
    /// Whatever is not a 2xx answer by `deadline`.
    pub async fn order(
        &self,
        route: &Route,
        body: &Value,
        deadline: Instant,
    ) -> Result<Value, Refusal> {
        let exchange = async {
            let mut response = self.send(route, body).await.map_err(|error| (None, error))?;
            let body = self.whole(route, &mut response).await.map_err(|error| (None, error))?;
            let status = response.status();
            if !status.is_success() {
                return Err((Some(status.as_u16()), self.refused(route, &response, &body)));
            }
            let words = || Words::read(&body, |text| self.redact(text)).said;
            Ok(match serde_json::from_slice(&body) {
                Ok(said) => said,
                Err(_) if body.is_empty() => Value::Null,
                Err(_) => Value::String(words()),
            })
        };
        let late = |_| Err((None, self.late(route)));
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or_else(late)
    }

    /// An answer that is JSON, and not what the protocol says.
    pub fn malformed(&self, route: &Route, what: impl AsRef<str>) -> ModelError {
        self.error(ModelErrorKind::Malformed, route, what)
    }

    /// An error that names the endpoint and the address, and shows no secret.
    pub fn error(&self, kind: ModelErrorKind, route: &Route, what: impl AsRef<str>) -> ModelError {
        let what = one_line(&self.redact(what.as_ref()));
        let (method, address) = (&route.method, self.redact(&shown(&route.url)));
        ModelError::new(kind, format!("endpoint {:?}: {method} {address}: {what}", self.name))
    }

    fn late(&self, route: &Route) -> ModelError {
        let limit = self.try_timeout.as_secs_f64();
        self.error(ModelErrorKind::TimedOut, route, format!("no answer in {limit} s"))
    }

    async fn send(&self, route: &Route, body: &impl Serialize) -> Result<Response, ModelError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            self.error(ModelErrorKind::Rejected, route, format!("cannot be written: {error}"))
        })?;
        let request = self.client.request(route.method.clone(), route.url.clone());
        let mut request = request.headers(self.headers.clone());
        if route.method == Method::POST {
            request = request.header("content-type", "application/json").body(body);
        }
        request.send().await.map_err(|error| self.broken(route, error))
    }

    async fn read<A: DeserializeOwned>(
        &self,
        route: &Route,
        mut response: Response,
    ) -> Result<A, ModelError> {
        let body = self.whole(route, &mut response).await?;
        if !response.status().is_success() {
            return Err(self.refused(route, &response, &body));
        }
        self.parse(route, &body)
    }

    async fn whole(&self, route: &Route, response: &mut Response) -> Result<Vec<u8>, ModelError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(route, error))? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                let what = format!("an answer of more than {} MiB", ANSWER_BYTES_MAX >> 20);
                return Err(self.malformed(route, what));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn parse<A: DeserializeOwned>(&self, route: &Route, body: &[u8]) -> Result<A, ModelError> {
        serde_json::from_slice(body).map_err(|error| {
            let words = Words::read(body, |text| self.redact(text));
            match words.status {
                // A proxy's way to say that the endpoint behind it refused.
                Some(status) => {
                    let what = format!("{status} within an answer of 200: {}", words.said);
                    self.error(kind_of(status, &words), route, what)
                }
                None => self.malformed(route, format!("{error} in {:?}", words.said)),
            }
        })
    }

    fn refused(&self, route: &Route, response: &Response, body: &[u8]) -> ModelError {
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let status = response.status();
        let words = Words::read(body, |text| self.redact(text));
        let what = match (words.said.as_str(), header("location")) {
            ("", Some(to)) => format!("{status}: moved to {to}"),
            ("", None) => status.to_string(),
            (said, _) => format!("{status}: {said}"),
        };
        ModelError {
            retry_after: retry_after(
                header("retry-after-ms"),
                header("retry-after"),
                SystemTime::now(),
            ),
            ..self.error(kind_of(status.as_u16(), &words), route, what)
        }
    }

    /// No connection, or one that broke.
    fn broken(&self, route: &Route, error: reqwest::Error) -> ModelError {
        let kind =
            if error.is_builder() { ModelErrorKind::Rejected } else { ModelErrorKind::Unreachable };
        self.error(kind, route, chain(&error.without_url()))
    }

    fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Route {
    fn post(url: Url) -> Self {
        Self { method: Method::POST, url }
    }

    /// The same address, asked without a body.
    pub fn get(self) -> Self {
        Self { method: Method::GET, ..self }
    }

    /// With these pairs in its query.
    pub fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        if !pairs.is_empty() {
            self.url.query_pairs_mut().extend_pairs(pairs);
        }
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))
    }
}

fn client() -> Result<Client, Box<dyn Error + Send + Sync>> {
    let builder = Client::builder()
        .tls_backend_preconfigured(tls()?)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_MAX)
        .tcp_keepalive(KEEPALIVE)
        .user_agent(concat!("orcapack/", env!("CARGO_PKG_VERSION")));
    Ok(builder.build()?)
}

/// A machine without certificates reaches endpoints over plain HTTP only; the error of a call says
/// so.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    url
}

fn last_segment(url: &Url) -> &str {
    let mut segments = url.path_segments().into_iter().flatten().rev();
    segments.find(|segment| !segment.is_empty()).unwrap_or_default()
}

/// Without what may be secret in it: user, password and query.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// An error and its causes, outermost first.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::{EndpointKind, Sampling, Secret};

    fn settings(url: &str) -> EndpointSettings {
        EndpointSettings {
            name: "main".into(),
            kind: EndpointKind::OpenAi,
            model: "m".into(),
            url: url.into(),
            api_key: Some(Secret::new("sk-1\n")),
            sampling: Sampling::default(),
            extra: Default::default(),
            try_timeout: Duration::from_secs(1),
            tries_max: 1,
            in_flight_max: 1,
            price: None,
            run: None,
            policy: None,
            mistakes: Default::default(),
        }
    }

    fn http(url: &str) -> Http {
        Http::new(&settings(url), Credential::Bearer, &[]).unwrap()
    }

    #[test]
    fn addresses_stand_below_the_configured_url() {
        for (url, plain, versioned, root) in [
            ("http://h:1/v1", "http://h:1/v1/a/b", "http://h:1/v1/a/b", "http://h:1/a/b"),
            ("http://h:1/v1/", "http://h:1/v1/a/b", "http://h:1/v1/a/b", "http://h:1/a/b"),
            ("http://h", "http://h/a/b", "http://h/v1/a/b", "http://h/a/b"),
            ("https://h/x", "https://h/x/a/b", "https://h/x/v1/a/b", "https://h/x/a/b"),
            ("https://h/x/v1?k=s", "https://h/x/v1/a/b", "https://h/x/v1/a/b", "https://h/x/a/b"),
        ] {
            let http = http(url);
            assert_eq!(shown(&http.route("a/b").url), plain);
            assert_eq!(shown(&http.versioned_route("a/b").url), versioned);
            assert_eq!(shown(&http.root_route("a/b").url), root);
        }
    }

    #[test]
    fn what_can_never_be_called_is_refused_at_once() {
        for url in ["", "api.openai.com/v1", "ftp://h/v1", "http://"] {
            let error = Http::new(&settings(url), Credential::Bearer, &[]).unwrap_err();
            assert_eq!(error.kind, ModelErrorKind::Rejected);
            assert!(error.message.contains("expected http://"), "{error}");
        }
        let mut bad_key = settings("http://h");
        bad_key.api_key = Some(Secret::new("sk\u{0}secret"));
        let error = Http::new(&bad_key, Credential::Bearer, &[]).unwrap_err();
        assert!(error.message.contains("api_key") && !error.message.contains("secret"), "{error}");
    }

    #[test]
    fn no_error_shows_a_secret() {
        let http = http("http://user:hidden@h/v1?token=t");
        let route = http.route("chat");
        let error = http.malformed(&route, "you sent sk-1, user:hidden");
        assert_eq!(
            error.message,
            "endpoint \"main\": POST http://h/v1/chat: you sent ***, user:***"
        );
        let debug = format!("{http:?} {route:?}");
        assert!(
            ["sk-1", "hidden", "token"].iter().all(|secret| !debug.contains(secret)),
            "{debug}"
        );
    }
}
