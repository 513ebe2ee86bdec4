"""How blocks on CUDA walk over images channel by channel, see channels.cuh, and sums over all but the channels.

How they are cut depends on shapes alone."""

from __future__ import annotations

from typing import Any, NamedTuple, final

from ownt import device as devices
from ownt import dtype as dtypes
from ownt import scratch
from ownt.calls import Call, in_order
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__)
_sums, _sums_of_parts = _source.kernel("channel_sums"), _source.kernel("channel_sums_of_parts")

_THREADS = 256
_COLUMNS, _ADDERS = 8, 32  # of a block that adds up parts
_BLOCKS = 2048  # at most, where that many are needed: some for each of a GPU's processors
_EACH = 4  # loads of a thread at least, before there are more blocks
_MOST = 1 << 30  # numbers of a channel


@final
class Images(NamedTuple):
    """Arrays (N, C, ...) that lie alike: numbers of a channel, channels, pixels of an image or 0, 16 bytes' numbers."""

    rows: int
    width: int
    pixels: int
    full: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """As kernels take them."""
        return self[:3]

    @property
    def blocks(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Grid (blocks along the channels, parts) and threads of a block (along the channels, along a part)."""
        along = self.pixels or self.width
        units, places = (self.rows, self.width) if not self.pixels else (self.rows, 1)
        if along % self.full == 0:
            units, places = (units // self.full, 1) if self.pixels else (units, places // self.full)
        across = min(32, 1 << (places - 1).bit_length())
        threads = _THREADS // across
        columns = self.width if self.pixels else -(-places // across)
        parts = max(1, min(units // (threads * _EACH), -(-_BLOCKS // columns)))
        return (columns, parts), (across, threads)


def adding(width: int) -> tuple[int, tuple[int, int]]:
    """Grid and block of what adds up parts of so many channels."""
    return -(-width // _COLUMNS), (_COLUMNS, _ADDERS)


def images(*arrays: Any) -> Images | None:
    """How arrays (N, C, ...), or None, lie; None if not all alike, or in no such way, or empty."""
    there = [array for array in arrays if array is not None]
    x = there[0]
    rows = x.size // max(x.shape[1], 1)
    if not 0 < rows < _MOST:
        return None
    if all(array.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous for array in there):
        pixels = 0
    elif all(array.flags.c_contiguous for array in there):
        pixels = rows // x.shape[0]
    else:
        return None
    return Images(rows, x.shape[1], pixels, 16 // x.itemsize)


def channel_sums(x: Any, out: Out) -> Call | None:
    """The call for out (C,) = the sums of x (N, C, ...); None if x does not lie as that wants."""
    of = images(x)
    if of is None or out.array.dtype != x.dtype or not out.array.flags.c_contiguous:
        return None
    device = devices.of(x)
    parts = scratch.workspace((of.blocks[0][1], of.width), x, dtypes.wide(x.dtype)).array
    first = _sums.launch(device, x.dtype, *of.blocks), (x, parts, *of.sizes)
    last = _sums_of_parts.launch(device, x.dtype, *adding(of.width))
    return in_order(first, (last, (parts, out.array, out.beta, len(parts), of.width)))
