"""softmax along an axis."""

from __future__ import annotations

from typing import Any

from ag.op import op
from ag.ops import reduce
from ag.sample import Sample, between, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel


@kernel
def softmax_kernel(x: Any, axis: int, *, out: Out) -> None:
    if x.size:
        e = x - x.max(axis, keepdims=True)
        devices.module(x).exp(e, out=e)
        e /= e.sum(axis, keepdims=True)
        out.store(e)


@kernel
def softmax_vjp(g: Any, y: Any, axis: int, *, out: Out) -> None:
    out.store(y * (g - (g * y).sum(axis, keepdims=True)))


@op
def softmax(x: Tensor, axis: int = -1) -> Any:
    """y = e^x / sum(e^x) along an axis

    Shapes: x any -> y the same
    Saves:  y
    """
    (axis,) = reduce.normal_axes("softmax", axis, x.ndim)
    y = scratch.empty(x.shape, like=x)
    softmax_kernel(x, axis, out=Out(y))
    return y, (y, axis)


@softmax.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    softmax_vjp(g, *saved, out=dx.out())


softmax.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), 1),
    Sample(between(-80, 80, 2, 5)),
    Sample(normal(1)),
    Sample(normal(0, 3)),
]
