"""Training data: texts as documents, one a line, or as one stream of characters, in batches of tokens."""

from __future__ import annotations

import random
from importlib import resources
from pathlib import Path

import ownt
from nn.errors import InputError
from nn.tokenizer import CharTokenizer
from ownt import Tensor

IGNORE = -100  # a target that does not count; what ag.cross_entropy ignores by default
Batch = tuple[Tensor, Tensor]  # tokens and targets, (B, T) each


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


class Documents:
    """One document a line, shuffled once; a batch is the next documents in turn, each from its beginning.

    A document of n characters gives n + 1 targets: its characters and the closing `bos`, cut at block_size.
    """

    def __init__(self, text: str, block_size: int, stream: random.Random) -> None:
        self.documents = [line.strip() for line in text.strip().split("\n") if line.strip()]
        stream.shuffle(self.documents)
        self.tokenizer = CharTokenizer("".join(self.documents))
        self.block_size = block_size
        _check_length(sum(map(len, self.documents)), block_size)

    def batch(self, step: int, size: int) -> Batch:
        """Batch number `step`, of `size` documents."""
        first = step * size
        chosen = [self.documents[(first + i) % len(self.documents)] for i in range(size)]
        bos = self.tokenizer.bos
        rows = [[bos, *self.tokenizer.encode(document), bos][: self.block_size + 1] for document in chosen]
        longest = max(map(len, rows)) - 1
        tokens = [row[:-1] + [bos] * (longest - len(row) + 1) for row in rows]
        targets = [row[1:] + [IGNORE] * (longest - len(row) + 1) for row in rows]
        return ownt.asarray(tokens), ownt.asarray(targets)


class Stream:
    """One long text; a batch is stretches of block_size characters from random places."""

    def __init__(self, text: str, block_size: int, stream: random.Random) -> None:
        self.tokenizer = CharTokenizer(text)
        self.tokens = ownt.asarray(self.tokenizer.encode(text))
        self.block_size = block_size
        self._random = stream
        _check_length(len(text) - 1, block_size)

    def batch(self, step: int, size: int) -> Batch:
        """A batch of `size` stretches."""
        tokens = self.tokens.numpy()
        starts = [self._random.randrange(len(tokens) - self.block_size) for _ in range(size)]
        rows = [tokens[start : start + self.block_size + 1] for start in starts]
        return ownt.asarray([row[:-1] for row in rows]), ownt.asarray([row[1:] for row in rows])


LAYOUTS: dict[str, type[Documents] | type[Stream]] = {"lines": Documents, "stream": Stream}


def load(text: str, layout: str, block_size: int, stream: random.Random) -> Documents | Stream:
    """The text as documents ("lines") or as one stream ("stream").

    Raises: InputError for a text shorter than a block.
    """
    return LAYOUTS[layout](text, block_size, stream)


def _check_length(characters: int, block_size: int) -> None:
    if characters < block_size:
        raise InputError(
            f"data: expected a text of {block_size} characters or more, one block; got {characters}. "
            "Give a longer text or a smaller --block-size"
        )
