"""Pooling of images: the largest, or the mean, of what a window sees."""

from __future__ import annotations

from typing import Any

from ag.op import op, where
from ag.ops.window import Pair, Window, check_images, window
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import int32, uint8
from ownt.kernel import Out, kernel


@kernel
def max_pool_kernel(x: Any, window: Window, *, out: Out, tap: Out) -> None:
    """out = the largest of each window, tap = which of its elements that is, row by row; the first of equals, or NaN"""
    xp = devices.module(x)
    best = xp.full(out.array.shape, -xp.inf, x.dtype)
    which = xp.full(out.array.shape, -1, xp.int32)
    for number, place in enumerate(window.taps()):
        (rows, columns), (down, across) = window.under(place, x.shape[2:])
        key = (slice(None), slice(None), down, across)
        value, before = x[:, :, rows, columns], best[key]
        better = (value > before) | ((value != value) & (before == before)) | (which[key] < 0)
        best[key] = xp.where(better, value, before)
        which[key] = xp.where(better, number, which[key])
    out.store(best)
    tap.store(which)


@kernel
def max_pool_vjp(g: Any, tap: Any, window: Window, *, out: Out) -> None:
    """out = g where the largest was, and 0 elsewhere"""
    out.store(0)
    for number, place in enumerate(window.taps()):
        (rows, columns), (down, across) = window.under(place, out.array.shape[2:])
        share = devices.module(g).where(tap == number, g, 0)
        out.then_add()[:, :, rows, columns].store(share[:, :, down, across])


@kernel
def avg_pool_kernel(x: Any, window: Window, padded: bool, *, out: Out) -> None:
    """out = the mean of each window, with its padding as zeros if `padded`, else of the pixels alone"""
    xp = devices.module(x)
    total = xp.zeros(out.array.shape, x.dtype)
    for place in window.taps():
        (rows, columns), (down, across) = window.under(place, x.shape[2:])
        total[:, :, down, across] += x[:, :, rows, columns]
    out.store(total * _shares(xp, x.dtype, window, padded, x.shape[2:]))


@kernel
def avg_pool_vjp(g: Any, window: Window, padded: bool, *, out: Out) -> None:
    """out = each pixel's share of g"""
    out.store(0)
    g = g * _shares(devices.module(g), g.dtype, window, padded, out.array.shape[2:])
    for place in window.taps():
        (rows, columns), (down, across) = window.under(place, out.array.shape[2:])
        out.then_add()[:, :, rows, columns].store(g[:, :, down, across])


def _shares(xp: Any, dtype: Any, window: Window, padded: bool, image: tuple[int, int]) -> Any:
    """What part of a window's mean each of its elements is, at each of its places."""
    if padded:
        return xp.asarray(1 / (window.size[0] * window.size[1]), dtype)
    seen = xp.zeros(window.output(*image), dtype)
    for place in window.taps():
        _, (down, across) = window.under(place, image)
        seen[down, across] += 1
    return 1 / seen


def _pooling(name: str, x: Tensor, size: Any, stride: Any, padding: Any, dilation: Any = 1) -> tuple[Window, Tensor]:
    """The window, and where to put its results.

    Raises: ValueError unless every window sees at least one pixel.
    """
    slide = window(name, size, size if stride is None else stride, padding, dilation)
    if any(2 * p > n for n, p in zip(slide.size, slide.padding, strict=True)):
        raise ValueError(
            f"{where(name)}: expected padding of at most half of the window's size; "
            f"got {slide.padding} for {slide.size}"
        )
    places = check_images(name, x, slide)
    if slide.dilation != (1, 1) and not slide.always_meets(x.shape[2:]):
        raise ValueError(
            f"{where(name)}: expected every window to meet a pixel; got padding {slide.padding} and "
            f"dilation {slide.dilation} for a window of {slide.size} on images {tuple(x.shape[2:])}"
        )
    shape = (*x.shape[:2], *places)
    return slide, scratch.images(shape, x)


@op
def max_pool2d(x: Tensor, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1) -> Any:
    """y = the largest of each window; its stride is its size unless given

    Shapes: x (N, C, H, W) -> y (N, C, OH, OW), its channels last in memory
    Saves:  which element of each window it is, a byte
    """
    slide, y = _pooling("max_pool2d", x, kernel_size, stride, padding, dilation)
    few = slide.size[0] * slide.size[1] < 256
    tap = scratch.images(y.shape, y, dtype=uint8 if few else int32)
    max_pool_kernel(x, slide, out=Out(y), tap=Out(tap))
    return y, (tap, slide)


@max_pool2d.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    max_pool_vjp(g, *saved, out=dx.out())


@op
def avg_pool2d(
    x: Tensor, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
) -> Any:
    """y = the mean of each window; its stride is its size unless given

    count_include_pad: whether the padding counts, as zeros.
    Shapes: x (N, C, H, W) -> y (N, C, OH, OW), its channels last in memory
    """
    slide, y = _pooling("avg_pool2d", x, kernel_size, stride, padding)
    avg_pool_kernel(x, slide, count_include_pad, out=Out(y))
    return y, (slide, count_include_pad)


@avg_pool2d.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    avg_pool_vjp(g, *saved, out=dx.out())


max_pool2d.samples = [
    Sample(normal(2, 3, 6, 5), 2),
    Sample(normal(1, 2, 7, 7), 3, 2, 1),
    Sample(normal(1, 2, 7, 6), (3, 2), (1, 2), (1, 0), (2, 1)),
]
avg_pool2d.samples = [
    Sample(normal(2, 3, 6, 5), 2),
    Sample(normal(1, 2, 7, 7), 3, 2, 1),
    Sample(normal(1, 2, 7, 6), (3, 2), 1, 1, False),
]
