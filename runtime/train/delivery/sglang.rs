//! New weights to an SGLang server, from a directory that it can read.
//!
//! ```text
//! POST /pause_generation {"mode": "retract"}       -> {"status": "ok", ...}
//! POST /flush_cache                                -> a text, or 400 while requests run
//! POST /update_weights_from_disk                   -> {"success": true, ...}
//!      {"model_path": DIR, "weight_version": VERSION, "flush_cache": true}
//! POST /continue_generation {}                     -> {"status": "ok", ...}
//! ```
//! As SGLang has them (`python/sglang/srt/entrypoints/http_server.py`, bodies in
//! `managers/io_struct.py`; modes of a pause since pull request 10071 of November 2025; described
//! in its documentation under "SGLang for RL Systems"). A retracted request goes back to the queue
//! and is computed anew with the new weights. The cache is flushed on its own first: where that
//! cannot be, `/flush_cache` says so, and the update would bring the server down. `GET /model_info`
//! tells the version. A server with `--admin-api-key` wants that key.

use std::path::Path;

use orcapack_actors::model::control::{Control, ControlError};
use orcapack_actors::model::{ModelError, ModelErrorKind};
use serde_json::{Value, json};

/// One try. A server that fails in the middle stays paused: its weights may be of both versions.
pub async fn bring(control: &Control, dir: &Path, version: &str) -> Result<(), ControlError> {
    order(control, "pause_generation", &json!({"mode": "retract"})).await?;
    control.post("flush_cache", &[], &json!({})).await.map_err(not_yet)?;
    let (path, update) = (
        "update_weights_from_disk",
        json!({"model_path": dir, "weight_version": version, "flush_cache": true}),
    );
    let said = control.post(path, &[], &update).await?;
    match said["success"].as_bool() {
        Some(true) => {}
        Some(false) => return Err(control.refused(path, said["message"].to_string())),
        None => {
            return Err(control.malformed(path, format!("success: expected true, found {said}")));
        }
    }
    order(control, "continue_generation", &json!({})).await
}

/// What it says that it samples with.
pub async fn version(control: &Control) -> Result<Option<String>, ControlError> {
    let said = control.get("model_info").await?;
    Ok(said["weight_version"].as_str().map(str::to_owned))
}

/// What still runs has an end.
fn not_yet(refused: ControlError) -> ControlError {
    match refused {
        ControlError { error, is_unknown: false } if error.kind == ModelErrorKind::Rejected => {
            let error = ModelError { kind: ModelErrorKind::Overloaded, ..error };
            ControlError { error, is_unknown: false }
        }
        other => other,
    }
}

async fn order(control: &Control, path: &str, body: &Value) -> Result<(), ControlError> {
    let said = control.post(path, &[], body).await?;
    if said["status"] == "ok" {
        return Ok(());
    }
    Err(control.malformed(path, format!("status: expected ok, found {said}")))
}
