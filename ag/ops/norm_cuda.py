"""Norms on CUDA devices; kernels in norm.cu. How sums over rows are cut depends on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.ops.norm import norm_kernel, norm_vjp
from ownt import device as devices
from ownt import dtype as dtypes
from ownt import scratch
from ownt.calls import in_order
from ownt.cuda_rows import WARP, group_of
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__)
_forward = _source.kernel("norm_forward")
_backward = _source.kernel("norm_backward")
_sum_parts = _source.kernel("norm_sum_parts")

_PARTS, _PART_NUMBERS = 1024, 1 << 21  # of a sum over rows at most: parts, and columns times parts
_BLOCK_ROWS, _GROUP_ROWS = 8, 2  # at least, for a part


def _fits(x: Any, *others: Any) -> bool:
    """Whether rows lie one after the other."""
    return x.shape[1] > 0 and all(array is None or array.flags.c_contiguous for array in (x, *others))


@norm_kernel.on("cuda", *_source.dtypes)
def _(x: Any, gain: Any, shift: Any, eps: float, centred: bool, *, out: Out) -> Any:
    if not _fits(x, gain, shift, out.array):
        return None
    rows, width = x.shape
    block = group_of(width * x.itemsize)
    first = _forward.launch(devices.of(x), x.dtype, -(-rows // block[1]), block)
    return first, (x, gain, shift, out.array, out.beta, rows, width, eps, centred)


@norm_vjp.on("cuda", *_source.dtypes)
def _(
    g: Any, x: Any, gain: Any, eps: float, centred: bool, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> tuple[Callable[..., None], tuple] | None:
    totals = {out.array.dtype for out in (dgain, dshift) if out}
    if len(totals) > 1 or not _fits(x, g, gain, *(out.array for out in (dx, dgain, dshift) if out)):
        return None
    device, (rows, width), wide = devices.of(x), x.shape, dtypes.wide(x.dtype)
    block = group_of(width * x.itemsize)
    target, beta = _wanted(dx)
    if not totals:
        launch = _backward.launch(device, x.dtype, -(-rows // block[1]), block)
        return launch, (g, x, gain, target, beta, None, rows, width, eps, centred)
    count = _parts(rows, width, block[1])
    parts = scratch.workspace((count, 2, width), x, wide)
    joined_bytes = block[1] * width * wide.itemsize if block[1] > 1 else 0
    first = _backward.launch(device, x.dtype, count, block, joined_bytes)
    (total,) = totals  # of half precision maybe float32, as are the parts: it is then compiled for that
    adding = _sum_parts.launch(device, total, (-(-width // WARP), 2), (WARP, 32))
    return in_order(
        (first, (g, x, gain, target, beta, parts.array, rows, width, eps, centred)),
        (adding, (parts.array, *_wanted(dgain), *_wanted(dshift), count, width)),
    )


def _parts(rows: int, width: int, groups: int) -> int:
    """Blocks of so many groups, each of which leaves a part: many enough to keep a GPU busy, few beside the rows."""
    return max(1, min(_PARTS, _PART_NUMBERS // width, -(-rows // max(_BLOCK_ROWS, _GROUP_ROWS * groups))))


def _wanted(out: Out | None) -> tuple[Any, int]:
    return (out.array, out.beta) if out else (None, 0)
