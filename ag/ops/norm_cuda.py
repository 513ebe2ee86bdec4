"""Norms on CUDA devices; kernels in norm.cu. How sums over rows are cut depends on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.ops.norm import norm_kernel, norm_vjp
from ownt import device as devices
from ownt import dtype as dtypes
from ownt import scratch
from ownt.calls import in_order
from ownt.cuda_rows import WARP, block_of, threads_of
from ownt.cuda_source import PLAIN_SHARED_BYTES, Source
from ownt.kernel import Out

_source = Source(__file__)
_forward = _source.kernel("norm_forward")
_backward = _source.kernel("norm_backward")
_sum_parts = _source.kernel("norm_sum_parts")

_MOST_SHARED = 99 << 10  # bytes that a block can be granted on every GPU from sm_80 on; sm_86 and sm_89 have no more
_PARTS, _PART_NUMBERS = 2048, 1 << 21  # of a sum over rows at most: parts, and columns times parts


def _padded(x: Any) -> int:
    """Columns of a row in shared memory, where each begins at 16 bytes."""
    full = 16 // x.itemsize
    return -(-x.shape[1] // full) * full


def _sums(x: Any) -> int:
    """Places of a sum for each column of a row, of which every thread has 16 bytes in each turn."""
    turn = threads_of(x.shape[1] * x.itemsize) * (16 // x.itemsize)
    return -(-x.shape[1] // turn) * turn


def _fits(x: Any, *others: Any) -> bool:
    """Whether rows lie one after the other."""
    return x.shape[1] > 0 and all(array is None or array.flags.c_contiguous for array in (x, *others))


@norm_kernel.on("cuda", *_source.dtypes)
def _(x: Any, gain: Any, shift: Any, eps: float, centred: bool, *, out: Out) -> Any:
    if not _fits(x, gain, shift, out.array):
        return None
    rows, width = x.shape
    row_bytes = _padded(x) * x.itemsize
    keep = row_bytes <= PLAIN_SHARED_BYTES
    block, shared_bytes = block_of(width * x.itemsize, row_bytes if keep else 0)
    first = _forward.launch(devices.of(x), x.dtype, -(-rows // block[1]), block, shared_bytes)
    return first, (x, gain, shift, out.array, out.beta, rows, width, eps, centred, keep)


@norm_vjp.on("cuda", *_source.dtypes)
def _(
    g: Any, x: Any, gain: Any, eps: float, centred: bool, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> tuple[Callable[..., None], tuple] | None:
    totals = {out.array.dtype for out in (dgain, dshift) if out}
    if len(totals) > 1 or not _fits(x, g, gain, *(out.array for out in (dx, dgain, dshift) if out)):
        return None
    rows, width = x.shape
    sums, wide = bool(dgain or dshift), dtypes.wide(x.dtype)
    sum_bytes = 2 * _sums(x) * wide.itemsize if sums else 0
    kept_bytes = (2 if dx else 1) * _padded(x) * x.itemsize
    keep = sum_bytes + kept_bytes <= PLAIN_SHARED_BYTES
    block, shared_bytes = block_of(width * x.itemsize, sum_bytes + (kept_bytes if keep else 0))
    if shared_bytes > _MOST_SHARED:
        return None
    groups = max(1, min(_PARTS, _PART_NUMBERS // width, -(-rows // 8)) if sums else rows)
    grid = -(-groups // block[1])
    device = devices.of(x)
    count = grid * block[1]
    parts = scratch.workspace((count, 2, width), x, wide) if sums else None
    target, beta = _wanted(dx)
    work = None if parts is None else parts.array
    arguments = (g, x, gain, target, beta, work, rows, width, eps, centred, keep)
    first = _backward.launch(device, x.dtype, grid, block, shared_bytes), arguments
    if not sums:
        return first
    (total,) = totals  # of half precision maybe float32, as are the parts: it is then compiled for that
    adding = _sum_parts.launch(device, total, (-(-width // WARP), 2), (WARP, 32))
    return in_order(first, (adding, (work, *_wanted(dgain), *_wanted(dshift), count, width)))


def _wanted(out: Out | None) -> tuple[Any, int]:
    return (out.array, out.beta) if out else (None, 0)
