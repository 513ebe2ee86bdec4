"""microgpt in plain Python, one number at a time: the independent implementation that the presets must equal.

The model and the order of random numbers are those of Karpathy's microgpt (2026), its 500-step and 1000-step
versions; the code is this project's own: every number is a Value in one growing list, so that going back
through the list is going back through the graph.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

EPS_NORM, EPS_ADAM = 1e-5, 1e-8


@dataclass(frozen=True)
class Version:
    steps: int
    block_size: int
    betas: tuple[float, float]
    std: float
    residual_std: float
    squared_relu: bool
    cosine: bool


VERSIONS = {
    "microgpt-500": Version(500, 8, (0.9, 0.95), 0.02, 0.0, True, True),
    "microgpt-1000": Version(1000, 16, (0.85, 0.99), 0.08, 0.08, False, False),
}
WIDTH, HEADS = 16, 4


class Value:
    __slots__ = ("grad", "parents", "slopes", "x")
    tape: list[Value] = []

    def __init__(self, x, parents=(), slopes=()):
        self.x, self.grad, self.parents, self.slopes = x, 0.0, parents, slopes
        if parents:
            Value.tape.append(self)


def dot(a, b):
    return Value(sum(p.x * q.x for p, q in zip(a, b)), (*a, *b), (*(q.x for q in b), *(p.x for p in a)))


def add(a, b):
    return Value(a.x + b.x, (a, b), (1.0, 1.0))


def mul(a, b):
    return Value(a.x * b.x, (a, b), (b.x, a.x))


def function(a, y, slope):
    return Value(y, (a,), (slope,))


def times(matrix, x):
    return [dot(row, x) for row in matrix]


def normed(x):
    mean = function(dot(x, x), sum(v.x * v.x for v in x) / len(x), 1 / len(x))
    scale = function(mean, (mean.x + EPS_NORM) ** -0.5, -0.5 * (mean.x + EPS_NORM) ** -1.5)
    return [mul(v, scale) for v in x]


def softmax(logits):
    top = max(v.x for v in logits)
    powers = [function(v, math.exp(v.x - top), math.exp(v.x - top)) for v in logits]
    total = Value(sum(v.x for v in powers), tuple(powers), (1.0,) * len(powers))
    inverse = function(total, 1 / total.x, -1 / total.x**2)
    return [mul(p, inverse) for p in powers]


def activated(h, squared):
    h = [function(v, max(v.x, 0.0), float(v.x > 0)) for v in h]
    return [mul(v, v) for v in h] if squared else h


def logits_of(weights, version, token, position, keys, values):
    x = [add(a, b) for a, b in zip(weights["wte"][token], weights["wpe"][position])]
    x = normed(x)
    h = normed(x)
    q, k, v = (times(weights[name], h) for name in ("wq", "wk", "wv"))
    keys.append(k)
    values.append(v)
    mixed, size = [], WIDTH // HEADS
    for head in range(0, WIDTH, size):
        part = slice(head, head + size)
        scores = [dot(q[part], past[part]) for past in keys]
        p = softmax([function(s, s.x / size**0.5, 1 / size**0.5) for s in scores])
        mixed += [dot(p, [past[i] for past in values]) for i in range(head, head + size)]
    x = [add(a, b) for a, b in zip(times(weights["wo"], mixed), x)]
    h = activated(times(weights["fc1"], normed(x)), version.squared_relu)
    x = [add(a, b) for a, b in zip(times(weights["fc2"], h), x)]
    return times(weights["head"], x)


def run(preset: str, text: str, seed: int, steps: int, samples: int) -> Iterator[str]:
    """The lines that the program prints: `steps` of its losses, then `samples` texts."""
    version, stream = VERSIONS[preset], random.Random(seed)
    documents = [line.strip() for line in text.strip().split("\n") if line.strip()]
    stream.shuffle(documents)
    characters = sorted(set("".join(documents)))
    bos = len(characters)
    draw = lambda rows, columns, std=version.std: [
        [Value(stream.gauss(0, std)) for _ in range(columns)] for _ in range(rows)
    ]
    weights = {"wte": draw(bos + 1, WIDTH), "wpe": draw(version.block_size, WIDTH), "head": draw(bos + 1, WIDTH)}
    for name in ("wq", "wk", "wv"):
        weights[name] = draw(WIDTH, WIDTH)
    weights["wo"] = draw(WIDTH, WIDTH, version.residual_std)
    weights["fc1"] = draw(4 * WIDTH, WIDTH)
    weights["fc2"] = draw(WIDTH, 4 * WIDTH, version.residual_std)
    numbers = [value for matrix in weights.values() for row in matrix for value in row]
    means, squares = [0.0] * len(numbers), [0.0] * len(numbers)
    beta1, beta2 = version.betas
    for step in range(steps):
        tokens = [bos, *(characters.index(c) for c in documents[step % len(documents)]), bos]
        count = min(version.block_size, len(tokens) - 1)
        keys, values, losses = [], [], []
        for position in range(count):
            p = softmax(logits_of(weights, version, tokens[position], position, keys, values))[tokens[position + 1]]
            losses.append(function(p, -math.log(p.x), -1 / p.x))
        loss = Value(sum(v.x for v in losses) / count, tuple(losses), (1 / count,) * count)
        loss.grad = 1.0
        while Value.tape:
            value = Value.tape.pop()
            for parent, slope in zip(value.parents, value.slopes):
                parent.grad += slope * value.grad
        done = step / version.steps
        lr = 0.01 * (0.5 * (1 + math.cos(math.pi * done)) if version.cosine else 1 - done)
        for i, value in enumerate(numbers):
            means[i] = beta1 * means[i] + (1 - beta1) * value.grad
            squares[i] = beta2 * squares[i] + (1 - beta2) * value.grad**2
            mean, square = means[i] / (1 - beta1 ** (step + 1)), squares[i] / (1 - beta2 ** (step + 1))
            value.x -= lr * mean / (square**0.5 + EPS_ADAM)
            value.grad = 0.0
        yield f"step {step + 1:4d} / {version.steps:4d} | loss {loss.x:.4f}"
    for number in range(1, samples + 1):
        keys, values, token, name = [], [], bos, ""
        for position in range(version.block_size):
            found = logits_of(weights, version, token, position, keys, values)
            p = softmax([function(v, v.x / 0.5, 2.0) for v in found])
            token = stream.choices(range(bos + 1), weights=[v.x for v in p])[0]
            if token == bos:
                break
            name += characters[token]
        Value.tape.clear()
        yield f"sample {number:2d}: {name}"
