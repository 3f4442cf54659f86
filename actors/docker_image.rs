//! Images of the Docker engine: built or found once per content, each with the guest agent in it.
//!
//! An image is made in two steps: the task's own build, in a context that holds nothing of ours,
//! and a layer with the guest agent on top of it. A prebuilt image needs only the second. The
//! result is tagged with the digest of everything that went in: context, base images and agent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{BuildInfo, ImageInspect};
use bollard::query_parameters as query;
use dashmap::DashMap;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::ImageSource;
use orcapack_tasks::{Digest, FileTree};
use tokio::time::{Instant, timeout_at};

use crate::docker_container::GUEST_PATH;
use crate::docker_context::{Ignore, archive, base_images};
use crate::docker_engine::{About, CALL_LIMIT, Engine, classify, found, removed, within};
use crate::guest::GUEST_AGENT;
use crate::sandbox::{Image, ImageSpec, SandboxError};

/// On every image of ours, with the value 1.
const LABEL: &str = "orcapack.image";
const REPOSITORY: &str = "orcapack/env";
/// Changed when the way in which images are made changes.
const RECIPE: &[u8] = b"orcapack image 1";
/// Of a builder's output, kept for the message of a failure.
const LOG_BYTES_MAX: usize = 2_000;

type Flight = BoxFuture<'static, Result<Image, SandboxError>>;

/// Makes images; calls for one source that overlap are one flight, which is cancelled when its last
/// caller gives up.
pub(crate) struct Images {
    engine: Arc<Engine>,
    flights: DashMap<Digest, Option<WeakShared<Flight>>>,
}

/// An image that was built here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    pub id: String,
    /// `None`: left by a build that did not come to its end.
    pub tag: Option<String>,
    /// With the layers that it shares with others.
    pub size_bytes: u64,
    pub created_unix_sec: i64,
}

#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Images {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, flights: DashMap::new() }
    }

    pub(crate) async fn get(&self, spec: &ImageSpec) -> Result<Image, SandboxError> {
        let source = match &spec.source {
            ImageSource::Dockerfile(files) => files.digest(),
            ImageSource::Prebuilt(reference) => Digest::of(reference.as_bytes()),
        };
        let image = self.flight(source, spec).await;
        self.flights.remove_if(&source, |_, flight| under_way(flight).is_none());
        image
    }

    /// The flight under way for this source, or a new one.
    fn flight(&self, source: Digest, spec: &ImageSpec) -> Shared<Flight> {
        let mut slot = self.flights.entry(source).or_default();
        if let Some(flight) = under_way(&slot) {
            return flight;
        }
        let flight = make(self.engine.clone(), source, spec.clone()).boxed().shared();
        *slot = flight.downgrade();
        flight
    }

    /// Every image that was built here, by whichever run.
    pub(crate) async fn list(&self) -> Result<Vec<BuiltImage>, SandboxError> {
        let docker = self.engine.docker().await?;
        let labelled = HashMap::from([("label".to_owned(), vec![format!("{LABEL}=1")])]);
        let options = query::ListImagesOptions { filters: Some(labelled), ..Default::default() };
        let call = docker.list_images(Some(options));
        let images = within(CALL_LIMIT, About::Engine, "listing images", call).await?;
        // A label is inherited: what others built on an image of ours bears a name of theirs.
        let ours = images.into_iter().filter_map(|image| {
            let tag = image.repo_tags.iter().find(|tag| *tag != "<none>:<none>").cloned();
            let is_ours = tag.as_ref().is_none_or(|tag| tag.split(':').next() == Some(REPOSITORY));
            is_ours.then(|| BuiltImage {
                id: image.id,
                tag,
                size_bytes: u64::try_from(image.size).unwrap_or(0),
                created_unix_sec: image.created,
            })
        });
        Ok(ours.collect())
    }

    /// Removes one of the list; `false`: a container uses it.
    pub(crate) async fn remove(&self, image: &BuiltImage) -> Result<bool, SandboxError> {
        let docker = self.engine.docker().await?;
        let name = image.tag.as_ref().unwrap_or(&image.id);
        let no_options = None::<query::RemoveImageOptions>;
        let call = async { removed(docker.remove_image(name, no_options, None).await) };
        within(CALL_LIMIT, About::Engine, &format!("removing image {name}"), call).await
    }
}

fn under_way(slot: &Option<WeakShared<Flight>>) -> Option<Shared<Flight>> {
    slot.as_ref().and_then(WeakShared::upgrade)
}

async fn make(engine: Arc<Engine>, source: Digest, spec: ImageSpec) -> Result<Image, SandboxError> {
    let deadline = Deadline { at: Instant::now() + spec.build_timeout, limit: spec.build_timeout };
    let (bases, ignore) = match &spec.source {
        ImageSource::Prebuilt(reference) => (vec![reference.clone()], Ignore::default()),
        ImageSource::Dockerfile(files) => {
            let dockerfile = text(files, "Dockerfile")?
                .ok_or_else(|| image_error("the build context has no Dockerfile"))?;
            let rules = text(files, ".dockerignore")?.unwrap_or_default();
            (base_images(&dockerfile), Ignore::parse(&rules).map_err(image_error)?)
        }
    };
    let mut inputs = [RECIPE, &source.0, &Digest::of(GUEST_AGENT).0].concat();
    for base in &bases {
        inputs.extend_from_slice(local_or_pulled(&engine, base, deadline).await?.as_bytes());
    }
    let digest = Digest::of(&inputs);
    let tag = format!("{REPOSITORY}:{}", digest.to_string().trim_start_matches("sha256:"));

    if let Some(inspected) = inspect(&engine, &tag).await? {
        return Ok(image(tag, digest, inspected));
    }
    let built_on = match spec.source {
        ImageSource::Prebuilt(reference) => reference,
        ImageSource::Dockerfile(files) => build(&engine, files, ignore, None, deadline).await?,
    };
    let agent = agent_context(&built_on);
    build(&engine, agent, Ignore::default(), Some(&tag), deadline).await?;
    let inspected = inspect(&engine, &tag).await?;
    let inspected = inspected.ok_or_else(|| image_error(format!("{tag} was removed at once")))?;
    Ok(image(tag, digest, inspected))
}

fn image_error(message: impl Into<String>) -> SandboxError {
    SandboxError::new(FailureClass::Image, message)
}

/// A text file at the root of a build context.
fn text(files: &FileTree, name: &str) -> Result<Option<String>, SandboxError> {
    let Some(entry) = files.get(name) else { return Ok(None) };
    let bytes = entry.read().map_err(|error| image_error(format!("{name}: {error}")))?;
    let text = String::from_utf8(bytes.to_vec());
    text.map(Some).map_err(|_| image_error(format!("{name}: expected UTF-8 text")))
}

/// The context of the second step. `COPY` runs as root whatever the image's `USER`.
fn agent_context(built_on: &str) -> FileTree {
    let dockerfile = format!("FROM {built_on}\nCOPY --chown=0:0 guest {GUEST_PATH}\n");
    let mut files = FileTree::default();
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    files.insert("guest", GUEST_AGENT, true);
    files
}

fn image(tag: String, digest: Digest, inspected: ImageInspect) -> Image {
    let config = inspected.config.unwrap_or_default();
    let env = config.env.unwrap_or_default();
    let env = env.iter().filter_map(|pair| pair.split_once('='));
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Image {
        reference: tag,
        digest,
        workdir: given(config.working_dir).unwrap_or_else(|| "/".to_owned()),
        user: given(config.user),
        env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>(),
    }
}

async fn inspect(engine: &Engine, reference: &str) -> Result<Option<ImageInspect>, SandboxError> {
    let docker = engine.docker().await?;
    let call = async { found(docker.inspect_image(reference).await) };
    within(CALL_LIMIT, About::Image, &format!("inspecting image {reference}"), call).await
}

/// The id of a base image, pulled when the engine does not have it. One try: whoever asked may ask
/// again.
async fn local_or_pulled(
    engine: &Engine,
    reference: &str,
    deadline: Deadline,
) -> Result<String, SandboxError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if reference.is_empty() || !reference.chars().all(fits) {
        return Err(image_error(format!("{reference:?} is not an image reference")));
    }
    if let Some(id) = inspect(engine, reference).await?.and_then(|image| image.id) {
        return Ok(id);
    }
    let said = match pull(engine, reference, deadline).await {
        Ok(()) => match inspect(engine, reference).await?.and_then(|image| image.id) {
            Some(id) => return Ok(id),
            None => "the engine does not have it after the pull".to_owned(),
        },
        Err(error) if error.class == FailureClass::Image => error.message,
        Err(error) => return Err(error),
    };
    let hint = match reference.starts_with("orcapack/base:") {
        true => "; make it with tasks/base/build.sh",
        false => "",
    };
    let message =
        format!("base image {reference} is neither local nor could be pulled{hint}: {said}");
    Err(image_error(message))
}

async fn pull(engine: &Engine, reference: &str, deadline: Deadline) -> Result<(), SandboxError> {
    let docker = engine.docker().await?;
    // Without a tag, the engine would pull every tag that there is.
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let tag = if name.contains([':', '@']) { "" } else { ":latest" };
    let options = query::CreateImageOptions {
        from_image: Some(format!("{reference}{tag}")),
        ..Default::default()
    };
    let mut progress = docker.create_image(Some(options), None, None);
    let doing = format!("pulling {reference}");
    loop {
        match timeout_at(deadline.at, progress.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(classify(About::Build, &doing, &error)),
            Err(_) => {
                let seconds = deadline.limit.as_secs();
                return Err(image_error(format!("{doing}: not done after {seconds} s")));
            }
        }
    }
}

/// Runs the engine's classic builder over `files`; the id of the image. Dropped midway, or at the
/// deadline, the connection closes and the engine ends the build with its step's container.
async fn build(
    engine: &Engine,
    files: FileTree,
    ignore: Ignore,
    tag: Option<&str>,
    deadline: Deadline,
) -> Result<String, SandboxError> {
    let context = tokio::task::spawn_blocking(move || archive(&files, &ignore)).await;
    let context = context
        .map_err(|error| SandboxError::new(FailureClass::Internal, error.to_string()))?
        .map_err(|error| image_error(format!("reading the build context: {error}")))?;
    let docker = engine.docker().await?;
    let options = query::BuildImageOptions {
        dockerfile: "Dockerfile".to_owned(),
        t: tag.map(str::to_owned),
        rm: true,
        forcerm: true,
        labels: Some(HashMap::from([(LABEL.to_owned(), "1".to_owned())])),
        ..Default::default()
    };
    let mut output = docker.build_image(options, None, Some(bollard::body_full(context.into())));
    let mut log = BuildLog::default();
    loop {
        match timeout_at(deadline.at, output.next()).await {
            Ok(Some(Ok(info))) => log.add(info),
            Ok(Some(Err(error))) => {
                let error = classify(About::Build, "building the image", &error);
                return Err(SandboxError { message: log.explain(error.message), ..error });
            }
            Ok(None) => break,
            Err(_) => {
                let seconds = deadline.limit.as_secs();
                let message = format!("building the image: not done after {seconds} s");
                return Err(image_error(log.explain(message)));
            }
        }
    }
    log.id.take().ok_or_else(|| {
        image_error(log.explain("building the image: the builder named no image".to_owned()))
    })
}

/// What a builder has said: its current step, the end of its output, and the image that it made.
#[derive(Default)]
struct BuildLog {
    step: Option<String>,
    tail: String,
    id: Option<String>,
}

impl BuildLog {
    fn add(&mut self, info: BuildInfo) {
        if let Some(id) = info.aux.and_then(|aux| aux.id) {
            self.id = Some(id);
        }
        let said = info.stream.unwrap_or_default();
        if said.starts_with("Step ") {
            self.step = Some(said.trim().to_owned());
        }
        self.tail.push_str(&said);
        let surplus = self.tail.len().saturating_sub(LOG_BYTES_MAX);
        let cut = (surplus..=self.tail.len()).find(|at| self.tail.is_char_boundary(*at));
        self.tail.drain(..cut.unwrap_or(0));
    }

    fn explain(&self, mut message: String) -> String {
        if let Some(step) = &self.step {
            message = format!("{message}; at {step}; the builder's last lines:\n{}", self.tail);
        }
        message.truncate(message.trim_end().len());
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_step_and_a_bounded_end_of_the_builders_output() {
        let mut log = BuildLog::default();
        let say = |text: &str| BuildInfo { stream: Some(text.to_owned()), ..Default::default() };
        log.add(say("Step 1/2 : FROM a\n"));
        log.add(say("Step 2/2 : RUN make\n"));
        for _ in 0..LOG_BYTES_MAX {
            log.add(say("ü: no\n"));
        }
        let message = log.explain("building the image: it failed".to_owned());
        let start =
            "building the image: it failed; at Step 2/2 : RUN make; the builder's last lines:";
        assert!(message.starts_with(start), "{message}");
        assert!(message.ends_with("\nü: no"), "{message}");
        assert!(message.len() <= start.len() + 1 + LOG_BYTES_MAX);
    }
}
