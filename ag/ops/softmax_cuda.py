"""softmax, log_softmax and logsumexp on CUDA devices; kernels in softmax.cu.

Along axes that lie last and in one run of bytes; others are left to the references.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ag.ops import softmax
from ownt.cuda_rows import fits, launch
from ownt.cuda_source import CudaKernel, Source
from ownt.kernel import Kernel, Out

Bound = tuple[Callable[..., None], tuple] | None

_source = Source(__file__)
_logsumexp = _source.kernel("logsumexp_forward")
_logsumexp_vjp = _source.kernel("logsumexp_backward")


def _rows(x: Any, axes: tuple[int, ...], *others: Any) -> tuple[int, int] | None:
    """How many rows x has and how wide they are, if `axes` are the last and all arrays lie in one run of bytes; None
    if not, or if there are no numbers or too many.
    """
    first = min(axes, default=x.ndim)
    between = any(size > 1 for axis, size in enumerate(x.shape) if axis > first and axis not in axes)
    shape = math.prod(x.shape[:first]), math.prod(x.shape[first:])
    contiguous = all(array.flags.c_contiguous for array in (x, *others))
    return shape if contiguous and not between and fits(*shape) else None


def _along_an_axis(kernel: Kernel, code: CudaKernel) -> None:
    @kernel.on("cuda", *_source.dtypes)
    def _(*inputs: Any, out: Out) -> Bound:
        *arrays, axis = inputs
        shape = _rows(out.array, (axis,), *arrays)
        return shape and (launch(code, out.array, *shape), (*arrays, out.array, out.beta, *shape))


_along_an_axis(softmax.softmax_kernel, _source.kernel("softmax_forward"))
_along_an_axis(softmax.softmax_vjp, _source.kernel("softmax_backward"))
_along_an_axis(softmax.log_softmax_kernel, _source.kernel("log_softmax_forward"))
_along_an_axis(softmax.log_softmax_vjp, _source.kernel("log_softmax_backward"))


@softmax.logsumexp_kernel.on("cuda", *_source.dtypes)
def _(x: Any, axes: tuple[int, ...], *, out: Out) -> Bound:
    shape = _rows(x, axes, out.array)
    return shape and (launch(_logsumexp, x, *shape), (x, out.array, out.beta, *shape))


@softmax.logsumexp_vjp.on("cuda", *_source.dtypes)
def _(g: Any, x: Any, y: Any, *, out: Out) -> Bound:
    axes = tuple(axis for axis in range(x.ndim) if y.shape[axis] < x.shape[axis])
    shape = _rows(x, axes, g, y, out.array)
    return shape and (launch(_logsumexp_vjp, x, *shape), (g, x, y, out.array, out.beta, *shape))
