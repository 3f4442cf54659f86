//! The Docker engine's API as this crate uses it: every call has a time limit, and every failure of
//! the engine is classified here, in [`classify`].
//!
//! The engine need not be up when an [`Engine`] is made: it is connected, and the API version
//! negotiated, at the first call. Container ids and names are interchangeable, as they are for the
//! engine.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerState, ContainerStateStatusEnum, SystemInfo};
use bollard::query_parameters as query;
use futures_util::Stream;
use orcapack_tasks::outcome::FailureClass;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use crate::sandbox::SandboxError;

/// Of a ping, and of the first connection with its version negotiation.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// Of every call that asks or starts something; a loaded engine takes 10 s for a create.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Of killing and removing one container, until it is gone.
pub(crate) const REMOVE_LIMIT: Duration = Duration::from_secs(30);
/// How long the engine may take to notice the end of a container whose connection has closed.
const EXIT_NOTICE_LIMIT: Duration = Duration::from_secs(10);
/// The engine client's own limit, out of the way of the limits given here and of an image's build
/// time.
const CLIENT_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) struct Engine {
    /// `unix:///path` or `tcp://host:port`.
    host: String,
    docker: OnceCell<Docker>,
}

/// What a call is about: it decides what the engine's refusal means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Engine,
    /// What the engine refuses is the image's fault.
    Image,
    /// A build or a pull: also what the engine fails at is the image's fault.
    Build,
    Container,
}

/// A container, network or volume with our labels.
pub(crate) struct Labelled {
    /// The id, or the name of a volume.
    pub(crate) id: String,
    pub(crate) labels: HashMap<String, String>,
}

impl Engine {
    /// Does not connect.
    pub(crate) fn at(host: &str) -> Self {
        Self { host: host.to_owned(), docker: OnceCell::new() }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The connected client.
    pub(crate) async fn docker(&self) -> Result<&Docker, SandboxError> {
        let connect = async {
            let docker = Docker::connect_with_host(&self.host)?;
            docker.with_timeout(CLIENT_LIMIT).negotiate_version().await
        };
        let doing = format!("connecting to the Docker engine at {}", self.host);
        self.docker.get_or_try_init(|| within(PING_LIMIT, About::Engine, &doing, connect)).await
    }

    pub(crate) async fn ping(&self) -> Result<(), SandboxError> {
        let docker = self.docker().await?;
        within(PING_LIMIT, About::Engine, "asking whether the engine is up", docker.ping()).await?;
        Ok(())
    }

    pub(crate) async fn info(&self) -> Result<SystemInfo, SandboxError> {
        let docker = self.docker().await?;
        within(CALL_LIMIT, About::Engine, "asking for the engine's facts", docker.info()).await
    }

    /// Creates a container without starting it; its id.
    pub(crate) async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<String, SandboxError> {
        let docker = self.docker().await?;
        let options =
            query::CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let call = docker.create_container(Some(options), body);
        let doing = format!("creating container {name}");
        Ok(within(CALL_LIMIT, About::Container, &doing, call).await?.id)
    }

    /// The standard streams of a container; attached before its start, nothing of them is missed.
    pub(crate) async fn attach(
        &self,
        id: &str,
    ) -> Result<(Attached, Pin<Box<dyn AsyncWrite + Send>>), SandboxError> {
        let docker = self.docker().await?;
        let options = query::AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .build();
        let call = docker.attach_container(id, Some(options));
        let doing = format!("attaching to container {id}");
        let streams = within(CALL_LIMIT, About::Container, &doing, call).await?;
        Ok((Attached { frames: streams.output, frame: Cursor::default() }, streams.input))
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), SandboxError> {
        let docker = self.docker().await?;
        let call = docker.start_container(id, None);
        within(CALL_LIMIT, About::Container, &format!("starting container {id}"), call).await
    }

    /// `None`: there is no such container any more.
    async fn state(&self, id: &str) -> Result<Option<ContainerState>, SandboxError> {
        let docker = self.docker().await?;
        let call = async { found(docker.inspect_container(id, None).await) };
        let doing = format!("inspecting container {id}");
        let inspected = within(CALL_LIMIT, About::Container, &doing, call).await?;
        Ok(inspected.map(|container| container.state.unwrap_or_default()))
    }

    /// Why a container whose connection has closed came to its end.
    pub(crate) async fn cause_of_death(&self, id: &str) -> SandboxError {
        let lost = |message| SandboxError::new(FailureClass::ExecTransport, message);
        let mut pauses = Pauses::within(EXIT_NOTICE_LIMIT);
        loop {
            match self.state(id).await {
                Err(error) => return error,
                Ok(None) => return lost(format!("container {id} was removed from outside")),
                Ok(Some(state)) if !is_up(&state) => {
                    let code = state.exit_code.unwrap_or_default();
                    // The engine's flag says that some process in it was, not that this was the end
                    // of it.
                    let (class, how) = match state.oom_killed {
                        Some(true) => {
                            (FailureClass::Oom, "after the kernel had killed for memory in it")
                        }
                        _ => (FailureClass::ExecTransport, "from outside"),
                    };
                    let message = format!("container {id} was killed {how} (exit {code})");
                    return SandboxError::new(class, message);
                }
                Ok(Some(_)) => {}
            }
            if !pauses.pause().await {
                return lost(format!("the connection to container {id} broke while it ran"));
            }
        }
    }

    /// Kills and removes a container with its anonymous volumes; waits until it is gone. Gone
    /// already is a success.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), SandboxError> {
        let docker = self.docker().await?;
        let mut pauses = Pauses::within(REMOVE_LIMIT);
        let doing = format!("removing container {id}");
        loop {
            let options = query::RemoveContainerOptions { v: true, force: true, link: false };
            let call = async { removed(docker.remove_container(id, Some(options)).await) };
            if within(REMOVE_LIMIT, About::Container, &doing, call).await? {
                return Ok(());
            }
            // Someone else is removing it: the engine itself, after its end, or a sweep.
            while self.state(id).await?.is_some_and(|state| is_being_removed(&state)) {
                if !pauses.pause().await {
                    let message = format!("{doing}: not gone after {} s", REMOVE_LIMIT.as_secs());
                    return Err(SandboxError::new(FailureClass::Daemon, message));
                }
            }
            if !pauses.pause().await {
                let message = format!("{doing}: refused for {} s", REMOVE_LIMIT.as_secs());
                return Err(SandboxError::new(FailureClass::Daemon, message));
            }
        }
    }

    /// Containers of any state with all of `labels`, each `NAME` or `NAME=VALUE`.
    pub(crate) async fn containers(
        &self,
        labels: &[String],
    ) -> Result<Vec<Labelled>, SandboxError> {
        let docker = self.docker().await?;
        let options = query::ListContainersOptions {
            all: true,
            filters: Some(label_filter(labels)),
            ..Default::default()
        };
        let call = docker.list_containers(Some(options));
        let found = within(CALL_LIMIT, About::Engine, "listing containers", call).await?;
        // What has no name is gone: a trace that stays in the engine's list where a container was
        // removed during its start (seen with 20.10).
        let real = found.into_iter().filter(|it| it.names.as_ref().is_some_and(|n| !n.is_empty()));
        let labelled = real.filter_map(|container| {
            Some(Labelled { id: container.id?, labels: container.labels.unwrap_or_default() })
        });
        Ok(labelled.collect())
    }

    pub(crate) async fn networks(&self, labels: &[String]) -> Result<Vec<Labelled>, SandboxError> {
        let docker = self.docker().await?;
        let options = query::ListNetworksOptions { filters: Some(label_filter(labels)) };
        let call = docker.list_networks(Some(options));
        let found = within(CALL_LIMIT, About::Engine, "listing networks", call).await?;
        let labelled = found.into_iter().filter_map(|network| {
            Some(Labelled { id: network.id?, labels: network.labels.unwrap_or_default() })
        });
        Ok(labelled.collect())
    }

    pub(crate) async fn volumes(&self, labels: &[String]) -> Result<Vec<Labelled>, SandboxError> {
        let docker = self.docker().await?;
        let options = query::ListVolumesOptions { filters: Some(label_filter(labels)) };
        let call = docker.list_volumes(Some(options));
        let found = within(CALL_LIMIT, About::Engine, "listing volumes", call).await?;
        let volumes = found.volumes.unwrap_or_default().into_iter();
        Ok(volumes.map(|volume| Labelled { id: volume.name, labels: volume.labels }).collect())
    }

    pub(crate) async fn remove_network(&self, id: &str) -> Result<(), SandboxError> {
        let docker = self.docker().await?;
        let call = async { found(docker.remove_network(id).await) };
        within(CALL_LIMIT, About::Engine, &format!("removing network {id}"), call).await?;
        Ok(())
    }

    pub(crate) async fn remove_volume(&self, name: &str) -> Result<(), SandboxError> {
        let docker = self.docker().await?;
        let options = query::RemoveVolumeOptions { force: true };
        let call = async { found(docker.remove_volume(name, Some(options)).await) };
        within(CALL_LIMIT, About::Engine, &format!("removing volume {name}"), call).await?;
        Ok(())
    }
}

fn label_filter(labels: &[String]) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.to_vec())])
}

fn is_up(state: &ContainerState) -> bool {
    use ContainerStateStatusEnum as Status;
    matches!(state.status, Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING))
}

fn is_being_removed(state: &ContainerState) -> bool {
    use ContainerStateStatusEnum as Status;
    matches!(state.status, Some(Status::REMOVING | Status::DEAD))
}

/// "Not found" as a value.
pub(crate) fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the thing is gone after a removal; `false` where the engine says that it is in use or
/// busy with it.
pub(crate) fn removed<T>(answer: Result<T, Error>) -> Result<bool, Error> {
    match found(answer) {
        Ok(_) => Ok(true),
        Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs a call of the engine with a time limit.
pub(crate) async fn within<T>(
    limit: Duration,
    about: About,
    doing: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, SandboxError> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| classify(about, doing, &error)),
        Err(_) => {
            let message = format!("{doing}: no answer from the engine in {} s", limit.as_secs());
            Err(SandboxError::new(FailureClass::Daemon, message))
        }
    }
}

/// The class of a failed call, and a message that says what was done and what the engine answered.
pub(crate) fn classify(about: About, doing: &str, error: &Error) -> SandboxError {
    let class = match (error, about) {
        (Error::DockerResponseServerError { status_code: 404, message }, _)
            if message.contains("No such image") =>
        {
            FailureClass::Image
        }
        (
            Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. },
            About::Build,
        ) => FailureClass::Image,
        (Error::DockerResponseServerError { status_code: 400..500, .. }, About::Image) => {
            FailureClass::Image
        }
        (Error::DockerResponseServerError { status_code: 404, .. }, About::Container) => {
            FailureClass::ExecTransport
        }
        _ => FailureClass::Daemon,
    };
    let said = match error {
        Error::DockerResponseServerError { status_code, message } => {
            format!("{} (status {status_code})", message.trim())
        }
        Error::DockerStreamError { error } => error.trim().to_owned(),
        other => with_causes(other),
    };
    SandboxError::new(class, format!("{doing}: {said}"))
}

/// An error with its causes, which the HTTP client keeps out of its own message.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

/// Pauses between looks at something that takes its time: 5 ms, doubled up to 250 ms, until the
/// limit.
struct Pauses {
    next: Duration,
    end: Instant,
}

impl Pauses {
    fn within(limit: Duration) -> Self {
        Self { next: Duration::from_millis(5), end: Instant::now() + limit }
    }

    /// `false`, without a pause, once the limit has passed.
    async fn pause(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_millis(250));
        true
    }
}

/// Standard output of an attached container as a plain stream of bytes. What it says on standard
/// error is logged.
pub(crate) struct Attached {
    frames: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    frame: Cursor<Vec<u8>>,
}

impl AsyncRead for Attached {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let free = buffer.initialize_unfilled();
            let read = self.frame.read(free)?;
            if read > 0 || free.is_empty() {
                buffer.advance(read);
                return Poll::Ready(Ok(()));
            }
            match ready!(self.frames.as_mut().poll_next(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(std::io::Error::other(error))),
                Some(Ok(LogOutput::StdOut { message })) => self.frame = Cursor::new(message.into()),
                Some(Ok(other)) => {
                    tracing::debug!(said = %other, "guest agent's standard error");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_the_class_of_its_place() {
        let status = |status_code, message: &str| Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let no_image = "No such image: orcapack/env:1";
        for (about, error, class) in [
            (About::Container, status(404, no_image), FailureClass::Image),
            (About::Container, status(404, "No such container: a"), FailureClass::ExecTransport),
            (About::Container, status(409, "name is in use"), FailureClass::Daemon),
            (About::Container, status(500, "runc failed"), FailureClass::Daemon),
            (About::Image, status(400, "invalid reference"), FailureClass::Image),
            (About::Image, status(500, "disk"), FailureClass::Daemon),
            (About::Build, status(500, "lookup registry: no such host"), FailureClass::Image),
            (About::Build, Error::DockerStreamError { error: String::new() }, FailureClass::Image),
            (About::Build, Error::RequestTimeoutError, FailureClass::Daemon),
            (About::Engine, status(404, "page not found"), FailureClass::Daemon),
            (About::Engine, Error::IOError { err: refused }, FailureClass::Daemon),
        ] {
            let classified = classify(about, "doing it", &error);
            assert_eq!(classified.class, class, "{classified}");
            assert!(classified.message.starts_with("doing it: "), "{classified}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up_at_its_limit() {
        let begun = Instant::now();
        let hang = std::future::pending::<Result<(), Error>>();
        let error = within(PING_LIMIT, About::Engine, "asking", hang).await.unwrap_err();
        assert_eq!((error.class, begun.elapsed()), (FailureClass::Daemon, PING_LIMIT));
        assert_eq!(error.message, "asking: no answer from the engine in 5 s");
    }

    #[tokio::test]
    async fn attached_frames_become_one_stream_without_standard_error() {
        use tokio::io::AsyncReadExt as _;
        let stdout = |bytes: &'static [u8]| Ok(LogOutput::StdOut { message: bytes.into() });
        let stderr = Ok(LogOutput::StdErr { message: b"noise"[..].into() });
        let frames = [stdout(b"one "), stderr, stdout(b""), stdout(b"two")];
        let frames = Box::pin(futures_util::stream::iter(frames));
        let mut text = String::new();
        let mut attached = Attached { frames, frame: Cursor::default() };
        attached.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "one two");
    }
}
