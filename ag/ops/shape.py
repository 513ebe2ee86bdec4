"""Shapes: views (reshape, transpose, getitem), whose gradients are windows; and index, which copies."""

from __future__ import annotations

from typing import Any

from ag import kernels
from ag.node import Node
from ag.op import op, view_op
from ag.ops.ranges import check_range
from ag.sample import Sample, normal
from ownt import Tensor, indexing, scratch
from ownt import device as devices
from ownt.dtype import bool_
from ownt.kernel import Out, kernel
from ownt.launch import not_repeatable


@view_op(covers=True, same_order=True)
def reshape(x: Tensor, shape: tuple[int, ...]) -> Any:
    """y = x in another shape; one size may be -1. A view where the strides allow it

    Shapes: x any -> y `shape`, of as many elements
    Saves:  a shape
    """
    if not (x.is_contiguous or indexing.is_viewable(x, shape)):  # Tensor.reshape would copy to the heap
        copied = scratch.empty(x.shape, like=x)
        kernels.copy(x, out=Out(copied))
        x = copied
    return x.view(shape), (x.shape,)


@reshape.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    dx.lend(g.reshape(*saved))


@view_op(covers=True)
def transpose(x: Tensor, axes: tuple[int, ...] | None = None) -> Any:
    """y = x with its axes in another order, reversed by default; a view

    Shapes: x any -> y x.shape in that order
    Saves:  the axes
    """
    order = tuple(reversed(range(x.ndim))) if axes is None else tuple(a + x.ndim if a < 0 else a for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"transpose: expected each of {x.ndim} axes once; got {axes} for shape {x.shape}")
    return x.transpose(order), (order,)


@transpose.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    (order,) = saved
    dx.lend(g.transpose(tuple(order.index(i) for i in range(len(order)))))


@view_op(covers=False)
def getitem(x: Tensor, key: tuple[Any, ...]) -> Any:
    """y = x[key] for slices, integers, None and an ellipsis; a view

    Shapes: x any -> y as in NumPy
    Saves:  the key
    """
    return x[key], (key,)


@getitem.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    (key,) = saved
    kernels.copy(g, out=dx.out(zero=True)[key])


@kernel(moves=True)
def index_kernel(x: Any, key: tuple[Any, ...], *, out: Out) -> None:
    out.store(x[key])


@kernel
def index_vjp(g: Any, key: tuple[Any, ...], *, out: Out) -> None:
    """Adds, always: elements indexed twice get both gradients."""
    devices.module(g).add.at(out.array, key, g)


@op(integers=True)
def index(x: Tensor, key: tuple[Any, ...]) -> Any:
    """y = x[key] with integer or boolean arrays in the key; a copy

    Shapes: x any -> y as in NumPy
    Saves:  the key
    Raises: IndexError for an index out of range
    """
    parts = tuple(part.tensor if type(part) is Node else part for part in (key if isinstance(key, tuple) else (key,)))
    if any(getattr(part, "dtype", None) == bool_ for part in parts):
        not_repeatable("a tensor was indexed by a mask, whose true values were counted")
    y = scratch.empty(indexing.indexed_shape(x, parts), like=x)
    for part, size in indexing.indexed_sizes(parts, x.shape):
        check_range("index", "indices", part, size, least=-size)
    index_kernel(x, parts, out=Out(y))
    return y, (parts, *(part for part in parts if type(part) is Tensor))  # their versions are checked


@index.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    index_vjp(g, saved[0], out=dx.out(zero=True))


reshape.samples = [
    Sample(normal(3, 4), (2, 6)),
    Sample(normal(3, 4), (-1,)),
    Sample(normal(), (1, 1)),
    Sample(normal(0, 3), (3, 0)),
]
transpose.samples = [
    Sample(normal(3, 4)),
    Sample(normal(2, 3, 4), (2, 0, 1)),
    Sample(normal(2, 3, 4), (0, -1, 1)),
    Sample(normal()),
]
getitem.samples = [
    Sample(normal(4, 5), (1,)),
    Sample(normal(4, 5), (slice(1, 3), slice(None, None, 2))),
    Sample(normal(4, 5), (..., -1)),
    Sample(normal(4, 5), (slice(None, None, -1), None)),
    Sample(normal(4, 5), (2, 3)),
    Sample(normal(4, 5), (slice(2, 2),)),
]
index.samples = [
    Sample(normal(4, 5), ([0, 2, 2],)),
    Sample(normal(4, 5), ([0, 1], [3, 3])),
    Sample(normal(4), ([True, False, True, True],)),
    Sample(normal(4, 5), (slice(1, 3), [0, 0, 4])),
]
