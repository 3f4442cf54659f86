"""A training step in PyTorch, for benches/trainer.rs: the same model, data and optimizer.

Needs `pip install torch numpy`. Prints the median milliseconds of a step, by the clock and of
processor time, and the peak of this process's memory in bytes.

usage: trainer.py ROWS LEN STEPS
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

LAYERS, HIDDEN, INTERMEDIATE, VOCAB = 4, 256, 768, 2048
HEADS, KV_HEADS, HEAD_DIM, THETA, EPS = 8, 4, 32, 10_000.0, 1e-6


def weight(*shape):
    return nn.Parameter(torch.randn(*shape) * 0.02)


def norm(size):
    return nn.Parameter(torch.ones(size))


def turned(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_norm, self.post_norm = norm(HIDDEN), norm(HIDDEN)
        self.q_norm, self.k_norm = norm(HEAD_DIM), norm(HEAD_DIM)
        self.qkv = weight((HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN)
        self.o = weight(HIDDEN, HEADS * HEAD_DIM)
        self.gate_up = weight(2 * INTERMEDIATE, HIDDEN)
        self.down = weight(HIDDEN, INTERMEDIATE)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        y = F.linear(F.rms_norm(x, (HIDDEN,), self.input_norm, EPS), self.qkv)
        y = y.view(rows, length, HEADS + 2 * KV_HEADS, HEAD_DIM)
        q, k, v = y.split((HEADS, KV_HEADS, KV_HEADS), dim=2)
        q = turned(F.rms_norm(q, (HEAD_DIM,), self.q_norm, EPS).transpose(1, 2), cos, sin)
        k = turned(F.rms_norm(k, (HEAD_DIM,), self.k_norm, EPS).transpose(1, 2), cos, sin)
        y = F.scaled_dot_product_attention(
            q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        x = x + F.linear(y.transpose(1, 2).reshape(rows, length, -1), self.o)
        gate_up = F.linear(F.rms_norm(x, (HIDDEN,), self.post_norm, EPS), self.gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self.down)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = weight(VOCAB, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = norm(HIDDEN)

    def forward(self, ids):
        length = ids.shape[1]
        frequency = 1.0 / THETA ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        angle = torch.outer(torch.arange(length), frequency).repeat(1, 2)
        cos, sin = angle.cos(), angle.sin()
        x = F.embedding(ids, self.embed)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(F.rms_norm(x, (HIDDEN,), self.norm, EPS), self.embed)


def peak_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main():
    rows, length, steps = map(int, sys.argv[1:])
    torch.manual_seed(0)
    model = Model()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, weight_decay=0.01, fused=True)
    ids = torch.randint(0, VOCAB, (rows, length))
    times, cpu_times = [], []
    for _ in range(2 + steps):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        logits = model(ids)[:, :-1].reshape(-1, VOCAB)
        loss = F.cross_entropy(logits, ids[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(1e3 * (time.perf_counter() - begin))
        cpu_times.append(1e3 * (time.process_time() - cpu_begin))
    print(statistics.median(times[2:]), statistics.median(cpu_times[2:]), peak_bytes())


if __name__ == "__main__":
    main()
