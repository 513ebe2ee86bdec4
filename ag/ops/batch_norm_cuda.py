"""Batch norm on CUDA devices; kernels in batch_norm.cu, for images with their channels last or first."""

from __future__ import annotations

from typing import Any

from ag.ops.batch_norm import (
    batch_norm_kernel,
    batch_norm_vjp,
    batch_stats_kernel,
    running_stats_kernel,
    track_kernel,
)
from ag.ops.channels_cuda import Images, adding, images
from ownt import device as devices
from ownt import dtype as dtypes
from ownt import scratch
from ownt.calls import Call, in_order
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__)
_measure, _statistics = _source.kernel("batch_norm_measure"), _source.kernel("batch_norm_statistics")
_running, _track = _source.kernel("batch_norm_running"), _source.kernel("batch_norm_track")
_forward, _backward = _source.kernel("batch_norm_forward"), _source.kernel("batch_norm_backward")
_slopes, _totals = _source.kernel("batch_norm_slopes"), _source.kernel("batch_norm_totals")

_THREADS = 128  # of a block with one for each channel


def _plain(dtype: Any, *arrays: Any) -> bool:
    """Whether arrays of numbers by channel are contiguous and of a dtype."""
    return all(array is None or (array.dtype == dtype and array.flags.c_contiguous) for array in arrays)


def _parts(of: Images, like: Any, numbers: int) -> Any:
    """A workspace for sums of the parts of each channel."""
    return scratch.workspace((of.blocks[0][1], of.width, numbers), like, dtypes.wide(like.dtype))


@batch_stats_kernel.on("cuda", *_source.dtypes)
def _(x: Any, eps: float, *, stats: Out, variance: Out) -> Call | None:
    of = images(x)
    if of is None or stats.beta or variance.beta or not _plain(dtypes.wide(x.dtype), stats.array, variance.array):
        return None
    device, parts = devices.of(x), _parts(of, x, 3)
    measure = _measure.launch(device, x.dtype, *of.blocks)
    join = _statistics.launch(device, x.dtype, *adding(of.width))
    return in_order(
        (measure, (x, parts.array, *of.sizes)),
        (join, (parts.array, stats.array, variance.array, len(parts.array), of.width, eps)),
    )


@running_stats_kernel.on("cuda", *_source.dtypes)
def _(mean: Any, variance: Any, eps: float, *, stats: Out) -> Call | None:
    dtype = mean.dtype
    if stats.beta or not _plain(dtype, mean, variance) or not _plain(dtypes.wide(dtype), stats.array):
        return None
    launch = _running.launch(devices.of(mean), dtype, -(-mean.size // _THREADS), _THREADS)
    return launch, (mean, variance, stats.array, mean.size, eps)


@track_kernel.on("cuda", *_source.dtypes)
def _(
    mean: Any, variance: Any, momentum: float, factor: float, *, running_mean: Out, running_variance: Out
) -> Call | None:
    to = running_mean.array, running_variance.array
    dtype = to[0].dtype
    if not _plain(dtype, *to) or not _plain(dtypes.wide(dtype), mean, variance):
        return None
    launch = _track.launch(devices.of(mean), dtype, -(-mean.size // _THREADS), _THREADS)
    return launch, (mean, variance, *to, mean.size, momentum, factor)


@batch_norm_kernel.on("cuda", *_source.dtypes)
def _(x: Any, stats: Any, gain: Any, shift: Any, residual: Any, relu: bool, *, out: Out) -> Call | None:
    of = images(x, residual, out.array)
    if of is None or not _plain(x.dtype, gain, shift) or not _plain(dtypes.wide(x.dtype), stats):
        return None
    launch = _forward.launch(devices.of(x), x.dtype, *of.blocks)
    return launch, (x, stats, gain, shift, residual, relu, out.array, out.beta, *of.sizes)


@batch_norm_vjp.on("cuda", *_source.dtypes)
def _(
    g: Any, x: Any, stats: Any, gain: Any, shift: Any, residual: Any, relu: bool, training: bool,
    *, dx: Out | None, dgain: Out | None, dshift: Out | None, dresidual: Out | None,
) -> Call | None:  # fmt: skip
    (to_x, _), (to_residual, _) = elementwise = _wanted(dx), _wanted(dresidual)
    (to_gain, _), (to_shift, _) = by_channel = _wanted(dgain), _wanted(dshift)
    of = images(g, x, residual, to_x, to_residual)
    if of is None or not _plain(x.dtype, gain, shift, to_gain, to_shift) or not _plain(dtypes.wide(x.dtype), stats):
        return None
    device, inputs = devices.of(x), (g, x, stats, gain, shift, residual, relu)
    calls: list[Call] = []
    totals = scratch.workspace((of.width, 2), x, stats.dtype) if dx and training else None
    work = None if totals is None else totals.array
    if dgain or dshift or totals is not None:
        parts = _parts(of, x, 2)
        calls.append((_slopes.launch(device, x.dtype, *of.blocks), (*inputs, parts.array, *of.sizes)))
        add = _totals.launch(device, x.dtype, *adding(of.width))
        calls.append((add, (parts.array, *by_channel[0], *by_channel[1], work, len(parts.array), of.width)))
    if dx or dresidual:
        last = _backward.launch(device, x.dtype, *of.blocks)
        calls.append((last, (*inputs, work, *elementwise[0], *elementwise[1], *of.sizes)))
    return in_order(*calls)


def _wanted(out: Out | None) -> tuple[Any, int]:
    return (out.array, out.beta) if out else (None, 0)
