"""softmax, log_softmax and logsumexp on CUDA devices; kernels in softmax.cu, which work on rows: on copies where the
axes are not the last, or arrays have gaps."""

from __future__ import annotations

import math
from typing import Any

from ag import kernels
from ag.kernels_cuda import in_line
from ag.ops import softmax
from ownt.calls import Call, Calls, in_order
from ownt.cuda_rows import fits, launch
from ownt.cuda_source import CudaKernel, Source
from ownt.kernel import Kernel, Out

_source = Source(__file__)
_logsumexp = _source.kernel("logsumexp_forward")
_logsumexp_vjp = _source.kernel("logsumexp_backward")


def _in_rows(code: CudaKernel, shape: tuple[int, ...], axes: tuple[int, ...], arrays: tuple, out: Out) -> Call | None:
    """The launch of a kernel on rows, each of all that lies along `axes` of an array of `shape`; of others these axes
    may have size 1. None for too many.
    """
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    rows, width = (math.prod(shape[axis] for axis in part) for part in (kept, axes))
    if not out.array.size:
        return in_order()
    if not fits(rows, width):
        return None
    order = (*kept, *axes)
    given, target = [array.transpose(order) for array in arrays], Out(out.tensor.transpose(order), out.beta)
    run = launch(code, out.array, rows, width)
    if all(array.flags.c_contiguous for array in (*given, target.array)):
        return run, (*given, target.array, out.beta, rows, width)
    calls = Calls(out.tensor)
    lines = [in_line(calls, array, array.shape) for array in given]
    work = calls.workspace(target.array.shape)
    calls.add(run, *lines, work.array, 0, rows, width)
    calls.launch(kernels.copy, work.array, out=target)
    return calls.bound()


def _along_an_axis(kernel: Kernel, code: CudaKernel) -> None:
    @kernel.on("cuda", *_source.dtypes)
    def _(*inputs: Any, out: Out) -> Call | None:
        *arrays, axis = inputs
        return _in_rows(code, out.array.shape, (axis,), tuple(arrays), out)


_along_an_axis(softmax.softmax_kernel, _source.kernel("softmax_forward"))
_along_an_axis(softmax.softmax_vjp, _source.kernel("softmax_backward"))
_along_an_axis(softmax.log_softmax_kernel, _source.kernel("log_softmax_forward"))
_along_an_axis(softmax.log_softmax_vjp, _source.kernel("log_softmax_backward"))


@softmax.logsumexp_kernel.on("cuda", *_source.dtypes)
def _(x: Any, axes: tuple[int, ...], *, out: Out) -> Call | None:
    return _in_rows(_logsumexp, x.shape, axes, (x,), out) if x.size else kernels.fill.bind(-math.inf, out=out)


@softmax.logsumexp_vjp.on("cuda", *_source.dtypes)
def _(g: Any, x: Any, y: Any, *, out: Out) -> Call | None:
    axes = tuple(axis for axis in range(x.ndim) if y.shape[axis] < x.shape[axis])
    return _in_rows(_logsumexp_vjp, x.shape, axes, (g, x, y), out)
