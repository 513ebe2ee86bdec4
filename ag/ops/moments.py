"""var and std over axes, corrected for the degrees of freedom as PyTorch's."""

from __future__ import annotations

import math
from typing import Any

from ag.op import op
from ag.ops import reduce
from ag.ops.reduce import Axis
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel


@kernel
def var_kernel(x: Any, axes: tuple[int, ...], factor: float, *, out: Out) -> None:
    """out = factor times the sum of (x - mean)²; factor is 1 / (n - correction)"""
    d = x - x.mean(axes, keepdims=True)
    d *= d
    out.store(d.sum(axes, keepdims=True) * factor)


@kernel
def var_vjp(g: Any, x: Any, axes: tuple[int, ...], factor: float, *, out: Out) -> None:
    d = x - x.mean(axes, keepdims=True)
    d *= g * (2 * factor)
    out.store(d)


@kernel
def std_kernel(x: Any, axes: tuple[int, ...], factor: float, *, out: Out) -> None:
    d = x - x.mean(axes, keepdims=True)
    d *= d
    out.store(devices.module(x).sqrt(d.sum(axes, keepdims=True) * factor))


@kernel
def std_vjp(g: Any, x: Any, y: Any, axes: tuple[int, ...], factor: float, *, out: Out) -> None:
    """Where the deviation is 0 its slope is 0"""
    d = x - x.mean(axes, keepdims=True)
    d *= devices.module(x).where(y == 0, 0, g * factor / y)
    out.store(d)


def spread(name: str, function: Any, x: Tensor, axis: Axis, keepdims: bool, correction: int) -> tuple[Tensor, tuple]:
    """The result, and (result with the axes kept, axes, factor)."""
    axes = reduce.normal_axes(name, axis, x.ndim)
    freedom = math.prod(x.shape[a] for a in axes) - correction
    factor = 1 / freedom if freedom > 0 else math.inf
    kept = scratch.empty(reduce.kept_shape(x.shape, axes), like=x)
    function(x, axes, factor, out=Out(kept))
    return (kept if keepdims else kept.view(reduce.reduced_shape(x.shape, axes))), (kept, axes, factor)


@op
def var(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Any:
    """y = the sum of (x - mean)² over `axis` / (n - correction); NaN if n is no larger than the correction

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  x
    """
    y, (kept, axes, factor) = spread("var", var_kernel, x, axis, keepdims, correction)
    return y, (x, kept.shape, axes, factor)


@var.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    x, shape, axes, factor = saved
    var_vjp(g.view(shape), x, axes, factor, out=dx.out())


@op
def std(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Any:
    """y = the square root of the variance

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  x, y
    """
    y, (kept, axes, factor) = spread("std", std_kernel, x, axis, keepdims, correction)
    return y, (x, kept, axes, factor)


@std.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    x, y, axes, factor = saved
    std_vjp(g.view(y.shape), x, y, axes, factor, out=dx.out())


var.samples = std.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), axis=(0, -1)),
    Sample(normal(2, 3, 4), axis=1, keepdims=True),
    Sample(normal(3, 4), 1, correction=0),
    Sample(normal(5), correction=2),
]
