"""How many rows an op takes at a time that makes a wide result, uses it and drops it: decided here, for all devices."""

from __future__ import annotations

import math
from typing import NamedTuple

from ownt import Tensor
from ownt import device as devices
from ownt.dtype import HALF


class Size(NamedTuple):
    """Of a piece: so many bytes, but at least so many rows."""

    size_bytes: int
    rows: int


# By the kernels that a device uses; what is no CPU is taken for a GPU. On the CPU products run at full speed from few
# rows on; a GPU wants thousands, and for each piece of half precision reads and writes the gradient of the weights.
HIDDEN = {  # inside of a fused layer; on the CPU it stays in cache
    "cpu": Size(2 << 20, 256),
    "cuda": Size(128 << 20, 16384),
}
LOGITS = {
    "cpu": Size(64_000_000, 64),
    "cuda": Size(512_000_000, 1024),
}
_TILE = 16  # rows of which a piece is a multiple if it can be: matrix products work in tiles
_HALF_ON_CPU = 8  # times as much of half precision: for each piece the weights are widened


def hidden_pieces(x: Tensor) -> list[slice]:
    """Rows of x (..., C) for which a result of the same width is made."""
    kernels = devices.of(x.array).kernels
    size = HIDDEN.get(kernels, HIDDEN["cuda"])
    if kernels == "cpu" and x.dtype in HALF:
        size = Size(size.size_bytes * _HALF_ON_CPU, size.rows * _HALF_ON_CPU)
    return _pieces(x, x.shape[-1], size)


def logits_pieces(x: Tensor, classes: int) -> list[slice]:
    """Rows of x (..., C) for which logits are made."""
    return _pieces(x, classes, LOGITS.get(devices.of(x.array).kernels, LOGITS["cuda"]))


def pitch(x: Tensor, width: int) -> int:
    """Numbers from row to row of a result of x (..., C) so wide: on a GPU, whose products are slow where rows begin at
    odd addresses, so many that each begins at a multiple of 16 bytes.
    """
    full = 16 // x.dtype.itemsize if devices.of(x.array).kernels == "cuda" else 1
    return -(-width // full) * full


def _pieces(x: Tensor, width: int, size: Size) -> list[slice]:
    """As few as can be, and of about the same size, so that none is of a few rows alone."""
    rows, most = math.prod(x.shape[:-1]), max(size.rows, size.size_bytes // max(width * x.dtype.itemsize, 1))
    tile = max(1, min(_TILE, most // 4))
    tiles = -(-rows // tile)
    count = max(1, -(-tiles // (most // tile)))
    ends = [min(rows, tiles * i // count * tile) for i in range(count + 1)]
    return list(map(slice, ends, ends[1:]))
