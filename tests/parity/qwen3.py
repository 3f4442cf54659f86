"""Compares the model with transformers' Qwen3, and adapters with peft's. Needs, outside of the repository:

    python3 -m venv /tmp/official && /tmp/official/bin/pip install torch transformers peft

Three commands:

- `goldens DIR` writes small random models into DIR, each a directory as `save_pretrained` makes it, and
  beside it what transformers computes with it. trainer/model/parity_tests.rs holds our model to them.
- `check DIR` loads a directory that we wrote, compares its log-probabilities with ours, and saves it
  again as DIR/again. The test `transformers_and_peft_read_what_is_written_and_write_what_is_read` in that
  file runs it:

      ORCAPACK_PYTHON=/tmp/official/bin/python \\
          cargo test -p orcapack-trainer --lib transformers_and_peft -- --ignored --nocapture

- `check-adapter DIR ADAPTER` does the same with an adapter on it.

Of `check` the expected log-probabilities are in `expected.safetensors` of the directory: `logprobs`
[rows, len - 1], of each token after the first, with the tokens as JSON under the metadata key `ids`.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

EXPECTED = "expected.safetensors"
ROWS, LEN = 2, 10

MODELS = {
    # Grouped queries, a head of its own; the config as transformers 5 writes it.
    "untied": dict(
        vocab_size=64, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, tie_word_embeddings=False, eos_token_id=[1, 2],
        rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
    ),
    # All queries share their keys, heads together are wider than the hidden states, a tied head; the
    # config as transformers 4 writes it.
    "tied": dict(
        vocab_size=64, hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=1, head_dim=6, tie_word_embeddings=True, eos_token_id=1,
        rope_parameters={"rope_theta": 1e4, "rope_type": "default"},
    ),
}


def logprobs(model, ids):
    """Of each token after the first: [rows, len - 1]."""
    logits = model(input_ids=ids).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def randomise(model):
    """Matrices that keep the size of what they are given, so that attention is far from even, and
    norms that are not 1."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.normal_(1.0, 0.2)
        else:
            parameter.normal_(0.0, 1.0 if "embed" in name else parameter.shape[1] ** -0.5)


def write_golden(folder, settings):
    with torch.no_grad():
        fresh = Qwen3ForCausalLM(Qwen3Config(max_position_embeddings=64, **settings))
        randomise(fresh)
    # Half the size, and read as exactly the same numbers.
    fresh.to(torch.bfloat16).save_pretrained(folder)
    if folder.name == "tied":
        as_transformers_4(folder / "config.json")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(0, settings["vocab_size"], (ROWS, LEN))
    chosen = logprobs(model, ids)
    # Each target weighs differently: 1, 2 or 3 parts.
    weights = torch.arange(chosen.numel()).remainder(3).add(1).reshape(chosen.shape) / chosen.numel()
    loss = -(weights * chosen).sum()
    loss.backward()
    tensors = {name: parameter.grad for name, parameter in model.named_parameters()}
    tensors["logits"] = model(input_ids=ids).logits.detach()
    metadata = {"ids": json.dumps(ids.tolist()), "loss": repr(loss.item())}
    save_file(tensors, folder / EXPECTED, metadata)


def as_transformers_4(path):
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    config["transformers_version"] = "4.51.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def compare(model, folder, what):
    with safe_open(folder / EXPECTED, "pt") as file:
        ours, ids = file.get_tensor("logprobs"), json.loads(file.metadata()["ids"])
    with torch.no_grad():
        theirs = logprobs(model, torch.tensor(ids))
    worst = (ours - theirs).abs().max().item()
    print(f"{what}: log-probabilities differ by at most {worst:.2e}, of up to {theirs.abs().max():.2f}")
    assert worst < 1e-4


def check(folder):
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    faults = {key: value for key, value in loading.items() if value}
    assert not faults, faults
    compare(model, folder, "transformers")
    if (folder / "tokenizer.json").exists():
        check_text(folder)
    model.save_pretrained(folder / "again")


def check_text(folder):
    """The tokens of the only row are those of the conversation under the metadata key `messages`."""
    with safe_open(folder / EXPECTED, "pt") as file:
        metadata = file.metadata()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(json.loads(metadata["messages"]), tokenize=False)
    theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
    print(f"tokenizer and template: {len(theirs)} tokens, end of turn {tokenizer.eos_token}")
    assert [theirs] == json.loads(metadata["ids"]), theirs
    tokenizer.save_pretrained(folder / "again")


def check_adapter(folder, adapter):
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    compare(model, adapter, "peft")
    model.save_pretrained(adapter / "again")
    compare(model.merge_and_unload(), adapter, "peft, merged")


def main():
    command, *paths = sys.argv[1:]
    paths = [Path(path) for path in paths]
    torch.manual_seed(1)
    if command == "goldens":
        for name, settings in MODELS.items():
            write_golden(paths[0] / name, settings)
    elif command == "check":
        check(*paths)
    elif command == "check-adapter":
        check_adapter(*paths)
    else:
        sys.exit(f"expected goldens, check or check-adapter, found {command}")


main()
