"""max, min and their places, argmax, argmin, along axes."""

from __future__ import annotations

from typing import Any

from ag.op import op
from ag.ops import reduce
from ag.ops.reduce import Axis
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt.dtype import int64
from ownt.kernel import Kernel, Out, kernel


@kernel
def max_kernel(x: Any, axes: tuple[int, ...], *, out: Out) -> None:
    out.store(x.max(axes, keepdims=True))


@kernel
def min_kernel(x: Any, axes: tuple[int, ...], *, out: Out) -> None:
    out.store(x.min(axes, keepdims=True))


@kernel
def extreme_vjp(g: Any, x: Any, y: Any, axes: tuple[int, ...], *, out: Out) -> None:
    """The gradient goes to the elements that are the extreme, in equal parts. Shapes: g, y with the axes kept"""
    chosen = x == y
    out.store(chosen * (g / chosen.sum(axes, keepdims=True, dtype=x.dtype)))  # NaN where the extreme is NaN


@kernel
def argmax_kernel(x: Any, axis: int | None, *, out: Out) -> None:
    out.store(x.argmax(axis))


@kernel
def argmin_kernel(x: Any, axis: int | None, *, out: Out) -> None:
    out.store(x.argmin(axis))


def extreme(name: str, function: Kernel, x: Tensor, axis: Axis, keepdims: bool) -> tuple[Tensor, tuple]:
    """The extreme over axes, and what its gradient needs. Raises: ValueError where there is nothing to choose from."""
    axes = reduce.normal_axes(name, axis, x.ndim)
    if any(x.shape[a] == 0 for a in axes):
        raise ValueError(f"{name}: expected one element or more along axis {axis}; got shape {x.shape}")
    kept = scratch.empty(reduce.kept_shape(x.shape, axes), like=x)
    function(x, axes, out=Out(kept))
    y = kept if keepdims else kept.view(reduce.reduced_shape(x.shape, axes))
    return y, (x, kept, axes)


def place(name: str, function: Kernel, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    """The place of the extreme along an axis, or in x as one row."""
    axes = reduce.normal_axes(name, axis, x.ndim)
    if any(x.shape[a] == 0 for a in axes):
        raise ValueError(f"{name}: expected one element or more along axis {axis}; got shape {x.shape}")
    reduced = reduce.reduced_shape(x.shape, axes)
    y = scratch.empty(reduce.kept_shape(x.shape, axes) if keepdims else reduced, like=x, dtype=int64)
    function(x, axis, out=Out(y.view(reduced)))
    return y


def share_out(g: Tensor, saved: Any, dx: Any) -> None:
    """The gradient of max and of min."""
    x, y, axes = saved
    extreme_vjp(g.view(y.shape), x, y, axes, out=dx.out())


@op(integers=True)
def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """y = the largest of x over `axis`, all axes by default; equals share the gradient, as in PyTorch's amax

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  x, y
    """
    return extreme("max", max_kernel, x, axis, keepdims)


@op(integers=True)
def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """y = the smallest of x over `axis`, all axes by default; equals share the gradient, as in PyTorch's amin

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  x, y
    """
    return extreme("min", min_kernel, x, axis, keepdims)


@op(integers=True)
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """y = the place of the largest of x along an axis, the first of equals; by default in x as one row. No gradient

    Shapes: x any -> y int64, without that axis, or with size 1 there if keepdims
    """
    return place("argmax", argmax_kernel, x, axis, keepdims), ()


@op(integers=True)
def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """y = the place of the smallest of x along an axis, the first of equals; by default in x as one row. No gradient

    Shapes: x any -> y int64, without that axis, or with size 1 there if keepdims
    """
    return place("argmin", argmin_kernel, x, axis, keepdims), ()


max.vjp(share_out)
min.vjp(share_out)
max.samples = min.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), axis=(0, -1)),
    Sample(normal(2, 3, 4), axis=1, keepdims=True),
    Sample(normal()),
    Sample(normal(0, 3), axis=1),
]
argmax.samples = argmin.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), -1, True),
    Sample(normal(5), keepdims=True),
]
