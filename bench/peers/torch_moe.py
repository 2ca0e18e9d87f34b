#!/usr/bin/env python3
"""PyTorch's figures for the shapes of bench_moe and for nanoGPT's CPU recipe, on the machine that runs this.

    python3 bench/peers/torch_moe.py [--threads 2] [--seconds 3]

Needs only torch. Two ways of writing the same MoE layer are timed, so that the peer is not a straw man:
  loop     the usual loop over experts: select an expert's tokens, three matrix products, index_add_
  sorted   tokens sorted by expert once, one contiguous slice an expert
GFLOP/s counts 6*D*F*K*T forward and three times that with backward, as our benchmark does. The nanoGPT step is a
GPT-2 block model of 4 layers, width 128, context 64, batch 12 with AdamW, as in nanoGPT's README for CPUs.
"""
import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


def route(x, router, k):
    weights, experts = torch.softmax(x @ router.T, -1).topk(k, -1)
    return weights / weights.sum(-1, keepdim=True), experts


def moe_loop(x, router, gate, up, down, k):
    weights, experts = route(x, router, k)
    y = torch.zeros_like(x)
    for e in range(gate.shape[0]):
        token, rank = torch.where(experts == e)
        if token.numel() == 0:
            continue
        h = F.silu(x[token] @ gate[e].T) * (x[token] @ up[e].T)
        y.index_add_(0, token, (h @ down[e].T) * weights[token, rank, None])
    return y


def moe_sorted(x, router, gate, up, down, k):
    weights, experts = route(x, router, k)
    order = experts.flatten().argsort(stable=True)
    token = order // k
    counts = experts.flatten().bincount(minlength=gate.shape[0]).tolist()
    rows = x[token]
    parts = []
    begin = 0
    for e, count in enumerate(counts):
        part = rows[begin:begin + count]
        parts.append((F.silu(part @ gate[e].T) * (part @ up[e].T)) @ down[e].T)
        begin += count
    return torch.zeros_like(x).index_add_(0, token, torch.cat(parts) * weights.flatten()[order, None])


def median_seconds(f, seconds):
    f()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def layer_rows(seconds):
    d, t = 512, 2048
    print(f"{'MoE layer, D=512 T=2048':<28}{'forward':>12}{'fwd+bwd':>12}  GFLOP/s")
    for e, k, f in ((8, 2, 1024), (64, 8, 256), (128, 8, 256)):
        torch.manual_seed(1)
        x = torch.randn(t, d, requires_grad=True)
        weights = [(torch.randn(*shape) * 0.02).requires_grad_() for shape in
                   ((e, d), (e, f, d), (e, f, d), (e, d, f))]
        flops = 6 * d * f * k * t
        for name, layer in (("loop", moe_loop), ("sorted", moe_sorted)):
            def forward():
                with torch.no_grad():
                    layer(x, *weights, k)

            def both():
                for p in (x, *weights):
                    p.grad = None
                layer(x, *weights, k).sum().backward()

            print(f"E={e} K={k} F={f} {name:<14}"
                  f"{flops / median_seconds(forward, seconds) / 1e9:>12.1f}"
                  f"{3 * flops / median_seconds(both, seconds) / 1e9:>12.1f}", flush=True)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        b, s, d = x.shape
        q, k, v = (part.view(b, s, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(d, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, s, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def nano_step(seconds):
    torch.manual_seed(1)
    width, layers, vocab, s, b = 128, 4, 65, 64, 12
    tokens, positions = nn.Embedding(vocab, width), nn.Embedding(s, width)
    model = nn.Sequential(*[Block(width, 4) for _ in range(layers)], nn.LayerNorm(width))
    parameters = [*tokens.parameters(), *positions.parameters(), *model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    ids = torch.randint(vocab, (b, s + 1))

    def step():
        x = model(tokens(ids[:, :-1]) + positions.weight)
        loss = F.cross_entropy((x @ tokens.weight.T).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    print(f"nanoGPT step ({sum(p.numel() for p in parameters) / 1e6:.2f} M parameters): "
          f"{1e3 * median_seconds(step, 2 * seconds):.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="a row")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads")
    layer_rows(arguments.seconds)
    nano_step(arguments.seconds)


if __name__ == "__main__":
    main()
