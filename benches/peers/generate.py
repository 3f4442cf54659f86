"""Sampling with transformers' `generate`, for benches/engine.rs: the same shape of model, prompts
and answers.

Needs `pip install torch transformers`. Prints the seconds that all answers of the batch took,
prompts included, and the peak of this process's memory in bytes.

usage: generate.py BATCH PROMPT_TOKENS NEW_TOKENS
"""

import resource
import sys
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

VOCAB = 2048


def main():
    batch, prompt_tokens, new_tokens = map(int, sys.argv[1:])
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = Qwen3ForCausalLM(config).eval()
    prompts = torch.randint(VOCAB, (batch, prompt_tokens))
    mask = torch.ones_like(prompts)

    def generate(count):
        return model.generate(
            prompts,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=count,
            max_new_tokens=count,
        )

    with torch.inference_mode():
        generate(4)
        begin = time.perf_counter()
        tokens = generate(new_tokens)
        seconds = time.perf_counter() - begin
    assert tokens.shape == (batch, prompt_tokens + new_tokens)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


main()
