"""Embedding on CUDA devices; kernels in embedding.cu. How its gradient is cut depends on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ag.ops.embedding import embedding_kernel, embedding_vjp
from ownt import Tensor, cuda_indices, scratch
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import in_order
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__)
_look_up = _source.kernel("look_up")
_count_digits = _source.kernel("count_digits")
_add_counts_before = _source.kernel("add_counts_before")
_sort_by_digit = _source.kernel("sort_by_digit")
_sum_pieces = _source.kernel("sum_pieces")
_join_pieces = _source.kernel("join_pieces")

_WARP, _BLOCK = 32, 256
_DIGIT_BITS = 8
_TILE, _TILES = 512, 512  # positions that a warp sorts at least, and such tiles at most
_PIECE, _PIECES, _PART_NUMBERS = 16, 1024, 1 << 21  # rows of a piece at least; pieces, and numbers kept, at most


@embedding_kernel.on("cuda", *_source.dtypes)
def _(indices: Any, table: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    if not _fits(indices, table, y) or table.dtype != y.dtype:
        return None
    size, width = table.shape
    packs, lanes = _lanes(width, table, y)
    across = min(_WARP, 1 << (lanes - 1).bit_length())
    block = across, _BLOCK // across
    launch = _look_up.launch(devices.of(y), y.dtype, -(-indices.size // block[1]), block)
    return launch, (*cuda_indices.given(indices), size, table, y, out.beta, indices.size, width, packs)


@embedding_vjp.on("cuda", *_source.dtypes)
def _(g: Any, indices: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    table = out.array
    if not _fits(indices, g, table) or g.dtype != table.dtype:
        return None
    count, (size, width), device = indices.size, table.shape, devices.of(g)
    if not count:
        return in_order()
    sort = _sort(indices, size, g.dtype)
    pieces = max(1, min(_PIECES, _PART_NUMBERS // (2 * width)))
    length = max(_PIECE, -(-count // pieces))
    pieces = -(-count // length)
    packs, lanes = _lanes(width, g, table)
    across = min(128, -(-lanes // _WARP) * _WARP)
    parts = scratch.workspace((pieces, 2, width), g, dtypes.wide(g.dtype))
    summing = _sum_pieces.launch(device, g.dtype, (pieces, -(-lanes // across)), across)
    joining = _join_pieces.launch(device, g.dtype, (pieces, -(-width // _WARP)), (_WARP, _BLOCK // _WARP))
    return in_order(
        *sort.calls,
        (summing, (g, sort.keys, sort.positions, table, parts.array, count, length, size, width, packs)),
        (joining, (parts.array, sort.keys, table, count, length, size, width)),
    )


def _fits(indices: Any, *arrays: Any) -> bool:
    """Whether all lie in one run, and kernels know such indices."""
    known = cuda_indices.known(indices) and indices.size < 1 << 31
    return (
        known and all(array.flags.c_contiguous and array.shape[-1] for array in arrays) and indices.flags.c_contiguous
    )


def _lanes(width: int, *arrays: Any) -> tuple[bool, int]:
    """Whether rows can be read 16 bytes at a time, and how many threads then read one."""
    full = 16 // arrays[0].itemsize
    packs = width % full == 0 and not any(devices.of(array).pointer(array) % 16 for array in arrays)
    return packs, width // full if packs else width


class _Sort(NamedTuple):
    """Launches that sort positions by index, stable; and where they leave the indices, sorted, and the positions.

    held: the memory that they work in
    """

    calls: list[tuple[Callable[..., None], tuple]]
    keys: Any
    positions: Any
    held: tuple[Tensor, ...]


def _sort(indices: Any, size: int, dtype: Any) -> _Sort:
    """How to sort; dtype: what the kernels are compiled for, though they see none of it."""
    count, device = indices.size, devices.of(indices)
    tile = max(_TILE, -(-count // (_TILES * _WARP)) * _WARP)
    tiles = -(-count // tile)
    counts = scratch.workspace(((1 << _DIGIT_BITS) * tiles,), indices, dtypes.int32)
    work = scratch.workspace((2, 2, count), indices, dtypes.int32)
    counting = _count_digits.launch(device, dtype, tiles, _WARP)
    adding = _add_counts_before.launch(device, dtype, 1, 1024)
    sorting = _sort_by_digit.launch(device, dtype, tiles, _WARP)
    given, sizes = (*cuda_indices.given(indices), size), (count, tile)
    keys = positions = None
    calls: list[tuple[Callable[..., None], tuple]] = []
    for number, shift in enumerate(range(0, max(1, size.bit_length()), _DIGIT_BITS)):
        after = work.array[number % 2]
        calls += [
            (counting, (*given, keys, counts.array, *sizes, shift)),
            (adding, (counts.array, counts.size)),
            (sorting, (*given, keys, positions, counts.array, after[0], after[1], *sizes, shift)),
        ]
        keys, positions = after[0], after[1]
    return _Sort(calls, keys, positions, (counts, work))
