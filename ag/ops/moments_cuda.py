"""var and std on CUDA devices; kernels in moments.cu."""

from __future__ import annotations

import math
from typing import Any

from ag import kernels
from ag.along_cuda import sums
from ag.ops import moments
from ownt import Tensor
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import Call, Calls
from ownt.cuda_elementwise import THREADS, blocks
from ownt.cuda_source import Source
from ownt.cuda_strided import layout, operands
from ownt.kernel import Kernel, Out

_source = Source(__file__)
_squared_deviations, _spread = _source.kernel("squared_deviations"), _source.kernel("spread")


def _sum(calls: Calls, x: Any, shape: tuple[int, ...]) -> tuple[Tensor, float]:
    """The sum of x, a workspace with the axes kept, and one over how many numbers are in each."""
    total = calls.workspace(shape, dtypes.wide(x.dtype))
    calls.launch(kernels.sum_to, x, out=Out(total))
    return total, 1 / max(1, x.size // max(1, math.prod(shape)))


def _forward(kernel: Kernel, root: bool) -> None:
    @kernel.on("cuda", *_source.dtypes)
    def bind(x: Any, axes: tuple[int, ...], factor: float, *, out: Out) -> Call | None:
        y, calls = out.array, Calls(out.tensor)
        if x.dtype != y.dtype:
            return None
        total, share = _sum(calls, x, y.shape)
        squares = sums(calls, _squared_deviations, x.shape, y.shape, x, total.array, share)
        found = None if squares is None else layout(y, squares.array)
        if squares is None or found is None:
            return None
        there, strides = found.strides
        launch = _spread.launch(devices.of(y), y.dtype, blocks(y), THREADS)
        calls.add(launch, squares.array, strides, factor, root, y, there, out.beta, found.sizes)
        return calls.bound()


def _backward(kernel: Kernel) -> None:
    code = _source.kernel(kernel.name)

    @kernel.on("cuda", *_source.dtypes)
    def bind(g: Any, x: Any, *rest: Any, out: Out) -> Call | None:
        *others, _, factor = rest  # the deviation, of std
        dx, calls = out.array, Calls(out.tensor)
        total, share = _sum(calls, x, g.shape)
        arrays = g, x, *others, total.array
        found = layout(dx, *arrays)
        if found is None or any(part.dtype != dx.dtype for part in (g, x, *others)):
            return None
        launch = code.launch(devices.of(dx), dx.dtype, blocks(dx), THREADS)
        calls.add(launch, *operands(arrays, found), share, factor, dx, found.strides[0], out.beta, found.sizes)
        return calls.bound()


_forward(moments.var_kernel, False)
_forward(moments.std_kernel, True)
_backward(moments.var_vjp)
_backward(moments.std_vjp)
