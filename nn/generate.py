"""Sampling from a GPT, token by token, with a cache of keys and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import ag
import ownt
from nn import gpt
from nn.errors import InputError
from ownt import Tensor

if TYPE_CHECKING:
    from nn.gpt import GPT

Choose = Callable[[Sequence[float]], int]  # probabilities of the tokens -> the token chosen


def choose_random(probabilities: Sequence[float]) -> int:
    """A token drawn with ownt's generator."""
    point = ownt.rand(1, dtype="float64").item() * math.fsum(probabilities)
    total = 0.0
    for token, probability in enumerate(probabilities):
        total += probability
        if point < total:
            return token
    return max(token for token, probability in enumerate(probabilities) if probability)  # lost to rounding


def stream(
    model: GPT,
    tokens: Any,
    temperature: float = 1.0,
    top_k: int | None = None,
    choose: Choose = choose_random,
) -> Iterator[list[int]]:
    """Endless new tokens, one for each row of `tokens` at a time.

    temperature: divides the logits; 0 takes the likeliest token. top_k: only so many of the likeliest are drawn from.
    Past block_size tokens only the last block_size count, as in nanoGPT.
    Shapes: tokens (B, T), T >= 1 -> (B,) each time
    Raises: InputError for a temperature below 0 or a top_k below 1, ValueError for no tokens to begin with.
    """
    check(temperature, top_k)
    first = ownt.asarray(tokens)
    if first.ndim != 2 or not first.size:
        raise ValueError(f"generate: expected tokens (B, T) with one or more to begin with; got shape {first.shape}")
    return _stream(model, first.tolist(), temperature, top_k, choose)


def check(temperature: float, top_k: int | None) -> None:
    """Raises: InputError for a temperature below 0 or a top_k below 1."""
    if not temperature >= 0:
        raise InputError(f"expected a temperature of 0 or more; got {temperature}")
    if top_k is not None and top_k < 1:
        raise InputError(f"expected top_k of 1 or more; got {top_k}")


def _stream(
    model: GPT, rows: list[list[int]], temperature: float, top_k: int | None, choose: Choose
) -> Iterator[list[int]]:
    cache = gpt.Cache(model, len(rows))
    while True:
        new = _choices(_last_logits(model, rows, cache), temperature, top_k, choose)
        for row, token in zip(rows, new, strict=True):
            row.append(token)
        yield new


def extend(model: GPT, tokens: Any, count: int, temperature: float, top_k: int | None) -> Tensor:
    """tokens (B, T) and `count` sampled ones after them: (B, T + count)"""
    source = stream(model, tokens, temperature, top_k)
    rows = ownt.asarray(tokens).tolist()
    for _ in range(count):
        for row, token in zip(rows, next(source), strict=True):
            row.append(token)
    return ownt.asarray(rows)


def _last_logits(model: GPT, rows: list[list[int]], cache: gpt.Cache) -> list[list[float]]:
    """Logits after the last token of each row, in evaluation mode.

    Raises: ValueError if they are not numbers.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with ag.no_grad():
            if len(rows[0]) <= model.config.block_size:
                fresh = [row[cache.length :] for row in rows]
                hidden = model.hidden(ownt.asarray(fresh), cache)
            else:  # learned positions shift with the window, so nothing kept is of use
                hidden = model.hidden(ownt.asarray([row[-model.config.block_size :] for row in rows]))
            last = model.head(hidden[:, -1]).numpy().astype("float64").tolist()  # (B, V): of the last position alone
    finally:
        for module, training in modes:
            module.training = training
    if not all(map(math.isfinite, chain(*last))):
        raise InputError("generate: expected finite logits; got NaN or Inf. ag.detect_anomaly() finds where they begin")
    return last


def _choices(logits: list[list[float]], temperature: float, top_k: int | None, choose: Choose) -> list[int]:
    if temperature == 0:
        return [row.index(max(row)) for row in logits]
    return [choose(probabilities(row, temperature, top_k)) for row in logits]


def probabilities(logits: Sequence[float], temperature: float, top_k: int | None) -> list[float]:
    """softmax(logits / temperature), of the `top_k` likeliest alone if given, the first ones among equals."""
    top = max(logits)
    weights = [math.exp((logit - top) / temperature) for logit in logits]
    if top_k is not None:
        likeliest = set(sorted(range(len(logits)), key=lambda token: -logits[token])[:top_k])
        weights = [weight if token in likeliest else 0.0 for token, weight in enumerate(weights)]
    total = sum(weights)
    return [weight / total for weight in weights]
