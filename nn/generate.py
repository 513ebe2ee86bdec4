"""Sampling from a GPT, token by token, with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, final

import ag
import ownt
from ag import Node, kernels
from nn import gpt
from nn.errors import InputError
from ownt import Tensor, memory
from ownt import device as devices
from ownt.capture import Recording
from ownt.kernel import Out

if TYPE_CHECKING:
    from nn.gpt import GPT

T = TypeVar("T")
Choose = Callable[[Sequence[float]], int]  # probabilities of the tokens -> the token chosen


def choose_random(probabilities: Sequence[float]) -> int:
    """A token drawn with ownt's generator."""
    xp = devices.cpu.xp
    sums = xp.cumsum(probabilities)
    token = int(sums.searchsorted(ownt.rand(1, dtype="float64", device="cpu").item() * sums[-1], side="right"))
    return token if token < len(sums) else int(xp.flatnonzero(probabilities)[-1])  # lost to rounding


def stream(
    model: GPT,
    tokens: Any,
    temperature: float = 1.0,
    top_k: int | None = None,
    choose: Choose = choose_random,
    decoder: Decoder | None = None,
) -> Iterator[list[int]]:
    """Endless new tokens, one for each row of `tokens` at a time.

    temperature: divides the logits; 0 takes the likeliest token. top_k: only so many of the likeliest are drawn from.
    decoder: of this model and so many rows, to be used again for one text after the other.
    Past block_size tokens only the last block_size count, as in nanoGPT.
    Shapes: tokens (B, T), T >= 1 -> (B,) each time
    Raises: InputError for a temperature below 0 or a top_k below 1, ValueError for no tokens to begin with.
    """
    check(temperature, top_k)
    first = ownt.asarray(tokens)
    if first.ndim != 2 or not first.size:
        raise ValueError(f"generate: expected tokens (B, T) with one or more to begin with; got shape {first.shape}")
    decoder = decoder or Decoder(model, len(first))
    decoder.cache.length = 0
    return _stream(decoder, first.tolist(), temperature, top_k, choose)


def check(temperature: float, top_k: int | None) -> None:
    """Raises: InputError for a temperature below 0 or a top_k below 1."""
    if not temperature >= 0:
        raise InputError(f"expected a temperature of 0 or more; got {temperature}")
    if top_k is not None and top_k < 1:
        raise InputError(f"expected top_k of 1 or more; got {top_k}")


def _stream(
    decoder: Decoder, rows: list[list[int]], temperature: float, top_k: int | None, choose: Choose
) -> Iterator[list[int]]:
    while True:
        new = _choices(decoder.logits(rows), temperature, top_k, choose)
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


@final
class Decoder:
    """A model that reads rows of tokens which grow, and keeps keys and values of what it has read.

    The launches for one new token of each row are recorded, and replayed from then on.
    """

    def __init__(self, model: GPT, batch: int) -> None:
        self.model = model
        self.cache = gpt.Cache(model, batch)
        self._tokens = ownt.zeros(batch, 1, dtype="int64", device=self.cache.device)
        self._place = devices.get(self.cache.device)
        self._logits: Tensor | None = None  # (B, V), where replays write them
        self._recording: Recording | None = None

    def logits(self, rows: list[list[int]]) -> Any:
        """Logits (B, V) after the last token of each row, in evaluation mode, in float64 and on the host.

        rows: those of the last call with one token more each, or with any number at first
        Raises: InputError if they are not numbers.
        """
        if len(rows[0]) > self.model.config.block_size:  # learned positions shift, so nothing kept is of use
            window = ownt.asarray([row[-self.model.config.block_size :] for row in rows])
            last = self._evaluate(lambda: self._head(self.model.hidden(window)))
        else:
            fresh = [row[self.cache.length :] for row in rows]
            last = self._one_more(fresh) if len(fresh[0]) == 1 else self._evaluate(lambda: self._read(fresh))
        found = last.numpy().astype("float64")
        if not devices.cpu.xp.isfinite(found).all():
            raise InputError(
                "generate: expected finite logits; got NaN or Inf. ag.detect_anomaly() finds where they begin"
            )
        return found

    def _read(self, fresh: list[list[int]]) -> Tensor:
        return self._head(self.model.hidden(ownt.asarray(fresh), self.cache))

    def _head(self, hidden: Node) -> Tensor:
        return self.model.head(hidden[:, -1]).tensor  # of the last position alone

    def _one_more(self, fresh: list[list[int]]) -> Tensor:
        self._place.write(self._tokens.array, ..., fresh)
        recording = self._recording
        usable = recording is not None and recording.is_valid and not recording.is_untold
        if recording is not None and usable and not recording.in_the_way():
            self.cache.positions(1)
            recording.replay()
            self.cache.length += 1
        else:
            self._evaluate(self._record)
        assert self._logits is not None
        return self._logits

    def _record(self) -> None:
        recording = Recording(memory.scratch(self.cache.device))
        with recording.during():
            last = self._head(self.model.hidden(self._tokens, self.cache))
            if self._logits is None:
                with recording.paused():
                    self._logits = ownt.empty(last.shape, dtype=last.dtype, device=last.device)
            kernels.copy(last, out=Out(self._logits))
            del last
        self._recording = None if recording.spoiled else recording

    def _evaluate(self, function: Callable[[], T]) -> T:
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with ag.no_grad():
                return function()
        finally:
            for module, training in modes:
                module.training = training


def _choices(logits: Any, temperature: float, top_k: int | None, choose: Choose) -> list[int]:
    if temperature == 0:
        return logits.argmax(1).tolist()
    return [choose(probabilities(row, temperature, top_k)) for row in logits]


def probabilities(logits: Any, temperature: float, top_k: int | None) -> Any:
    """softmax(logits / temperature), of the `top_k` likeliest alone if given, the first ones among equals."""
    xp = devices.cpu.xp
    logits = xp.asarray(logits, "float64")
    with devices.cpu.quiet():
        weights = xp.exp((logits - logits.max()) / temperature)
    if top_k is not None and top_k < len(logits):
        weights[xp.argsort(-logits, kind="stable")[top_k:]] = 0
    return weights / weights.sum()
