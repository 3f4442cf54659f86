//! Images of the `process` driver: root file systems of the store as they are, and Dockerfiles
//! built into one layer over their base, kept in `CACHE/process-images/DIGEST`.
//!
//! A layer is built once on a machine: calls in this process share one flight, processes take turns
//! by a lock file, and a folder gets its name only when it is whole. The digest is that of the
//! build context, the base and the format.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use orcapack_tasks::dockerfile::{Dockerfile, ImageConfig};
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::ImageSource;
use orcapack_tasks::{Digest, FileTree};
use serde::{Deserialize, Serialize};

use crate::process::{Core, blocking};
use crate::process_build;
use crate::process_rootfs::Root;
use crate::sandbox::{Image, ImageSpec, SandboxError, SweepScope};

/// Raised when the same Dockerfile is built into something else than before.
const FORMAT_VERSION: u32 = 1;
/// Before the digest in the reference of an image that was built here.
const BUILT: &str = "built:";
const LOCK_PAUSE: Duration = Duration::from_millis(50);

type Flight = Shared<BoxFuture<'static, Result<Image, SandboxError>>>;

/// The builds that are going on in this process.
#[derive(Default)]
pub(crate) struct Images {
    flights: Mutex<HashMap<Digest, Flight>>,
}

/// A build that is to be done, and where its layer is, or will be.
#[derive(Clone)]
pub(crate) struct Build {
    pub context: FileTree,
    pub dockerfile: Dockerfile,
    /// `None`: the host's root stands in.
    base_reference: Option<String>,
    pub base: Root,
    pub digest: Digest,
    pub timeout: Duration,
    pub folder: PathBuf,
}

/// `image.json` beside a layer.
#[derive(Serialize, Deserialize)]
struct Manifest {
    base: Option<String>,
    workdir: String,
    user: Option<String>,
    env: BTreeMap<String, String>,
}

impl Images {
    pub async fn get(core: &Arc<Core>, spec: &ImageSpec) -> Result<Image, SandboxError> {
        let context = match &spec.source {
            ImageSource::Prebuilt(reference) => return prebuilt(core, reference),
            ImageSource::Dockerfile(context) => context.clone(),
        };
        let (planner, timeout) = (core.clone(), spec.build_timeout);
        let build = blocking(move || Build::new(&planner, context, timeout)).await??;
        if let Some(image) = build.finished()? {
            return Ok(image);
        }
        let digest = build.digest;
        let flight = {
            let core = core.clone();
            let mut flights = lock(&core.images.flights);
            let start = || {
                // A task of its own: it goes on when the caller that began it loses interest and
                // others wait.
                let task = tokio::spawn(build.run(core.clone()));
                let ended = |error| image_error(format!("the build ended early: {error}"));
                async move { task.await.unwrap_or_else(|error| Err(ended(error))) }.boxed().shared()
            };
            flights.entry(digest).or_insert_with(start).clone()
        };
        let result = flight.clone().await;
        let mut flights = lock(&core.images.flights);
        if flights.get(&digest).is_some_and(|known| known.ptr_eq(&flight)) {
            flights.remove(&digest);
        }
        result
    }

    /// The files of an image that [`Images::get`] has returned.
    pub fn root(core: &Core, image: &Image) -> Result<Root, SandboxError> {
        let Some(digest) = image.reference.strip_prefix(BUILT) else {
            return find(core, &image.reference);
        };
        let folder = layers(core).join(digest);
        let manifest = Manifest::read(&folder)?
            .ok_or_else(|| image_error(format!("the layer {} is gone", folder.display())))?;
        let mut root = match manifest.base {
            Some(reference) => find(core, &reference)?,
            None => stand_in(core)?,
        };
        root.layers = vec![folder.join("upper")];
        Ok(root)
    }
}

fn layers(core: &Core) -> PathBuf {
    core.config.cache.join("process-images")
}

fn find(core: &Core, reference: &str) -> Result<Root, SandboxError> {
    core.rootfs.find(reference).ok_or_else(|| {
        let folder = core.rootfs.folder(reference);
        image_error(format!(
            "no root file system of image {reference:?}: unpack it into {} (the built-in tasks' \
             base is made by tasks/base/build.sh), or use the docker driver",
            folder.display()
        ))
    })
}

/// Mounts below `/` are locked in a user namespace, and the kernel makes no overlay of what they
/// cover.
fn stand_in(core: &Core) -> Result<Root, SandboxError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(image_error(
            "the host's root file system can stand in for a base image only when root runs this; \
             unpack the base into the store of root file systems",
        ));
    }
    Ok(core.rootfs.host())
}

fn prebuilt(core: &Core, reference: &str) -> Result<Image, SandboxError> {
    let root = find(core, reference)?;
    Ok(Image {
        reference: reference.to_owned(),
        digest: root.identity,
        workdir: "/".to_owned(),
        user: None,
        env: BTreeMap::new(),
    })
}

impl Build {
    /// Reads the Dockerfile and finds its base. Blocks.
    fn new(core: &Core, context: FileTree, timeout: Duration) -> Result<Self, SandboxError> {
        let name = Path::new("Dockerfile");
        let entry = context.get("Dockerfile");
        let entry = entry.ok_or_else(|| image_error("the build context has no Dockerfile"))?;
        let bytes = entry.read().map_err(|error| image_error(format!("Dockerfile: {error}")))?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| image_error("Dockerfile: expected UTF-8, found other bytes"))?;
        let dockerfile =
            Dockerfile::parse(name, text).map_err(|all| image_error(all.to_string()))?;
        let stored = core.rootfs.find(&dockerfile.from);
        let base_reference = stored.is_some().then(|| dockerfile.from.clone());
        let base = stored.map_or_else(|| stand_in(core), Ok)?;
        let identity = format!("{FORMAT_VERSION} {} {}", context.digest(), base.identity);
        let digest = Digest::of(identity.as_bytes());
        let folder = layers(core).join(hex(digest));
        Ok(Self { context, dockerfile, base_reference, base, digest, timeout, folder })
    }

    /// The image, if its layer is there.
    fn finished(&self) -> Result<Option<Image>, SandboxError> {
        let manifest = Manifest::read(&self.folder)?;
        Ok(manifest.map(|manifest| Image {
            reference: format!("{BUILT}{}", hex(self.digest)),
            digest: self.digest,
            workdir: manifest.workdir,
            user: manifest.user,
            env: manifest.env,
        }))
    }

    async fn run(self, core: Arc<Core>) -> Result<Image, SandboxError> {
        let _turn =
            tokio::time::timeout(self.timeout, self.take_turn()).await.map_err(|_| {
                image_error("another process has been building this image for too long")
            })??;
        if let Some(image) = self.finished()? {
            return Ok(image);
        }
        // A builder that was killed had no time to: ours is the turn, so whatever is there is
        // nobody's.
        let left = SweepScope::Run { run: process_build::run_of(&self), except_incarnation: None };
        core.clone().sweep(left).await?;
        if self.base_reference.is_none() {
            let from = &self.dockerfile.from;
            tracing::info!("no root file system of image {from:?}: the host's own stands in");
        }
        let staging = self.folder.with_extension("tmp");
        let result = match make_staging(&staging) {
            Ok(()) => process_build::run(&core, &self, &staging).await,
            Err(error) => Err(image_error(format!("{}: {error}", staging.display()))),
        };
        let finished = result.and_then(|config| {
            self.finish(&staging, config)
                .map_err(|error| image_error(format!("{}: {error}", self.folder.display())))
        });
        if let Err(error) = finished {
            let _ = blocking(move || fs::remove_dir_all(staging)).await;
            return Err(error);
        }
        self.finished()?.ok_or_else(|| image_error("the layer vanished while it was built"))
    }

    /// Held until the file is dropped, by the end of this process at the latest.
    async fn take_turn(&self) -> Result<File, SandboxError> {
        let path = self.folder.with_extension("lock");
        let wrong = |error| image_error(format!("cannot lock {}: {error}", path.display()));
        fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(wrong)?;
        let file = File::create(&path).map_err(wrong)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(wrong(error)),
            }
        }
    }

    fn finish(&self, staging: &Path, config: ImageConfig) -> std::io::Result<()> {
        let manifest = Manifest {
            base: self.base_reference.clone(),
            workdir: config.workdir,
            user: config.user,
            env: config.env,
        };
        fs::write(staging.join("image.json"), serde_json::to_vec_pretty(&manifest)?)?;
        fs::remove_dir_all(staging.join("work"))?;
        fs::rename(staging, &self.folder)
    }
}

/// What an earlier build left, it did not finish.
fn make_staging(staging: &Path) -> std::io::Result<()> {
    if staging.exists() {
        fs::remove_dir_all(staging)?;
    }
    fs::create_dir_all(staging.join("upper"))?;
    fs::create_dir_all(staging.join("work"))
}

impl Manifest {
    fn read(folder: &Path) -> Result<Option<Self>, SandboxError> {
        let path = folder.join("image.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(image_error(format!("{}: {error}", path.display()))),
        };
        let wrong = |error| image_error(format!("{}: {error}; remove its folder", path.display()));
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }
}

fn hex(digest: Digest) -> String {
    digest.to_string().trim_start_matches("sha256:").to_owned()
}

pub(crate) fn image_error(message: impl Into<String>) -> SandboxError {
    SandboxError::new(FailureClass::Image, message)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
