"""Convolution on CUDA: cuDNN's, of images and weights with their channels last; else kernels of our own, in conv.cu.

What lies otherwise is copied into a workspace for cuDNN, as weights (O, C, KH, KW) are unless a window is one pixel:
they are small beside images. Numbers of float32 are not rounded to TF32. Our own kernels serve where cuDNN is missing
and for float64: they use no tensor cores, and take a tile of 64 output channels even of a group that has one.
"""

from __future__ import annotations

from typing import Any

from ag import kernels
from ag.ops.channels_cuda import channel_sums
from ag.ops.conv import conv_bias_vjp, conv_input_vjp, conv_kernel, conv_weight_vjp
from ag.ops.window import Window
from ownt import cudnn, scratch
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import Call, Calls, in_order
from ownt.cuda_source import CudaKernel, Source
from ownt.kernel import Out
from ownt.layout import FROM_LAST, TO_LAST

_source = Source(__file__)
_forward, _inputs_vjp = _source.kernel("conv_forward"), _source.kernel("conv_inputs_vjp")
_weights_vjp, _add_parts = _source.kernel("conv_weights_vjp"), _source.kernel("conv_add_parts")

_TILE, _THREADS = 64, 256  # as in conv.cu
_BLOCKS = 512  # that a gradient of weights is cut into parts for
_PART, _PARTS_NUMBERS = 256, 1 << 24  # places of a part at least; numbers of all parts at most
_WORKSPACE_BYTES = 1 << 29  # of a plan of cuDNN's at most: left to itself, it takes any for a little time
_MOST_GROUPS, _MOST = 65535, 1 << 31  # of a grid's third axis; numbers of an array


def conv_fprop(graph: cudnn.Graph, x: cudnn.Layout, w: cudnn.Layout, y: cudnn.Layout, **window: Any) -> None:
    """The graph of x, w -> y"""
    graph.most_workspace_bytes = _WORKSPACE_BYTES
    graph.output(graph.operations.conv_fprop(graph.input(x), graph.input(w), **window), y)


def conv_dgrad(graph: cudnn.Graph, g: cudnn.Layout, w: cudnn.Layout, dx: cudnn.Layout, **window: Any) -> None:
    """The graph of g, w -> dx"""
    graph.most_workspace_bytes = _WORKSPACE_BYTES
    graph.output(graph.operations.conv_dgrad(graph.input(g), graph.input(w), **window), dx)


def conv_wgrad(graph: cudnn.Graph, x: cudnn.Layout, g: cudnn.Layout, dw: cudnn.Layout, **window: Any) -> None:
    """The graph of x, g -> dw"""
    graph.most_workspace_bytes = _WORKSPACE_BYTES
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
    if first.dtype == dtypes.float64 or not (first.size and second.size and cudnn.serves(devices.of(out.array))):
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


def _lies(array: Any) -> bool | None:
    """Whether images have their channels last, or else first; None if they lie otherwise."""
    last = _is_last(array)
    return last if last or array.flags.c_contiguous else None


def _own(
    kernel: CudaKernel, rows: int, columns: int, of: tuple[Any, Any, Window, int], *arguments: Any,
    parts: int = 1,
) -> Call:  # fmt: skip
    """The launch of a kernel of ours for a product of so many rows and columns a group.

    of: images x, weights, and how those go over these
    """
    x, w, window, groups = of
    launch = kernel.launch(devices.of(x), x.dtype, (-(-rows // _TILE), -(-columns // _TILE), groups * parts), _THREADS)
    return launch, (*arguments, len(w), groups, *x.shape, *(n for pair in window for n in pair))


def _serves(images: tuple[Any, Any], w: Any, groups: int) -> bool:
    """Whether our kernels take images of x and y, and weights."""
    laid = all(_lies(array) is not None and 0 < array.size < _MOST for array in images)
    alike = all(array.dtype == w.dtype for array in images)
    return laid and alike and w.flags.c_contiguous and 0 < w.size < _MOST and groups <= _MOST_GROUPS


def _pixels(images: Any) -> int:
    return images.size // images.shape[1]


@conv_kernel.on("cuda", *_source.dtypes)
def _(x: Any, w: Any, b: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    found, y = _bind(conv_fprop, x, w, window, out, b), out.array
    if found is not None or not _serves((x, y), w, groups):
        return found
    arguments = x, _lies(x), w, b, y, _lies(y), out.beta
    return _own(_forward, _pixels(y), len(w) // groups, (x, w, window, groups), *arguments)


@conv_input_vjp.on("cuda", *_source.dtypes)
def _(g: Any, w: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    found, dx = _bind(conv_dgrad, g, w, window, out), out.array
    if found is not None or not _serves((dx, g), w, groups):
        return found
    arguments = g, _lies(g), w, dx, _lies(dx), out.beta
    return _own(_inputs_vjp, _pixels(dx), w.shape[1], (dx, w, window, groups), *arguments)


@conv_weight_vjp.on("cuda", *_source.dtypes)
def _(g: Any, x: Any, window: Window, groups: int, *, out: Out) -> Call | None:
    found, dw = _bind(conv_wgrad, x, g, window, out), out.array
    if found is not None or not _serves((x, g), dw, groups):
        return found
    rows, columns = len(dw) // groups, dw[0].size
    tiles = -(-rows // _TILE) * -(-columns // _TILE) * groups
    most = min(_BLOCKS // tiles, _pixels(g) // _PART, _PARTS_NUMBERS // dw.size, _MOST_GROUPS // groups)
    of = x, dw, window, groups
    if most < 2:
        return _own(_weights_vjp, rows, columns, of, g, _lies(g), x, _lies(x), None, dw, out.beta)
    parts = scratch.workspace((most, dw.size), x, dtypes.wide(x.dtype)).array
    first = _own(_weights_vjp, rows, columns, of, g, _lies(g), x, _lies(x), parts, dw, out.beta, parts=most)
    add = _add_parts.launch(devices.of(x), x.dtype, -(-dw.size // _THREADS), _THREADS)
    return in_order(first, (add, (parts, dw, out.beta, most, dw.size)))


@conv_bias_vjp.on("cuda", *_source.dtypes)
def _(g: Any, *, out: Out) -> Call | None:
    return channel_sums(g, out)
