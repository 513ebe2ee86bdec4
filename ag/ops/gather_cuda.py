"""gather on CUDA devices; kernels in gather.cu."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ag import kernels
from ag.along_cuda import cut
from ag.ops.gather import argtopk_kernel, gather_kernel, gather_vjp
from ag.ops.reduce import kept_shape
from ownt import cuda_indices, scratch
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import in_order
from ownt.cuda_elementwise import THREADS
from ownt.cuda_source import Source
from ownt.cuda_strided import Sizes, layout
from ownt.kernel import Out

_source = Source(__file__)
_gather = _source.kernel("gather")
_gather_vjp = _source.kernel("gather_vjp")
_top = _source.kernel("top")
_BLOCKS = 1 << 14
_MOST_ROUNDS = 1 << 8  # of a search for the first k


@gather_kernel.on("cuda", *_source.dtypes)
def _(x: Any, axis: int, index: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    found = layout(y, _first(x, axis, index.shape), index)
    if found is None or not cuda_indices.known(index) or x.dtype != y.dtype:
        return None
    y_strides, x_strides, index_strides = found.strides
    launch = _gather.launch(devices.of(y), y.dtype, min(_BLOCKS, -(-y.size // THREADS)), THREADS)
    given = *cuda_indices.given(index), x.shape[axis]
    return launch, (x, x_strides, _along(x, axis), *given, index_strides, y, y_strides, out.beta, found.sizes)


@gather_vjp.on("cuda", *_source.dtypes)
def _(g: Any, axis: int, index: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    """Of half precision into a workspace in float32, so that each sum is rounded once."""
    wide = dtypes.wide(g.dtype)
    total = out.tensor if g.dtype == wide else scratch.workspace(out.array.shape, g, wide)
    sums = total.array
    found = layout(*(_first(array, axis, index.shape) for array in (g, index, sums)))
    if found is None or not cuda_indices.known(index) or g.dtype != out.array.dtype:
        return None
    g_strides, index_strides, strides = found.strides
    blocks = min(_BLOCKS, -(-math.prod(found.sizes) // THREADS))
    launch = _gather_vjp.launch(devices.of(g), g.dtype, blocks, THREADS)
    given = *cuda_indices.given(index), sums.shape[axis], index_strides, _along(index, axis)
    there = sums, strides, _along(sums, axis), found.sizes, index.shape[axis]
    adding = launch, (g, g_strides, _along(g, axis), *given, *there)
    if total is out.tensor:
        return adding
    return in_order(kernels.fill.bind(0, out=Out(total)), adding, kernels.cast.bind(sums, out=out.then_add()))


@argtopk_kernel.on("cuda", "int64", *_source.dtypes)
def _(x: Any, k: int, axis: int, largest: bool, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    if not k:
        return in_order()
    if x.dtype.name not in _source.dtypes or out.beta or k > _MOST_ROUNDS:
        return None
    found = cut(x.shape, kept_shape(x.shape, (axis,)), x, _first(y, axis, x.shape))
    if found is None:
        return None
    launch = _top.launch(devices.of(x), x.dtype, found.grid[0], found.block)  # no parts
    of_x, (of_y, _) = found.strides
    return launch, (x, *of_x, largest, k, y, of_y, (0, 0, 0, _along(y, axis)), found.kept, found.along)


def _first(array: Any, axis: int, shape: Sizes) -> Any:
    """The part of it that an index of `shape` sees, of `axis` but the first."""
    return array[tuple([slice(1 if a == axis else size) for a, size in enumerate(shape)])]


def _along(array: Any, axis: int) -> int:
    return array.strides[axis] // array.itemsize
