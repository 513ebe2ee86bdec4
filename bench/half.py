"""A GPT trained in half precision beside float32: the same weights, the same batches, the ratio of the losses.

    python bench/half.py [--config char|baby|...] [--steps 200] [--dtypes bfloat16,float16] [--device cpu|cuda]
                         [--text FILE] [--every 20] [--json FILE]

Weights and activations are of the dtype, the optimizer's masters and moments float32; float16 with its losses scaled.
Every so many steps the mean loss since the last line, and its ratio to float32's. Gradient bytes are counted by the
ledger after a backward, and must be those of the parameters. Exit status 1 if they are not, or if at the end a loss is
further than 1 % from float32's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import workers
from gpt_sizes import BATCHES, BETAS, EPS, SIZES, WEIGHT_DECAY, Size

import nn
import ownt

RATE = 1e-3
FAR = 0.01
DTYPES = ("bfloat16", "float16")


def model_of(size: Size, dtype: str, device: str) -> nn.GPT:
    """The same first weights in each dtype, rounded to it."""
    ownt.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(size.vocab, size.block, size.layers, size.heads, size.width))
    return model.to(device, dtype)


def batches(size: Size, text: Path | None) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    """Stretches of a text drawn at random; without one skewed random tokens with a rule that can be learned: each third
    is the sum of the two before it. Of those a few batches, again and again."""
    random = numpy.random.default_rng(0)
    if text is not None:
        tokens = tokens_of(text, size)
        while True:
            starts = random.integers(0, len(tokens) - size.block, size.batch)
            rows = tokens[starts[:, None] + numpy.arange(size.block + 1)]
            yield rows[:, :-1], rows[:, 1:]
    made = []
    for _ in range(BATCHES):
        rows = (size.vocab * random.random((size.batch, size.block + 1)) ** 3).astype("int64")
        rows[:, 2::3] = (rows[:, 0:-2:3] + rows[:, 1:-1:3])[:, : rows[:, 2::3].shape[1]] % size.vocab
        made.append((rows[:, :-1], rows[:, 1:]))
    while True:
        yield from made


def tokens_of(text: Path, size: Size) -> numpy.ndarray:
    """The numbers of a text's characters. Raises: ValueError for more characters than the model knows, or too few."""
    characters, tokens = numpy.unique(list(text.read_text("utf-8")), return_inverse=True)
    if len(characters) > size.vocab or len(tokens) <= size.block:
        raise ValueError(
            f"{text}: expected more than {size.block} characters of at most {size.vocab} kinds; "
            f"got {len(tokens)} of {len(characters)}"
        )
    return tokens.astype("int64")


def trained(size: Size, dtype: str, options: argparse.Namespace) -> list[float]:
    """The losses of all steps."""
    model = model_of(size, dtype, options.device)
    adam = nn.AdamW(nn.decay_groups(model, WEIGHT_DECAY), lr=RATE, betas=BETAS, eps=EPS)
    step = (nn.ScaledStep if dtype == "float16" else nn.Step)(model.loss, adam, max_norm=1.0)
    given = zip(batches(size, options.text), range(options.steps), strict=False)
    return [step(*batch).item() for batch, _ in given]


def gradient_bytes(size: Size, dtype: str, device: str) -> tuple[int, int]:
    """Of the gradients after a backward, by the ledger, and of the parameters."""
    model = model_of(size, dtype, device)
    model.loss(*next(batches(size, None))).backward()
    found = ownt.memory.report(device).by_kind()["gradient"]
    return found, sum(node.nbytes for node in model.parameters())


def means(losses: list[float], every: int) -> list[float]:
    return [statistics.fmean(losses[start : start + every]) for start in range(0, len(losses), every)]


def show(found: dict[str, list[float]], every: int, steps: int) -> float:
    """The losses as Markdown; the largest distance from float32 at the end."""
    half = [dtype for dtype in found if dtype != "float32"]
    print(f"| steps | float32 | {' | '.join(f'{dtype} | ratio' for dtype in half)} |")
    print("|" + "---|" * (2 + 2 * len(half)))
    for i, expected in enumerate(found["float32"]):
        cells = [f"{found[dtype][i]:.4f} | {found[dtype][i] / expected:.5f}" for dtype in half]
        print(f"| {i * every + 1} to {min(steps, (i + 1) * every)} | {expected:.4f} | {' | '.join(cells)} |")
    return max(abs(found[dtype][-1] / found["float32"][-1] - 1) for dtype in half)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=list(SIZES), default="char")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dtypes", type=workers.chosen_from(list(DTYPES)), default=list(DTYPES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--text", type=Path, help="what to train on, character by character; made-up tokens by default")
    parser.add_argument("--every", type=int, default=20, help="steps in a line")
    parser.add_argument("--json", type=Path, help="write all losses to this file, too")
    options = parser.parse_args(arguments)
    if min(options.steps, options.every) < 1:
        parser.error(f"expected steps and every of 1 or more; got {options.steps} and {options.every}")
    size, right = SIZES[options.config], True
    print(f"{options.config}: {size}, on {options.device}\n")
    for dtype in ("float32", *options.dtypes):
        gradients, parameters = gradient_bytes(size, dtype, options.device)
        right &= gradients == parameters
        print(f"- {dtype}: gradients {gradients:,} bytes, parameters {parameters:,}")
    losses: dict[str, Any] = {dtype: trained(size, dtype, options) for dtype in ("float32", *options.dtypes)}
    print()
    worst = show({dtype: means(each, options.every) for dtype, each in losses.items()}, options.every, options.steps)
    print(f"\nAt the end the losses differ from float32's by {worst:.2%} at most")
    if options.json:
        options.json.write_text(json.dumps(losses))
    return int(not right or not worst <= FAR)


if __name__ == "__main__":
    sys.exit(main())
