"""Convolution on the CPU: images with their channels last, weights in panels; see ag.ops.conv_tiles_cpu."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy

from ag import kernels
from ag.ops.conv import conv_bias_vjp, conv_input_vjp, conv_kernel, conv_weight_vjp
from ag.ops.conv_tiles_cpu import DEPTH, PIXELS, SLICES, SUMMED, correlate, slide, to_panels
from ag.ops.window import Window
from ownt import threads
from ownt.calls import Call, Calls
from ownt.kernel import Out
from ownt.lanes_cpu import BYTES
from ownt.layout import FROM_LAST, TO_LAST
from ownt.tile_cpu import VECTORS

_NARROW = 16  # channels below which a window's row of pixels is one tap
_SMALL = 1 << 18  # multiplications below which a second thread does not pay
_NO_BIAS = {numpy.dtype(name): numpy.empty(0, name) for name in ("float32", "float64")}


def _last(array: Any) -> Any:
    """Images (N, C, H, W) as (N, H, W, C) if that is one run of numbers, else None"""
    turned = array.transpose(TO_LAST)
    return turned if turned.flags.c_contiguous else None


def _taps(window: Window) -> Any:
    """(down, across, number) of each tap of the window, from its first pixel's place, padding counted."""
    offsets = [
        (i * window.dilation[0] - window.padding[0], j * window.dilation[1] - window.padding[1], number)
        for number, (i, j) in enumerate(window.taps())
    ]
    return numpy.array(offsets)


def _classes(window: Window) -> Iterator[tuple[Any, Any]]:
    """The taps that pixels of the input are seen by, and the grid of those pixels, for each remainder of their places
    by the stride; from a pixel of the input to those of the output."""
    offsets = _taps(window)
    for top in range(window.stride[0]):
        for left in range(window.stride[1]):
            taps = [
                ((top - i) // window.stride[0], (left - j) // window.stride[1], number)
                for i, j, number in offsets.tolist()
                if (top - i) % window.stride[0] == 0 and (left - j) % window.stride[1] == 0
            ]
            yield numpy.array(taps, numpy.int64).reshape(-1, 3), numpy.array((top, left, *window.stride, 1, 1))


@final
class _Plan:
    """Calls that are one launch.

    products: multiplications in all
    """

    def __init__(self, out: Out, products: int) -> None:
        self.wide = products > _SMALL
        self.parts = threads.get_num_threads() if self.wide else 1
        self.calls = Calls(out.tensor)

    def workspace(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.calls.workspace(shape, dtype).array

    def with_last(self, array: Any, padding: tuple[int, int] = (0, 0)) -> Any:
        """Images as (N, H, W, C), in a workspace that is filled if they do not lie so, or have no padding of zeros."""
        turned, (high, wide) = array.transpose(TO_LAST), padding
        if turned.flags.c_contiguous and padding == (0, 0):
            return turned
        n, height, width, channels = turned.shape
        found = self.workspace((n, height + 2 * high, width + 2 * wide, channels), array.dtype)
        if padding != (0, 0):
            self.calls.add(_store, 0, found, 0)
        self.calls.add(_store, turned, found[:, high : high + height, wide : wide + width], 0)
        return found

    def seen(self, x: Any, window: Window, groups: int) -> tuple[Any, Any, int]:
        """Images with their channels last, the taps that see them, and how many numbers each sees.

        Of few channels, the window's elements in a row are one tap: it sees pixels side by side, in padded images.
        """
        if groups == 1 and x.shape[1] < _NARROW and window.dilation[1] == 1:
            rows = [(i * window.dilation[0], 0, i * window.size[1] * x.shape[1]) for i in range(window.size[0])]
            return self.with_last(x, window.padding), numpy.array(rows), window.size[1] * x.shape[1]
        depth = x.shape[1] // groups
        return self.with_last(x), _taps(window) * (1, 1, depth), depth

    def slides(
        self, seen: tuple[Any, Any, int], w: Any, bias: Any, groups: int, of_inputs: bool, grids: Any, out: Out
    ) -> None:
        """Slide the weights over what is seen, for each of `grids`: (taps, grid)."""
        dtype, n = out.array.dtype, BYTES // out.array.itemsize
        given, _, run = seen
        w = w.reshape(*w.shape[:2], -1)
        outputs, depth, taps = w.shape[0] // groups, w.shape[1], w.shape[2]
        rows, width = (outputs, depth) if of_inputs else (depth, outputs)
        panels = self.workspace((groups * -(-width // n) * taps * rows * n,), dtype)
        self.calls.add(to_panels[dtype, self.wide], w, groups, of_inputs, panels)
        parts, channels = self.parts, given.shape[3]
        spare = self.workspace((parts, channels + PIXELS * n), dtype)
        self.calls.add(_store, 0, spare[:, :channels], 0)
        tables = self.workspace((parts, 2 * taps + 3, PIXELS), numpy.int64)
        y, beta = _last(out.array), out.beta
        direct = y is not None
        if not direct:
            y, beta = self.workspace(out.array.transpose(TO_LAST).shape, dtype), 0
        for some, grid in grids:
            arguments = (given, panels, groups, run, taps * rows, some, grid, bias, beta, y, tables, spare)
            self.calls.add(slide[dtype, self.wide], *arguments)
        if not direct:
            self.calls.add(_store, y.transpose(FROM_LAST), out.array, out.beta)

    def sums(self, g: Any, x: Any, window: Window, groups: int, out: Out) -> None:
        """The gradient of the weights."""
        dtype, n = out.array.dtype, BYTES // out.array.itemsize
        slopes, (given, taps, run) = self.with_last(g), self.seen(x, window, groups)
        parts, stretch = self.parts, VECTORS * n
        spare = self.workspace((parts, SUMMED * (DEPTH + stretch) + SLICES * DEPTH * stretch), dtype)
        tables = self.workspace((parts, len(taps) + 4, SUMMED), numpy.int64)
        dw = out.array.reshape(*out.array.shape[:2], -1)
        arguments = (slopes, given, groups, run, taps, _grid(window), out.beta, dw, tables, spare)
        self.calls.add(correlate[dtype, self.wide], *arguments)


def _products(y: Any, w: Any) -> int:
    """Of images y (N, O, OH, OW), each number of which is a sum over weights w (O, C / G, KH, KW)"""
    return y.size // y.shape[1] * w.size


def _grid(window: Window) -> Any:
    return numpy.array((0, 0, 1, 1, *window.stride))


def _store(value: Any, array: Any, beta: int) -> None:
    if beta:
        array += value
    else:
        array[...] = value


@conv_kernel.on("cpu", "float32", "float64")
def _(x: Any, w: Any, b: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    if not x.size or not w.flags.c_contiguous or not (b is None or b.flags.c_contiguous):
        return None
    plan, bias = _Plan(out, _products(out.array, w)), _NO_BIAS[out.array.dtype] if b is None else b
    seen = plan.seen(x, window, groups)
    plan.slides(seen, w, bias, groups, False, [(seen[1], _grid(window))], out)
    return plan.calls.bound()


@conv_input_vjp.on("cpu", "float32", "float64")
def _(g: Any, w: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    if not g.size or not w.flags.c_contiguous:
        return None
    plan, outputs = _Plan(out, _products(g, w)), w.shape[0] // groups
    grids = [(taps * (1, 1, outputs), grid) for taps, grid in _classes(window)]
    plan.slides((plan.with_last(g), None, outputs), w, _NO_BIAS[out.array.dtype], groups, True, grids, out)
    return plan.calls.bound()


@conv_weight_vjp.on("cpu", "float32", "float64")
def _(g: Any, x: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    if not g.size or not out.array.flags.c_contiguous:
        return None
    plan = _Plan(out, _products(g, out.array))
    plan.sums(g, x, window, groups, out)
    return plan.calls.bound()


@conv_bias_vjp.on("cpu", "float32", "float64")
def _(g: Any, *, out: Out) -> Call:
    last = _last(g)
    if last is None:
        return kernels.sum_to.bind(g, out=out.view((-1, 1, 1)))
    return kernels.sum_to.bind(last.reshape(-1, g.shape[1]) if g.size else last, out=out)
