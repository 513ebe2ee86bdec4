"""max, min and their places on CUDA devices; kernels in extremes.cu."""

from __future__ import annotations

from typing import Any

from ag.along_cuda import cut, sums
from ag.ops import extremes, reduce
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import Call, Calls
from ownt.cuda_elementwise import THREADS, blocks
from ownt.cuda_source import Source
from ownt.cuda_strided import layout
from ownt.kernel import Kernel, Out

_source = Source(__file__)
_extreme, _extreme_place = _source.kernel("extreme"), _source.kernel("extreme_place")
_count_extremes, _share_out = _source.kernel("count_extremes"), _source.kernel("share_out")


def _values(kernel: Kernel, sign: int) -> None:
    @kernel.on("cuda", *_source.dtypes)
    def bind(x: Any, axes: tuple[int, ...], *, out: Out) -> Call | None:
        y = out.array
        found = cut(x.shape, y.shape, x)
        if found is None or x.dtype != y.dtype or not y.flags.c_contiguous:
            return None
        launch = _extreme.launch(devices.of(x), x.dtype, found.grid, found.block)
        given = x, *found.strides[0], sign, found.kept, found.along
        if found.parts == 1:
            return launch, (*given, y, out.beta)
        calls = Calls(out.tensor)
        parts = calls.workspace((found.parts, *y.shape))
        calls.add(launch, *given, parts.array, 0)
        calls.launch(kernel, parts.array, (0,), out=out.view((1, *y.shape)))
        return calls.bound()


def _places(kernel: Kernel, sign: int) -> None:
    @kernel.on("cuda", "int64", *_source.dtypes)
    def bind(x: Any, axis: int | None, *, out: Out) -> Call | None:
        y = out.array
        if x.dtype.name not in _source.dtypes:
            return None
        target = reduce.kept_shape(x.shape, reduce.normal_axes(kernel.name, axis, x.ndim))
        found = cut(x.shape, target, x)
        if found is None or not y.flags.c_contiguous or out.beta:
            return None
        launch = _extreme_place.launch(devices.of(x), x.dtype, found.grid, found.block)
        given = x, *found.strides[0], sign
        if found.parts == 1:
            return launch, (*given, None, 0, found.kept, found.along, y)
        calls = Calls(out.tensor)
        parts = calls.workspace((found.parts, y.size), dtypes.int64)
        calls.add(launch, *given, None, 0, found.kept, found.along, parts.array)
        last = _extreme_place.launch(devices.of(x), x.dtype, (found.grid[0], 1), found.block)
        calls.add(last, *given, parts.array, found.parts, found.kept, found.along, y)
        return calls.bound()


_values(extremes.max_kernel, 1)
_values(extremes.min_kernel, -1)
_places(extremes.argmax_kernel, 1)
_places(extremes.argmin_kernel, -1)


@extremes.extreme_vjp.on("cuda", *_source.dtypes)
def _(g: Any, x: Any, y: Any, axes: tuple[int, ...], *, out: Out) -> Call | None:
    dx, calls = out.array, Calls(out.tensor)
    if not g.dtype == x.dtype == y.dtype == dx.dtype:
        return None
    counts = sums(calls, _count_extremes, x.shape, y.shape, x, y)
    found = None if counts is None else layout(dx, g, x, y, counts.array)
    if counts is None or found is None:
        return None
    there, *strides = found.strides
    given = [part for pair in zip((g, x, y, counts.array), strides, strict=True) for part in pair]
    calls.add(_share_out.launch(devices.of(x), x.dtype, blocks(dx), THREADS), *given, dx, there, out.beta, found.sizes)
    return calls.bound()
