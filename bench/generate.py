"""Sampling from a GPT with a cache of keys and values, beside PyTorch: milliseconds a token.

    python bench/generate.py [--config micro|char|baby|gpt2|all] [--peers torch] [--threads N] [--json FILE]

The same weights in each framework, each in a process of its own, asked in turn. A text is as long as the model's
context and begins with one token; first all write one by taking the likeliest token, which must be the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import gpt_peers
import workers
from gpt_sizes import SIZES, Size

ROUNDS = 7
STD = 0.08  # of the weights: large enough for one token to be the likeliest


class Ours:
    """One row at a time from our GPT, as `ownt sample` does."""

    def __init__(self, size: Size) -> None:
        import nn

        ownt_config = nn.GPTConfig(size.vocab, size.block, size.layers, size.heads, size.width)
        self.model = nn.GPT(ownt_config).eval()
        for name, tensor in self.model.state_dict().items():
            tensor[...] = weight(name, tensor.shape)
        self.decoder = nn.generate.Decoder(self.model, batch=1)

    def text(self, count: int, greedy: bool) -> list[int]:
        import nn

        new = nn.generate.stream(self.model, [[0]], 0.0 if greedy else 1.0, decoder=self.decoder)
        return [token for (token,) in islice(new, count)]


class Torch:
    """The same with PyTorch's modules, attention and multinomial, keys and values kept in place."""

    def __init__(self, size: Size) -> None:
        import torch

        self.size = size
        self.model = gpt_peers.torch_gpt(size)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))

    def text(self, count: int, greedy: bool) -> list[int]:
        import torch

        size, found, token = self.size, [], torch.tensor([[0]])
        kept = [torch.zeros(2, 1, size.heads, size.block, size.width // size.heads) for _ in range(size.layers)]
        with torch.inference_mode():
            for position in range(count):
                probabilities = torch.softmax(self._logits(token, kept, position), -1)
                token = probabilities.argmax(-1, keepdim=True) if greedy else torch.multinomial(probabilities, 1)
                found.append(token.item())
        return found

    def _logits(self, token: Any, kept: list[Any], position: int) -> Any:
        from torch.nn import functional

        model, size = self.model, self.size
        x = model.wte(token) + model.wpe.weight[position]
        for block, both in zip(model.blocks, kept, strict=True):
            attention = block.attention
            q, k, v = attention.qkv(attention.norm(x)).view(1, 1, 3, size.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            both[0, :, :, position], both[1, :, :, position] = k[:, :, 0], v[:, :, 0]
            y = functional.scaled_dot_product_attention(q, *both[:, :, :, : position + 1].unbind(0))
            x = x + attention.out(y.transpose(1, 2).reshape(1, 1, -1))
            x = x + block.mlp(x)
        return functional.linear(model.final_norm(x), model.wte.weight)[:, -1]


def weight(name: str, shape: tuple[int, ...]) -> Any:
    """The same for a name and a shape in every process."""
    import zlib

    import numpy

    drawn = numpy.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype="float32") * STD
    return drawn + 1 if "norm.weight" in name else drawn


def start(framework: str, size: str, threads: str) -> workers.Answer:
    workers.hold(framework, int(threads))
    writer: Any = (Ours if framework == "ownt" else Torch)(SIZES[size])

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        tokens = writer.text(question["count"], question["greedy"])
        return {"tokens": tokens, "s": time.perf_counter() - began}

    return answer


def measure(config: str, peers: list[str], threads: int) -> dict[str, float]:
    """Median milliseconds a token by framework. Raises: DisagreementError if greedy texts differ."""
    count = SIZES[config].block - 1
    asked = {
        name: workers.Worker(name, Path(__file__), "worker", name, config, threads=threads) for name in ["ownt", *peers]
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    try:
        greedy = {name: worker.ask(count=min(count, 32), greedy=True)["tokens"] for name, worker in asked.items()}
        if any(tokens != greedy["ownt"] for tokens in greedy.values()):
            raise workers.DisagreementError(f"{config}: the likeliest tokens differ: {greedy}")
        for turn in range(ROUNDS + 1):
            for name, worker in asked.items():
                took = worker.ask(count=count, greedy=False)["s"]
                if turn:  # the first warms up
                    times[name].append(1e3 * took / count)
    finally:
        for worker in asked.values():
            worker.close()
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=[*SIZES, "all"], default="all")
    parser.add_argument("--peers", type=workers.chosen_from(["torch"]), default=[])
    parser.add_argument("--threads", type=workers.thread_count, default=workers.cores())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"machine": workers.machine(given.threads)}
    peers = workers.installed(given.peers)
    for config in SIZES if given.config == "all" else [given.config]:
        found = results[config] = measure(config, peers, given.threads)
        shown = ", ".join(f"{name} {ms:.3f} ms a token" for name, ms in found.items())
        ratios = "".join(f"; {peer}'s over ours: {found[peer] / found['ownt']:.2f}x" for peer in peers)
        print(f"{config}: {shown}{ratios}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        workers.serve(partial(start, *sys.argv[2:]))
    else:
        main()
