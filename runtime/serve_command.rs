//! `orcapack serve`: from a policy's directory to a server, and to its end in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::model::settings::{EngineBounds, PolicySettings, Secret};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::cli_serve::ServeArgs;
use crate::config_layers::Host;
use crate::config_models::KeySource;
use crate::exit::{Exit, Failure};
use crate::policy_engine::{PolicyEngine, StartError};
use crate::serve::{Served, router};
use crate::signals::Signals;
use crate::{output, secrets, telemetry};

/// # Errors
/// A fault in the policy's directory, a key that is not there, an address that is taken.
pub async fn run(args: &ServeArgs, host: &Host) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let key = key(args, host)?;
    let opened = PolicyEngine::open(&settings(args, host))?.with_queue(args.queue as usize);
    let name = name(args, host)?;
    let listener = TcpListener::bind(args.listen).await;
    let failed = |error| Failure::bad_input(format!("cannot listen on {}: {error}", args.listen));
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if args.verbose > 0 {
        telemetry::start_logs(None, args.verbose)
            .map_err(|error| Failure::internal(error.to_string()))?;
    }
    if key.is_none() && !address.ip().is_loopback() {
        eprintln!("warning: whoever reaches {address} can use the model: see --api-key-env");
    }
    let opened = Arc::new(opened);
    let engine = tokio::select! {
        started = opened.start(None) => started,
        () = signals.next() => return Ok(Exit::Done),
    };
    let engine =
        engine.map_err(|_| Failure::internal("the start of the engine has panicked"))??;
    output::print(&started(&opened, &name, address))?;
    let served = Served::new(opened, engine, name, key, args.seed);
    serve(listener, Arc::new(served), &mut signals, Duration::from_secs(args.drain_sec)).await
}

/// Serves until the first signal, then for so long as answers are under way and `drain` lasts.
async fn serve(
    listener: TcpListener,
    served: Arc<Served>,
    signals: &mut Signals,
    drain: Duration,
) -> Result<Exit, Failure> {
    let (leave, leaving) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router(served)).with_graceful_shutdown(async {
        // A sender that is gone says the same.
        let _ = leaving.await;
    });
    let mut serving = tokio::spawn(serving.into_future());
    let ended = |ended: Result<std::io::Result<()>, tokio::task::JoinError>| match ended {
        Ok(Ok(())) => Ok(Exit::Done),
        Ok(Err(error)) => Err(Failure::internal(format!("the server has ended: {error}"))),
        Err(error) => Err(Failure::internal(format!("the server has ended: {error}"))),
    };
    tokio::select! {
        serving = &mut serving => return ended(serving),
        () = signals.next() => {}
    }
    drop(leave);
    eprintln!("draining for up to {} s; once more to stop now", drain.as_secs());
    tokio::select! {
        serving = &mut serving => ended(serving),
        // What is still under way ends with the process.
        () = signals.next() => Ok(Exit::Done),
        () = tokio::time::sleep(drain) => Ok(Exit::Done),
    }
}

fn settings(args: &ServeArgs, host: &Host) -> PolicySettings {
    let count = |count: Option<u64>| count.map(|count| count as usize);
    PolicySettings {
        checkpoint: host.working_dir.join(&args.dir),
        bounds: EngineBounds {
            slots: args.slots as usize,
            context_tokens_max: count(args.context),
            kept_mb: args.kept_mb,
            threads: count(args.threads),
        },
        chat_template_kwargs: Default::default(),
    }
}

fn name(args: &ServeArgs, host: &Host) -> Result<String, Failure> {
    let dir = host.working_dir.join(&args.dir);
    let name = args.name.clone().or_else(|| {
        // Of what `.` and `..` stand for.
        let dir = dir.canonicalize().ok()?;
        Some(dir.file_name()?.to_string_lossy().into_owned())
    });
    let name = name.filter(|name| !name.is_empty());
    name.ok_or_else(|| Failure::bad_input("--name: expected what to call the model, found nothing"))
}

fn key(args: &ServeArgs, host: &Host) -> Result<Option<Secret>, Failure> {
    let (flag, source) = match (&args.api_key_env, &args.api_key_file) {
        (Some(name), _) => ("--api-key-env", KeySource::Variable(name.clone())),
        (None, Some(file)) => ("--api-key-file", KeySource::File(host.working_dir.join(file))),
        (None, None) => return Ok(None),
    };
    let read = secrets::read(&source, host.variables);
    let refused = |fault| {
        let expected = "where a key is to be found";
        Failure::bad_input(format!("{flag}: expected {expected}, found {source}, which {fault}"))
    };
    read.map(Some).map_err(refused)
}

/// What is served where, and what it takes, in a line.
fn started(opened: &PolicyEngine, name: &str, address: SocketAddr) -> String {
    let settings = &opened.settings;
    let size = opened.size;
    format!(
        "serving {name} at http://{address}/v1: {} parameters, {} slots, context {} tokens, \
         {} threads, {} of weights, up to {} of keys and values\n",
        millions(size.parameters),
        settings.slots,
        settings.context_tokens_max,
        settings.threads,
        mib(size.weights_bytes),
        mib(size.kept_bytes),
    )
}

fn millions(count: usize) -> String {
    format!("{:.2} M", count as f64 / 1e6)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Weights(defects) => defects.into(),
            other => Self::internal(format!("the engine does not start: {other}")),
        }
    }
}
