"""Reductions: sum, mean and prod; and the running sum, cumsum."""

from __future__ import annotations

import math
from typing import Any

from ag import kernels
from ag.op import op
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import DType, int64, is_float
from ownt.kernel import Out, kernel

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


def sum_dtype(x: Tensor) -> DType:
    """The dtype of a sum or product of elements of x: int64 for integers and truth values."""
    return x.dtype if is_float(x.dtype) else int64


def summed(name: str, x: Tensor, axis: Axis, keepdims: bool) -> tuple[Tensor, tuple[int, ...], int]:
    """The sum over `axis`, the shape of it with the axes kept, and how many elements went into each."""
    axes = normal_axes(name, axis, x.ndim)
    kept = kept_shape(x.shape, axes)
    y = scratch.empty(kept, like=x, dtype=sum_dtype(x))
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


@kernel
def prod_kernel(x: Any, axes: tuple[int, ...], *, out: Out) -> None:
    out.store(devices.module(x).prod(x, axes, keepdims=True))


@kernel
def prod_vjp(g: Any, x: Any, axes: tuple[int, ...], *, out: Out) -> None:
    """g times the product of the other elements: of those before and of those after, so that zeros do no harm

    Shapes: g with the axes kept, x -> out like x
    """
    if not x.size:
        return
    xp = devices.module(x)
    order = (*(a for a in range(x.ndim) if a not in axes), *axes)  # the reduced axes last, then as one
    turned = x.transpose(order)
    flat = turned.reshape(*turned.shape[: x.ndim - len(axes)], math.prod(x.shape[a] for a in axes))
    one = xp.ones_like(flat[..., :1])
    before = xp.cumprod(xp.concatenate([one, flat[..., :-1]], -1), -1)
    after = xp.cumprod(xp.concatenate([one, flat[..., :0:-1]], -1), -1)[..., ::-1]
    others = (before * after).reshape(turned.shape).transpose(tuple(order.index(a) for a in range(x.ndim)))
    out.store(g * others)


@op(integers=True)
def prod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """y = the product of x over `axis`, all axes by default; of integers and truth values an int64

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  x
    """
    axes = normal_axes("prod", axis, x.ndim)
    kept = scratch.empty(kept_shape(x.shape, axes), like=x, dtype=sum_dtype(x))
    prod_kernel(x, axes, out=Out(kept))
    return kept if keepdims else kept.view(reduced_shape(x.shape, axes)), (x, kept.shape, axes)


@prod.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    x, shape, axes = saved
    prod_vjp(g.view(shape), x, axes, out=dx.out())


@kernel
def cumsum_kernel(x: Any, axis: int, *, out: Out) -> None:
    out.store(devices.module(x).cumsum(x, axis))


@op(integers=True)
def cumsum(x: Tensor, axis: int) -> Any:
    """y = the sum of the elements up to and with each along an axis; of integers and truth values an int64

    Shapes: x any -> y the same
    Saves:  the axis
    """
    (axis,) = normal_axes("cumsum", axis, x.ndim)
    y = scratch.empty(x.shape, like=x, dtype=sum_dtype(x))
    cumsum_kernel(x, axis, out=Out(y))
    return y, (axis,)


@cumsum.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    (axis,) = saved
    backwards = (slice(None),) * axis + (slice(None, None, -1),)
    cumsum_kernel(g[backwards], axis, out=dx.out()[backwards])


prod.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), axis=(0, -1)),
    Sample(normal(2, 3, 4), axis=1, keepdims=True),
    Sample(normal()),
    Sample(normal(2, 1), axis=1),
    Sample(normal(2, 3), axis=()),
]
cumsum.samples = [
    Sample(normal(3, 4), 0),
    Sample(normal(3, 4), -1),
    Sample(normal(2, 3, 4), axis=1),
    Sample(normal(1), 0),
]
sum.samples = mean.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), axis=(0, -1)),
    Sample(normal(2, 3, 4), axis=1, keepdims=True),
    Sample(normal()),
    Sample(normal(1, 1)),
    Sample(normal(2, 3), axis=()),
]
