"""Training data: texts as documents, one a line, or as one stream of characters, in batches of tokens."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from nn.errors import InputError
from nn.tokenizer import CharTokenizer
from ownt import Tensor, asarray, factories
from ownt import device as devices

IGNORE = -100  # a target that does not count; what ag.cross_entropy ignores by default
Batch = tuple[Tensor, Tensor]  # tokens and targets, (B, T) each
_xp = devices.cpu.xp


def read_text(path: str | Path | None = None) -> str:
    """The text of a file; by default the given names that come with the package.

    Raises: InputError if there is no such file, or it is empty or not text.
    """
    if path is None:
        lines = resources.files("nn").joinpath("names.txt").read_text("utf-8").splitlines()
        return "\n".join(line for line in lines if not line.startswith("#"))
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"data: expected a text in UTF-8; got other bytes at {error.start} of {path}") from None
    except OSError as error:
        raise InputError(f"data: expected a readable text file; got {path}: {error.strerror}") from None
    if "\0" in text:
        raise InputError(f"data: expected a text; got a zero byte at {text.index(chr(0))} of {path}: a binary file?")
    if not text.strip():
        raise InputError(f"data: expected a text of some characters; got an empty file: {path}")
    return text


class Text:
    """A text as tokens, the first of them to train on and the last to validate on.

    It is read in rows: stretches of at most block_size tokens, whose targets are the tokens one further.
    """

    def __init__(self, tokenizer: CharTokenizer, tokens: list[int], block_size: int) -> None:
        self.tokenizer = tokenizer
        self.tokens = _kept(tokens, "int32")
        self.block_size = block_size

    def batch(self, step: int, size: int) -> Batch:
        """Batch number `step` of the part to train on, of `size` rows."""
        raise TypeError(f"{type(self).__name__} defines no batch")

    def validation_rows(self) -> tuple[Any, Any]:
        """Where each row of the part to validate on begins, and how many targets it has; two arrays."""
        raise TypeError(f"{type(self).__name__} defines no rows to validate on")

    def validation(self, size: int, most: int) -> Iterator[Batch]:
        """The part to validate on once through, `size` rows at a time.

        If it has more than `most` tokens, as many evenly spread rows as keep within them.
        """
        starts, lengths = self.validation_rows()
        wanted = len(starts) if lengths.sum() <= most else max(1, most // self.block_size)
        chosen = _xp.arange(wanted) * len(starts) // wanted
        for first in range(0, wanted, size):
            rows = chosen[first : first + size]
            yield self._rows(starts[rows], lengths[rows])

    def _rows(self, starts: Any, lengths: Any) -> Batch:
        """Rows side by side; a short one ends in `bos` that do not count."""
        columns = _xp.arange(lengths.max() + 1)
        outside = columns[:-1] >= lengths[:, None]
        found = self.tokens.array.take(starts[:, None] + columns, mode="clip")
        x = _xp.where(outside, self.tokenizer.bos, found[:, :-1])
        y = _xp.where(outside, IGNORE, found[:, 1:])
        return asarray(x, "int64", "cpu"), asarray(y, "int64", "cpu")


class Documents(Text):
    """One document a line, shuffled once; a batch is the next documents in turn, each from its beginning.

    A document of n characters gives n + 1 targets: its characters and the closing `bos`, cut at block_size.
    The last `val_fraction` of the documents are to validate on.
    """

    def __init__(self, text: str, block_size: int, stream: random.Random, val_fraction: float = 0.0) -> None:
        self.documents = [line.strip() for line in text.strip().split("\n") if line.strip()]
        stream.shuffle(self.documents)
        self.trained = _first_part(len(self.documents), val_fraction)  # how many documents are to train on
        sizes = [len(document) for document in self.documents]
        whole, trained = sum(sizes), sum(sizes[: self.trained])
        _check_lengths(block_size, whole, trained, whole - trained if val_fraction else None)
        tokenizer = CharTokenizer("".join(self.documents))
        bos = tokenizer.bos
        tokens = [bos]
        for document in self.documents:
            tokens += [*tokenizer.encode(document), bos]
        super().__init__(tokenizer, tokens, block_size)
        targets = _xp.asarray(sizes) + 1
        self.starts = _kept(targets.cumsum() - targets, "int64")
        self.lengths = _kept(targets.clip(max=block_size), "int64")

    def batch(self, step: int, size: int) -> Batch:
        rows = (step * size + _xp.arange(size)) % self.trained
        return self._rows(self.starts.array[rows], self.lengths.array[rows])

    def validation_rows(self) -> tuple[Any, Any]:
        return self.starts.array[self.trained :], self.lengths.array[self.trained :]


class Stream(Text):
    """One long text; a batch is stretches of block_size characters from random places.

    The last `val_fraction` of the text is to validate on, in stretches one after the other; the last may be shorter.
    """

    def __init__(self, text: str, block_size: int, stream: random.Random, val_fraction: float = 0.0) -> None:
        self.trained = _first_part(len(text), val_fraction)  # how many characters are to train on
        validated = len(text) - self.trained
        _check_lengths(block_size, len(text) - 1, self.trained - 1, validated - 1 if val_fraction else None)
        tokenizer = CharTokenizer(text)
        super().__init__(tokenizer, tokenizer.encode(text), block_size)
        self._random = stream

    def batch(self, step: int, size: int) -> Batch:
        starts = _xp.asarray([self._random.randrange(self.trained - self.block_size) for _ in range(size)])
        return self._rows(starts, _xp.full(size, self.block_size))

    def validation_rows(self) -> tuple[Any, Any]:
        last = len(self.tokens) - 1
        starts = _xp.arange(self.trained, last, self.block_size)
        return starts, (last - starts).clip(max=self.block_size)


LAYOUTS: dict[str, type[Documents] | type[Stream]] = {"lines": Documents, "stream": Stream}


def load(text: str, layout: str, block_size: int, stream: random.Random, val_fraction: float = 0.0) -> Text:
    """The text as documents ("lines") or as one stream ("stream"), the last `val_fraction` of it to validate on.

    Raises: InputError if either part is shorter than a block.
    """
    return LAYOUTS[layout](text, block_size, stream, val_fraction)


def counted(targets: Tensor) -> int:
    """How many of the targets count."""
    return int((targets.array != IGNORE).sum())


def _kept(values: Any, dtype: str) -> Tensor:
    return factories.empty(len(values), dtype=dtype, device="cpu", path="data").copy_(values)


def _first_part(total: int, val_fraction: float) -> int:
    return total - math.ceil(total * val_fraction)


def _check_lengths(block_size: int, whole: int, training: int, validation: int | None) -> None:
    parts = [("text", whole, ""), ("part to train on", training, "a smaller --val-fraction, ")]
    if validation is not None:
        parts.append(("part to validate on", validation, "a larger --val-fraction, or 0 for none, "))
    for part, characters, remedy in parts:
        if characters < block_size:
            raise InputError(
                f"data: expected a {part} of {block_size} characters or more, one block; got {max(characters, 0)}. "
                f"Give a longer text, {remedy}or a smaller --block-size"
            )
