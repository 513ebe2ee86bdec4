"""Losses element by element on CUDA devices; kernels in losses.cu, called as ours are."""

from __future__ import annotations

from typing import Any

from ag.along_cuda import sums
from ag.ops.losses import BCE, KL, L1, MSE, SMOOTH_L1, ElementLoss
from ownt import device as devices
from ownt.calls import Call, Calls
from ownt.cuda_elementwise import THREADS, blocks
from ownt.cuda_source import Source
from ownt.cuda_strided import layout
from ownt.kernel import Kernel, Out

_source = Source(__file__)
_finish = _source.kernel("finish_loss")


def _given(loss: ElementLoss, inputs: tuple[Any, ...]) -> tuple[list[Any], list[float]]:
    """Arrays, or None where a weight is 1; and the loss's option, 0 unless it has one. BCE has weights instead."""
    arrays = [x for x in inputs if x is None or devices.is_array(x)]
    return arrays, [] if loss is BCE else [next((x for x in inputs if isinstance(x, (int, float))), 0)]


def _pointwise(loss: ElementLoss, kernel: Kernel) -> None:
    code = _source.kernel(kernel.name)

    @kernel.on("cuda", *_source.dtypes)
    def bind(*inputs: Any, out: Out) -> Call | None:
        y, (given, option) = out.array, _given(loss, inputs)
        arrays = [x for x in given if x is not None]
        found = layout(y, *arrays)
        if found is None or any(x.dtype != y.dtype for x in arrays):
            return None
        there, *strides = found.strides
        lies = iter(strides)
        operands = [part for x in given for part in ((None, there) if x is None else (x, next(lies)))]
        launch = code.launch(devices.of(y), y.dtype, blocks(y), THREADS)
        return launch, (*operands, *option, y, there, out.beta, found.sizes)


def _total(loss: ElementLoss) -> None:
    code = _source.kernel(loss.sum.name)

    @loss.sum.on("cuda", *_source.dtypes)
    def bind(shape: tuple[int, ...], factor: float, *inputs: Any, out: Out) -> Call | None:
        y, (given, option), calls = out.array, _given(loss, inputs), Calls(out.tensor)
        total = sums(calls, code, shape, (1,) * len(shape), *given, *option)
        if total is None or any(x.dtype != y.dtype for x in given if x is not None):
            return None
        calls.add(_finish.launch(devices.of(y), y.dtype, 1, 1), total.array, factor, y, out.beta)
        return calls.bound()


for _loss in (MSE, L1, SMOOTH_L1, BCE, KL):
    for _kernel in (_loss.value, _loss.slope_x, _loss.slope_targets):
        _pointwise(_loss, _kernel)
    _total(_loss)
