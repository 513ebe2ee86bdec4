"""Group norm on CUDA devices; kernels in group_norm.cu."""

from __future__ import annotations

from typing import Any

from ag.ops.channels_cuda import adding
from ag.ops.group_norm import group_norm_kernel, group_norm_vjp
from ownt import device as devices
from ownt import dtype as dtypes
from ownt import scratch
from ownt.calls import Call, in_order
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__)
_forward, _slopes = _source.kernel("group_norm_forward"), _source.kernel("group_norm_slopes")
_totals, _backward = _source.kernel("group_norm_totals"), _source.kernel("group_norm_backward")

_THREADS, _WARP = 256, 32
_MOST = 1 << 30  # numbers of a group


def _fits(x: Any, groups: int, stats: Any, images: tuple[Any, ...], by_channel: tuple[Any, ...]) -> bool:
    """Whether arrays are contiguous and of the dtypes that kernels take."""
    there = [array for array in (x, *images, *by_channel) if array is not None]
    alike = all(array.dtype == x.dtype and array.flags.c_contiguous for array in there)
    rows = stats.flags.c_contiguous and stats.dtype == dtypes.wide(x.dtype)
    return alike and rows and 0 < x.size // max(x.shape[0] * groups, 1) < _MOST


def _threads(numbers: int) -> int:
    """Of a block for so many numbers: whole warps."""
    return min(_THREADS, -(-numbers // _WARP) * _WARP)


@group_norm_kernel.on("cuda", *_source.dtypes)
def _(x: Any, groups: int, gain: Any, shift: Any, eps: float, *, out: Out, stats: Out) -> Call | None:
    if stats.beta or not _fits(x, groups, stats.array, (out.array,), (gain, shift)):
        return None
    samples, channels, length = x.shape[0], x.shape[1] // groups, x.shape[2]
    launch = _forward.launch(devices.of(x), x.dtype, samples * groups, _threads(channels * length))
    return launch, (x, gain, shift, out.array, out.beta, stats.array, groups, channels, length, eps)


@group_norm_vjp.on("cuda", *_source.dtypes)
def _(
    g: Any, x: Any, stats: Any, groups: int, gain: Any, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> Call | None:
    (to_x, beta), to_gain, to_shift = _wanted(dx), _wanted(dgain), _wanted(dshift)
    if not _fits(x, groups, stats, (g, to_x), (gain, to_gain[0], to_shift[0])):
        return None
    device, (samples, width, length) = devices.of(x), x.shape
    channels = width // groups
    sums = scratch.workspace((samples, width, 2), x, stats.dtype).array
    slopes = _slopes.launch(device, x.dtype, samples * width, _threads(length))
    calls: list[Call] = [(slopes, (g, x, stats, sums, channels, length))]
    if dgain or dshift:
        add = _totals.launch(device, x.dtype, *adding(width))
        calls.append((add, (sums, *to_gain, *to_shift, samples, width)))
    if dx:
        last = _backward.launch(device, x.dtype, samples * groups, _threads(channels * length))
        calls.append((last, (g, x, stats, sums, gain, to_x, beta, groups, channels, length)))
    return in_order(*calls)


def _wanted(out: Out | None) -> tuple[Any, int]:
    return (out.array, out.beta) if out else (None, 0)
