"""Convolution on CUDA: cuDNN's, of images and weights with their channels last.

What lies otherwise is copied into a workspace first, as weights (O, C, KH, KW) do unless a window is one pixel: they
are small beside images. Numbers of float32 are not rounded to TF32. Where cuDNN is missing, and for float64, the
reference serves.
"""

from __future__ import annotations

from typing import Any

from ag import kernels
from ag.ops.conv import conv_input_vjp, conv_kernel, conv_weight_vjp
from ag.ops.window import Window
from ownt import cudnn
from ownt import device as devices
from ownt.calls import Call, Calls
from ownt.kernel import Out
from ownt.layout import FROM_LAST, TO_LAST

_DTYPES = "float16", "bfloat16", "float32"


def conv_fprop(graph: cudnn.Graph, x: cudnn.Layout, w: cudnn.Layout, y: cudnn.Layout, **window: Any) -> None:
    """The graph of x, w -> y"""
    graph.output(graph.operations.conv_fprop(graph.input(x), graph.input(w), **window), y)


def conv_dgrad(graph: cudnn.Graph, g: cudnn.Layout, w: cudnn.Layout, dx: cudnn.Layout, **window: Any) -> None:
    """The graph of g, w -> dx"""
    graph.output(graph.operations.conv_dgrad(graph.input(g), graph.input(w), **window), dx)


def conv_wgrad(graph: cudnn.Graph, x: cudnn.Layout, g: cudnn.Layout, dw: cudnn.Layout, **window: Any) -> None:
    """The graph of x, g -> dw"""
    graph.output(graph.operations.conv_wgrad(graph.input(x), graph.input(g), **window), dw)


def _slides(window: Window) -> dict[str, tuple[int, int]]:
    """How a window slides, as graphs take it."""
    return {"padding": window.padding, "stride": window.stride, "dilation": window.dilation}


def _is_last(array: Any) -> bool:
    """Whether (N, C, H, W) lies as one run of numbers with the channels last."""
    return array.transpose(TO_LAST).flags.c_contiguous


def _canonical(array: Any) -> Any:
    """Such an array with strides by which cuDNN sees how it lies, those of sizes of 1 too."""
    turned = array.transpose(TO_LAST)
    return turned.reshape(-1).reshape(turned.shape).transpose(FROM_LAST)


def _to_last(shape: tuple[int, ...], calls: Calls) -> Any:
    """A workspace for (N, C, H, W) with the channels last."""
    n, channels, height, width = shape
    return calls.workspace((n, height, width, channels)).transpose(FROM_LAST)


def _given(calls: Calls, array: Any) -> Any:
    """Images or weights with their channels last."""
    if _is_last(array):
        return _canonical(array)
    copy = _to_last(array.shape, calls)
    calls.launch(kernels.copy, array, out=Out(copy))
    return _canonical(copy.array)


def _bind(graph: cudnn.Describe, first: Any, second: Any, window: Window, out: Out, bias: Any = None) -> Call | None:
    """The launch of a graph of two arrays, and of what brings the result, with a bias, where it belongs."""
    if not (first.size and second.size and cudnn.serves(devices.of(out.array))):
        return None
    calls = Calls(out.tensor)
    place = Out(_to_last(out.array.shape, calls)) if out.beta or not _is_last(out.array) else out
    arrays = _given(calls, first), _given(calls, second), _canonical(place.array)
    if not cudnn.add(calls, graph, arrays, **_slides(window)):
        return None
    if place is not out:
        calls.launch(kernels.copy, place.array, out=out)
    if bias is not None:
        calls.launch(kernels.copy, bias[:, None, None], out=Out(out.tensor, 1))
    return calls.bound()


@conv_kernel.on("cuda", *_DTYPES)
def _(x: Any, w: Any, b: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    return _bind(conv_fprop, x, w, window, out, b)


@conv_input_vjp.on("cuda", *_DTYPES)
def _(g: Any, w: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    return _bind(conv_dgrad, g, w, window, out)


@conv_weight_vjp.on("cuda", *_DTYPES)
def _(g: Any, x: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    return _bind(conv_wgrad, x, g, window, out)
