"""Max pooling on the CPU, compiled: all channels of a pixel at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ag.ops.pool import max_pool_kernel, max_pool_vjp
from ag.ops.window import Window
from ownt.compiled_cpu import HEAVY, compiled, prange
from ownt.kernel import Out
from ownt.layout import TO_LAST


@compiled("void(real[:, :, :, ::1], int64[::1], real[:, :, :, ::1], uint8[:, :, :, ::1])", parallel=True)
def largest(x, window, y, tap):
    """window: its size, stride, padding and dilation, each of height and width"""
    images, high, wide, width = y.shape
    tall, broad, down, across, above, left, apart, aside = window
    for line in prange(images * high):
        image, p = line // high, line % high
        for q in range(wide):
            row, which = y[image, p, q], tap[image, p, q]
            first = True
            for i in range(tall):
                for j in range(broad):
                    r, c = p * down - above + i * apart, q * across - left + j * aside
                    if r < 0 or r >= x.shape[1] or c < 0 or c >= x.shape[2]:
                        continue
                    given, number = x[image, r, c], numpy.uint8(i * broad + j)
                    for k in range(width):
                        better = first or given[k] > row[k] or (given[k] != given[k] and row[k] == row[k])
                        row[k] = given[k] if better else row[k]
                        which[k] = number if better else which[k]
                    first = False


@compiled("void(real[:, :, :, ::1], uint8[:, :, :, ::1], int64[::1], real[:, :, :, ::1], int64)", parallel=True)
def scattered(g, tap, window, dx, beta):
    images, high, wide, width = g.shape
    tall, broad, down, across, above, left, apart, aside = window
    for image in prange(images):  # windows overlap, but those of two images do not
        if not beta:
            dx[image] = g.dtype.type(0)
        for p in range(high):
            for q in range(wide):
                slope, which = g[image, p, q], tap[image, p, q]
                for i in range(tall):
                    for j in range(broad):
                        r, c = p * down - above + i * apart, q * across - left + j * aside
                        if r < 0 or r >= dx.shape[1] or c < 0 or c >= dx.shape[2]:
                            continue
                        row, number = dx[image, r, c], numpy.uint8(i * broad + j)
                        for k in range(width):
                            row[k] += slope[k] if which[k] == number else g.dtype.type(0)


def _last(*arrays: Any) -> list[Any] | None:
    """Images as (N, H, W, C); None unless all lie so."""
    turned = [array.transpose(TO_LAST) for array in arrays]
    return turned if all(array.flags.c_contiguous and array.size for array in turned) else None


def _numbers(window: Window) -> Any:
    return numpy.array([n for pair in window for n in pair])


@max_pool_kernel.on("cpu", "float32", "float64")
def _(x: Any, window: Window, *, out: Out, tap: Out) -> tuple[Callable[..., None], tuple] | None:
    arrays = _last(x, out.array, tap.array)
    if arrays is None or tap.array.dtype != numpy.uint8 or out.beta:
        return None
    return largest[x.dtype, x.size > HEAVY], (arrays[0], _numbers(window), *arrays[1:])


@max_pool_vjp.on("cpu", "float32", "float64")
def _(g: Any, tap: Any, window: Window, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    arrays = _last(g, tap, out.array)
    if arrays is None or tap.dtype != numpy.uint8:
        return None
    return scattered[g.dtype, g.size > HEAVY], (*arrays[:2], _numbers(window), arrays[2], out.beta)
