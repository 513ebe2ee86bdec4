"""Pooling on CUDA devices; kernels in pool.cu, for images with their channels last or first."""

from __future__ import annotations

from typing import Any

from ag.ops.pool import avg_pool_kernel, avg_pool_vjp, max_pool_kernel, max_pool_vjp
from ag.ops.window import Window
from ownt import device as devices
from ownt.calls import Call
from ownt.cuda_source import CudaKernel, Source
from ownt.dtype import uint8
from ownt.kernel import Out
from ownt.layout import TO_LAST

_source = Source(__file__)
_largest, _largest_vjp = _source.kernel("pool_largest"), _source.kernel("pool_largest_vjp")
_mean, _mean_vjp = _source.kernel("pool_mean"), _source.kernel("pool_mean_vjp")

_THREADS = 256
_LINES = 65535  # blocks along a grid's second axis at most
_MOST = 1 << 31  # numbers of an image


def _laid(*arrays: Any) -> list[bool] | None:
    """Whether each has its channels last, or else first; None if one lies otherwise or is empty."""
    last = [array.transpose(TO_LAST).flags.c_contiguous for array in arrays]
    for array, is_last in zip(arrays, last, strict=True):
        if not (array.size and array.size // len(array) < _MOST and (is_last or array.flags.c_contiguous)):
            return None
    return last


def _taps(tap: Any) -> tuple[Any, Any]:
    """The argument for bytes and that for numbers, one of which is None."""
    return (tap, None) if tap.dtype == uint8 else (None, tap)


def _call(kernel: CudaKernel, over: Any, image: Any, window: Window, *arguments: Any) -> Call:
    """The launch with threads for the pixels of `over`, of windows on `image`."""
    full = 16 // over.itemsize
    images, width, rows, columns = over.shape
    line = columns * (width // full if width % full == 0 else width)
    block = min(_THREADS, -(-line // 32) * 32)
    launch = kernel.launch(devices.of(over), over.dtype, (-(-line // block), min(images * rows, _LINES)), block)
    return launch, (*arguments, *image.shape, *(n for pair in window for n in pair))


@max_pool_kernel.on("cuda", *_source.dtypes)
def _(x: Any, window: Window, *, out: Out, tap: Out) -> Call | None:
    laid = _laid(x, out.array, tap.array)
    if laid is None or tap.beta or laid[1] != laid[2]:
        return None
    y = out.array
    return _call(_largest, y, x, window, x, laid[0], y, out.beta, laid[1], *_taps(tap.array))


@max_pool_vjp.on("cuda", *_source.dtypes)
def _(g: Any, tap: Any, window: Window, *, out: Out) -> Call | None:
    dx = out.array
    laid = _laid(g, tap, dx)
    if laid is None:
        return None
    return _call(_largest_vjp, dx, dx, window, g, laid[0], *_taps(tap), laid[1], dx, out.beta, laid[2])


@avg_pool_kernel.on("cuda", *_source.dtypes)
def _(x: Any, window: Window, padded: bool, *, out: Out) -> Call | None:
    laid = _laid(x, out.array)
    if laid is None:
        return None
    return _call(_mean, out.array, x, window, x, laid[0], padded, out.array, out.beta, laid[1])


@avg_pool_vjp.on("cuda", *_source.dtypes)
def _(g: Any, window: Window, padded: bool, *, out: Out) -> Call | None:
    laid = _laid(g, out.array)
    if laid is None:
        return None
    return _call(_mean_vjp, out.array, out.array, window, g, laid[0], padded, out.array, out.beta, laid[1])
