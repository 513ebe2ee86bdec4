"""prod and cumsum on CUDA devices; kernels in reduce.cu."""

from __future__ import annotations

from typing import Any

from ag import kernels
from ag.along_cuda import Cut, cut
from ag.ops import reduce
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import Call, Calls
from ownt.cuda_source import CudaKernel, Launch, Source
from ownt.kernel import Out

_source = Source(__file__)
_product, _product_vjp = _source.kernel("product"), _source.kernel("product_vjp")
_running_sum = _source.kernel("running_sum")
_WARP, _ROWS = 32, 8


def _by_warps(code: CudaKernel, x: Any, found: Cut) -> Launch:
    """The launch of a kernel with a warp for each result."""
    return code.launch(devices.of(x), x.dtype, -(-found.results // _ROWS), (_WARP, _ROWS))


@reduce.prod_kernel.on("cuda", *_source.dtypes)
def _(x: Any, axes: tuple[int, ...], *, out: Out) -> Call | None:
    y, calls = out.array, Calls(out.tensor)
    found = cut(x.shape, y.shape, x)
    if found is None or x.dtype != y.dtype or not y.flags.c_contiguous:
        return None
    launch = _product.launch(devices.of(x), x.dtype, found.grid, found.block)
    given = x, *found.strides[0], found.kept, found.along
    if found.parts == 1:
        return launch, (*given, y, None, out.beta)
    parts = calls.workspace((found.parts, *y.shape), dtypes.wide(x.dtype))
    calls.add(launch, *given, None, parts.array, 0)
    whole = Out(calls.workspace((1, *y.shape), parts.dtype))
    calls.launch(reduce.prod_kernel, parts.array, (0,), out=whole)
    calls.launch(kernels.cast, whole.array, out=out.view(whole.array.shape))
    return calls.bound()


@reduce.prod_vjp.on("cuda", *_source.dtypes)
def _(g: Any, x: Any, axes: tuple[int, ...], *, out: Out) -> Call | None:
    dx, calls = out.array, Calls(out.tensor)
    found = cut(x.shape, g.shape, g, x, dx)
    if found is None or not g.dtype == x.dtype == dx.dtype:
        return None
    work = calls.workspace((x.size,), dtypes.wide(x.dtype))
    of_g, of_x, of_dx = found.strides
    there = dx, *of_dx, work.array, out.beta, found.kept, found.along
    calls.add(_by_warps(_product_vjp, x, found), g, *of_g, x, *of_x, *there)
    return calls.bound()


@reduce.cumsum_kernel.on("cuda", *_source.dtypes)
def _(x: Any, axis: int, *, out: Out) -> Call | None:
    y = out.array
    found = cut(x.shape, reduce.kept_shape(x.shape, (axis,)), x, y)
    if found is None or x.dtype != y.dtype:
        return None
    of_x, of_y = found.strides
    return _by_warps(_running_sum, x, found), (x, *of_x, y, *of_y, out.beta, found.kept, found.along)
