//! Adapters in a directory, as PEFT has them: adapter_config.json and adapter_model.safetensors.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::Path;

use candle_core::Device;
use orcapack_tasks::defect::Defects;
use serde_json::{Value, json};

use super::config::ModelConfig;
use super::lora::{Lora, LoraSettings, LoraTarget};
use crate::caps::LORA_RANK_MAX;
use crate::files;
use crate::json_file::JsonFile;
use crate::tensors::read::TensorFile;
use crate::tensors::set::TensorSet;
use crate::tensors::write::{self, WeightType};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

impl Lora {
    /// Reads the adapters of a model of `config`'s shape, each matrix a variable on `device`.
    ///
    /// # Errors
    /// Every key that asks for what is not built, and each fault of a tensor, told before memory is
    /// taken.
    pub fn load(dir: &Path, config: &ModelConfig, device: &Device) -> Result<Self, Defects> {
        let settings = read_settings(&dir.join(CONFIG))?;
        let path = dir.join(WEIGHTS);
        let mut set = TensorSet::new(&path, vec![TensorFile::open(&path)?])?;
        let Ok(shapes) =
            Lora::build(config, &settings, |_, shape| Ok::<_, Infallible>(shape.to_vec()));
        let named = shapes.named();
        let expected = named.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        set.check(&expected.collect(), &[])?;
        set.load(device, |load| Self::build(config, &settings, load))
    }

    /// Fills `dir` for a base of that name or path, "" where it has none.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, dir: &Path, base: &str) -> io::Result<()> {
        let LoraSettings { rank, alpha, targets } = &self.settings;
        let targets: Vec<&str> = targets.iter().map(|target| target.name()).collect();
        let config = json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": rank,
            "target_modules": targets,
            "task_type": "CAUSAL_LM",
        });
        let named = self.named().into_iter();
        let tensors = named.map(|(name, var)| (name, var.as_detached_tensor())).collect();
        write::write(&dir.join(WEIGHTS), &tensors, WeightType::F32, &write::format_pt())?;
        files::write_text(&dir.join(CONFIG), &format!("{config:#}\n"))
    }
}

fn read_settings(path: &Path) -> Result<LoraSettings, Defects> {
    let mut file = JsonFile::read(path)?;
    if file.get("peft_type").is_none() {
        file.refuse("peft_type", "\"LORA\"");
    }
    file.only("peft_type", "LORA", "");
    // What changes the product or the base; what adds tensors is found among them.
    for key in ["fan_in_fan_out", "use_dora", "use_rslora", "use_qalora", "lora_bias"] {
        file.only(key, false, ": another kind of adapter is not built");
    }
    for key in ["alpha_pattern", "rank_pattern"] {
        file.only(key, json!({}), ": one rank and alpha for all");
    }
    file.only("bias", "none", ": biases are not built");
    for key in ["alora_invocation_tokens", "layer_replication"] {
        if file.get(key).is_some() {
            file.refuse(key, "no such key: another kind of adapter is not built");
        }
    }
    // The names of other ways to begin, some of which change the base.
    let is_plain = |value: &Value| (value.is_boolean() || value == "gaussian").then_some(());
    file.value("init_lora_weights", "true, false or \"gaussian\"", is_plain);
    const TARGETS: &str = "target_modules";
    let expected = "a list of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
    let targets = file.value(TARGETS, expected, |value| {
        let target = |name: &Value| name.as_str().and_then(LoraTarget::of);
        let targets: BTreeSet<_> = value.as_array()?.iter().map(target).collect::<Option<_>>()?;
        (!targets.is_empty()).then_some(targets)
    });
    if file.get(TARGETS).is_none() {
        file.refuse(TARGETS, expected);
    }
    if file.get("lora_alpha").is_none() {
        file.refuse("lora_alpha", "a number above 0");
    }
    let settings = LoraSettings {
        rank: file.size("r", 1..=LORA_RANK_MAX),
        alpha: file.opt_positive("lora_alpha").unwrap_or_default(),
        targets: targets.unwrap_or_default(),
    };
    file.finish().into_result(settings)
}

#[cfg(test)]
#[path = "lora_dir_tests.rs"]
mod tests;
