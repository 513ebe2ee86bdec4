"""Cross-entropy on CUDA devices; kernels in loss.cu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.ops.loss import mean_loss_kernel, row_loss_kernel, row_loss_vjp, row_share_kernel
from ownt import cuda_indices, scratch
from ownt import device as devices
from ownt.calls import in_order
from ownt.cuda_rows import BLOCK, fits, launch
from ownt.cuda_source import Source
from ownt.dtype import wide
from ownt.kernel import Out
from ownt.tensor import Tensor

Bound = tuple[Callable[..., None], tuple] | None

_source = Source(__file__)
_losses = _source.kernel("row_losses")
_slopes = _source.kernel("row_slopes")
_sum_rows = _source.kernel("sum_rows")
_mean = _source.kernel("mean_loss")
_shares = _source.kernel("row_shares")

_ROWS = 2048  # of a block that adds them up, if there are many


def _fits(targets: Any, weight: Any, dtype: Any, *arrays: Any) -> bool:
    """Whether arrays lie in one run of bytes each, and the weights are of the element type."""
    return (
        cuda_indices.known(targets)
        and (weight is None or weight.dtype == dtype)
        and all(array is None or array.flags.c_contiguous for array in (targets, weight, *arrays))
    )


def _pitches(*matrices: Any) -> tuple[int, ...] | None:
    """Numbers from row to row of each; None for columns that do not lie side by side."""
    if any(x.strides[1] != x.itemsize or x.strides[0] % x.itemsize for x in matrices):
        return None
    return tuple([x.strides[0] // x.itemsize for x in matrices])


@row_loss_kernel.on("cuda", *_source.dtypes)
def _(logits: Any, targets: Any, weight: Any, ignore: int, smoothing: float, *, out: Out, stats: Out) -> Bound:
    pitches = _pitches(logits)
    lies = _fits(targets, weight, logits.dtype, out.array, stats.array)
    if stats.beta or pitches is None or not lies or not fits(*logits.shape):
        return None
    given = logits, *cuda_indices.given(targets), weight, ignore, smoothing
    there = out.array, out.beta, stats.array, *logits.shape, *pitches
    return launch(_losses, logits, *logits.shape), (*given, *there)


@row_loss_vjp.on("cuda", *_source.dtypes)
def _(
    share: Any, logits: Any, targets: Any, weight: Any, stats: Any, ignore: int, smoothing: float, *, out: Out
) -> Bound:
    pitches = _pitches(logits, out.array)
    if not fits(*logits.shape) or pitches is None or not _fits(targets, weight, logits.dtype, share, stats):
        return None
    there = out.array, out.beta, *logits.shape, *pitches
    arguments = (share, logits, *cuda_indices.given(targets), weight, stats, ignore, smoothing, *there)
    return launch(_slopes, logits, *logits.shape), arguments


@mean_loss_kernel.on("cuda", *_source.dtypes)
def _(losses: Any, targets: Any, weight: Any, ignore: int, *, out: Out) -> Bound:
    if not _fits(targets, weight, losses.dtype, losses):
        return None
    parts, adding = _summed(losses, losses, targets, weight, ignore)
    mean = _mean.launch(devices.of(losses), losses.dtype, 1, BLOCK)
    return in_order(adding, (mean, (parts.array, out.array, out.beta, len(parts.array))))


@row_share_kernel.on("cuda", *_source.dtypes)
def _(g: Any, targets: Any, weight: Any, ignore: int, mean: bool, *, out: Out) -> Bound:
    if not _fits(targets, weight, g.dtype, g, out.array):
        return None
    parts, adding = _summed(g, None, targets, weight, ignore) if mean else (None, None)
    share = _shares.launch(devices.of(g), g.dtype, -(-targets.size // BLOCK), BLOCK)
    work, count = (None, 0) if parts is None else (parts.array, len(parts.array))
    last = share, (g, g.ndim > 0, *cuda_indices.given(targets), ignore, work, count, out.array, out.beta, targets.size)
    return last if adding is None else in_order(adding, last)


def _summed(like: Any, losses: Any, targets: Any, weight: Any, ignore: int) -> tuple[Tensor, tuple]:
    """The sums of losses and of what rows count for, of each block; and the call that makes them."""
    blocks = max(1, min(BLOCK, -(-targets.size // _ROWS)))
    parts = scratch.workspace((blocks, 2), like, wide(like.dtype))
    adding = _sum_rows.launch(devices.of(like), like.dtype, blocks, BLOCK)
    width = 0 if weight is None else weight.size
    given = losses, *cuda_indices.given(targets), weight, ignore
    return parts, (adding, (*given, parts.array, targets.size, width))
