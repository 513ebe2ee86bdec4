"""Reductions: sum and mean."""

from __future__ import annotations

import math
from typing import Any

from ag import kernels
from ag.op import op
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt.dtype import int64, is_float
from ownt.kernel import Out

Axis = int | tuple[int, ...] | None


def normal_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes as ascending numbers from 0. Raises: ValueError naming the op for one out of range, or named twice."""
    given = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = sorted(a + ndim if a < 0 else a for a in given)
    if any(not 0 <= a < ndim for a in axes) or len(set(axes)) < len(axes):
        raise ValueError(
            f"{name}: expected different axes from {-ndim} to {ndim - 1}; got axis={axis} for {ndim} dimensions"
        )
    return tuple(axes)


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with size 1 along the reduced axes."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` without the reduced axes."""
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def summed(name: str, x: Tensor, axis: Axis, keepdims: bool) -> tuple[Tensor, tuple[int, ...], int]:
    """The sum over `axis`, the shape of it with the axes kept, and how many elements went into each."""
    axes = normal_axes(name, axis, x.ndim)
    kept = kept_shape(x.shape, axes)
    y = scratch.empty(kept, like=x, dtype=x.dtype if is_float(x.dtype) else int64)
    kernels.sum_to(x, out=Out(y))
    count = math.prod(x.shape[a] for a in axes)
    return y if keepdims else y.view(reduced_shape(x.shape, axes)), kept, count


@op(integers=True)
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """y = the sum of x over `axis`, all axes by default; of integers and truth values an int64

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  a shape
    """
    y, kept, _ = summed("sum", x, axis, keepdims)
    return y, (kept,)


@sum.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    kernels.copy(g.view(*saved), out=dx.out())


@op
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """y = the mean of x over `axis`, all axes by default; NaN of no elements

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  a shape
    """
    y, kept, count = summed("mean", x, axis, keepdims)
    factor = 1 / count if count else math.nan
    kernels.scale(y, factor, out=Out(y))
    return y, (kept, factor)


@mean.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    kept, factor = saved
    kernels.scale(g.view(kept), factor, out=dx.out())


sum.samples = mean.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), axis=(0, -1)),
    Sample(normal(2, 3, 4), axis=1, keepdims=True),
    Sample(normal()),
    Sample(normal(1, 1)),
    Sample(normal(2, 3), axis=()),
]
