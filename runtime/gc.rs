//! `orcapack gc`: removes what killed runs left behind.
//!
//! By default only what is past the deadline in its labels, which is safe beside live runs. What
//! does not carry our labels is never touched.

use std::path::Path;
use std::time::Duration;

use orcapack_actors::docker::DockerDriver;
use orcapack_actors::process::{ProcessConfig, ProcessDriver};
use orcapack_actors::sandbox::{Driver, Leftover, SandboxError, SweepScope};
use serde::Serialize;

use crate::cli::GcArgs;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::output::{self, duration, plural};

/// What was removed, or with `--dry-run` would be.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Collected {
    dry_run: bool,
    leftovers: Vec<Leftover>,
    images: Vec<Image>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Image {
    /// Its tag, or the id where a build did not come to its end.
    name: String,
    /// With the layers that it shares with others.
    size_bytes: u64,
}

/// Sweeps the namespace sandboxes, and the engine's if one answers; a warning says so if none does.
pub async fn gc(args: &GcArgs, host: &Host) -> Result<Exit, Failure> {
    let now_unix_sec = u64::try_from(host.now.timestamp().as_second()).unwrap_or(0);
    let scope = if args.all { SweepScope::All } else { SweepScope::Expired { now_unix_sec } };
    let failed = |error: SandboxError| Failure::new(Exit::NoSandbox, error.message);
    let mut collected = Collected { dry_run: args.dry_run, ..Collected::default() };
    sweep_process(&scope, &host.cache_dir, &mut collected).await.map_err(failed)?;
    let docker = DockerDriver::from_env();
    match docker.ping().await {
        Ok(()) => {
            sweep_docker(&docker, &scope, args.images, &mut collected).await.map_err(failed)?;
        }
        Err(error) => eprintln!("warning: docker is passed over: {error}"),
    }
    if args.json {
        output::print_json(&collected)?;
    } else {
        output::print(&text(&collected, now_unix_sec))?;
    }
    Ok(Exit::Done)
}

async fn sweep_process(
    scope: &SweepScope,
    cache: &Path,
    collected: &mut Collected,
) -> Result<(), SandboxError> {
    let process = ProcessDriver::open(ProcessConfig { cache: cache.to_owned() })?;
    collected.leftovers.extend(process.leftovers(scope)?);
    if !collected.dry_run {
        process.sweep(scope).await?;
    }
    Ok(())
}

async fn sweep_docker(
    docker: &DockerDriver,
    scope: &SweepScope,
    images: bool,
    collected: &mut Collected,
) -> Result<(), SandboxError> {
    collected.leftovers.extend(docker.leftovers(scope).await?);
    if !collected.dry_run {
        docker.sweep(scope).await?;
    }
    let images = if images { docker.images().await? } else { Vec::new() };
    for image in images {
        // After the sweep: an image that a container uses cannot be removed, and is no leftover.
        if collected.dry_run || docker.remove_image(&image).await? {
            let name = image.tag.unwrap_or(image.id);
            collected.images.push(Image { name, size_bytes: image.size_bytes });
        }
    }
    Ok(())
}

fn text(collected: &Collected, now_unix_sec: u64) -> String {
    let verb = if collected.dry_run { "to remove" } else { "removed" };
    let mut text = String::new();
    if !collected.leftovers.is_empty() {
        let rows = collected.leftovers.iter().map(|left| row(left, now_unix_sec));
        text.push_str(&output::table(["kind", "id", "run", "attempt", "deadline"], rows, None));
        text.push('\n');
    }
    for image in &collected.images {
        let mib = image.size_bytes as f64 / f64::from(1 << 20);
        text.push_str(&format!("image {} ({mib:.0} MiB)\n", image.name));
    }
    let leftovers = plural(collected.leftovers.len(), "leftover");
    let images = plural(collected.images.len(), "image");
    text + &format!("{leftovers} and {images} {verb}\n")
}

fn row(left: &Leftover, now_unix_sec: u64) -> [String; 5] {
    let unknown = || "-".to_owned();
    let deadline = match left.deadline_unix_sec {
        None => unknown(),
        Some(at) if at <= now_unix_sec => format!("{} ago", seconds(now_unix_sec - at)),
        Some(at) => format!("in {}", seconds(at - now_unix_sec)),
    };
    [
        left.kind.to_owned(),
        left.id.chars().take(12).collect(),
        left.run.clone().unwrap_or_else(unknown),
        left.attempt.clone().unwrap_or_else(unknown),
        deadline,
    ]
}

fn seconds(seconds: u64) -> String {
    duration(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leftover(kind: &'static str, deadline_unix_sec: Option<u64>) -> Leftover {
        Leftover {
            kind,
            id: "0123456789abcdef".to_owned(),
            run: Some("nightly-1a2b3c4d".to_owned()),
            attempt: None,
            deadline_unix_sec,
        }
    }

    #[test]
    fn each_leftover_tells_whose_it_is_and_when_its_deadline_was() {
        let collected = Collected {
            dry_run: true,
            leftovers: vec![leftover("container", Some(940)), leftover("network", Some(1060))],
            images: vec![Image { name: "orcapack/env:abc".to_owned(), size_bytes: 5 << 20 }],
        };
        insta::assert_snapshot!(text(&collected, 1000), @"
        kind       id            run               attempt  deadline
        container  0123456789ab  nightly-1a2b3c4d  -        1 min 00 s ago
        network    0123456789ab  nightly-1a2b3c4d  -        in 1 min 00 s

        image orcapack/env:abc (5 MiB)
        2 leftovers and 1 image to remove
        ");
    }

    #[test]
    fn nothing_left_over_is_said_so() {
        assert_eq!(text(&Collected::default(), 0), "0 leftovers and 0 images removed\n");
    }
}
