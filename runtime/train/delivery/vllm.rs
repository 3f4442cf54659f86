//! New weights to a vLLM server, from a directory that it can read.
//!
//! ```text
//! POST /pause?mode=keep                                    -> {"status": "paused"}
//! POST /collective_rpc                                     -> {"results": [...]}
//!      {"method": "reload_weights", "kwargs": {"weights_path": DIR}}
//! POST /reset_prefix_cache?reset_running_requests=true     -> nothing
//! POST /update_weight_version {"new_version": VERSION}     -> {"success": true, ...}
//! POST /resume                                             -> {"status": "resumed"}
//! ```
//! All of them are there only with `VLLM_SERVER_DEV_MODE=1` in the server's environment, without a
//! key, and whoever reaches them rules the server (`docs/usage/security.md`): they belong on a
//! network of the training's own.
//!
//! As vLLM has them: `/pause` with `mode` since 0.16 (`entrypoints/serve/rlhf/api_router.py`; now
//! `entrypoints/rl/online/api_router.py`, with `/update_weight_version` and `GET /weight_info`),
//! `/collective_rpc` and `/reset_prefix_cache` in `entrypoints/serve/dev/`. Requests that run are
//! kept, and go on with the new weights: what earlier weights computed of them is computed anew,
//! for else nothing of the cache could be dropped. A server that has no `/update_weight_version`
//! tells no versions of its tokens either.

use std::path::Path;

use orcapack_actors::model::control::{Control, ControlError};
use serde_json::{Value, json};

/// One try. A server that fails in the middle stays paused: its weights may be of both versions.
pub async fn bring(control: &Control, dir: &Path, version: &str) -> Result<(), ControlError> {
    let none = json!({});
    expect(control, "pause", &[("mode", "keep")], &none, "status", "paused").await?;
    let reload = json!({"method": "reload_weights", "kwargs": {"weights_path": dir}});
    let said = control.post("collective_rpc", &[], &reload).await?;
    if !said["results"].is_array() {
        let what = format!("results: expected one for each worker, found {said}");
        return Err(control.malformed("collective_rpc", what));
    }
    let running = [("reset_running_requests", "true")];
    control.post("reset_prefix_cache", &running, &none).await?;
    let names = json!({"new_version": version});
    match expect(control, "update_weight_version", &[], &names, "success", true).await {
        Err(error) if error.is_unknown => {
            tracing::debug!("the server tells no versions of weights");
        }
        told => told?,
    }
    expect(control, "resume", &[], &none, "status", "resumed").await
}

/// What it says that it samples with; `None` where it tells no versions.
pub async fn version(control: &Control) -> Result<Option<String>, ControlError> {
    match control.get("weight_info").await {
        Ok(said) => Ok(said["weight_version"].as_str().map(str::to_owned)),
        Err(error) if error.is_unknown => Ok(None),
        Err(error) => Err(error),
    }
}

async fn expect(
    control: &Control,
    path: &str,
    query: &[(&str, &str)],
    body: &Value,
    key: &str,
    expected: impl Into<Value>,
) -> Result<(), ControlError> {
    let (said, expected) = (control.post(path, query, body).await?, expected.into());
    if said[key] == expected {
        return Ok(());
    }
    Err(control.malformed(path, format!("{key}: expected {expected}, found {said}")))
}
