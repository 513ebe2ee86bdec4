"""gather: elements by their places along an axis; argtopk and topk, the largest and where they are."""

from __future__ import annotations

from typing import Any

from ag.node import Node
from ag.op import Indices, composed, op
from ag.ops import embedding, reduce
from ag.sample import Sample, integers, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import int64
from ownt.kernel import Out, kernel


def grid(index: Any, axis: int) -> tuple[Any, ...]:
    """The key under which NumPy finds x[..., index[i, j, k], ...] for every place (i, j, k) of the index."""
    xp = devices.module(index)
    key = [xp.arange(size).reshape((-1, *(1,) * (index.ndim - i - 1))) for i, size in enumerate(index.shape)]
    key[axis] = index
    return tuple(key)


@kernel(moves=True)
def gather_kernel(x: Any, axis: int, index: Any, *, out: Out) -> None:
    out.store(x[grid(index, axis)])


@kernel
def gather_vjp(g: Any, axis: int, index: Any, *, out: Out) -> None:
    """Adds, always: an element taken twice gets both gradients."""
    devices.module(g).add.at(out.array, grid(index, axis), g)


@op(integers=True)
def gather(x: Tensor, axis: int, index: Indices) -> Any:
    """y[i, j, k] = x[i, index[i, j, k], k], here for axis 1 of three

    Shapes: x any, index of as many axes, no longer than x's but along `axis` -> y like index
    Saves:  axis, index
    Raises: IndexError for an index out of range
    """
    (axis,) = reduce.normal_axes("gather", axis, x.ndim)
    fits = index.ndim == x.ndim and all(
        a == axis or taken <= size for a, (taken, size) in enumerate(zip(index.shape, x.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"gather: expected an index of as many axes as x, no longer than x's but along axis {axis}; "
            f"got index {index.shape} for x {x.shape}"
        )
    embedding.check_range("gather", "indices", index, x.shape[axis])
    y = scratch.empty(index.shape, like=x)
    gather_kernel(x, axis, index, out=Out(y))
    return y, (axis, index)


@gather.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    gather_vjp(g, *saved, out=dx.out(zero=True))


@kernel
def argtopk_kernel(x: Any, k: int, axis: int, largest: bool, *, out: Out) -> None:
    """Of equals the first come first; NaN counts as larger than any number."""
    along = (slice(None),) * axis
    backwards = (*along, slice(None, None, -1))
    if largest:  # a stable ascending order of x read from its end, read from its own end
        order = x.shape[axis] - 1 - x[backwards].argsort(axis, kind="stable")[backwards]
    else:
        order = x.argsort(axis, kind="stable")
    first = (*along, slice(0, k))
    out.store(order[first])


@op(integers=True)
def argtopk(x: Tensor, k: int, axis: int = -1, largest: bool = True) -> Any:
    """y = the places of the k largest (or smallest) along an axis, the most extreme first, of equals the first.
    No gradient

    Shapes: x any -> y int64, with size k along the axis
    """
    (axis,) = reduce.normal_axes("argtopk", axis, x.ndim)
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"argtopk: expected k from 0 to {x.shape[axis]}, the size of axis {axis}; got {k}")
    y = scratch.empty((*x.shape[:axis], k, *x.shape[axis + 1 :]), like=x, dtype=int64)
    argtopk_kernel(x, k, axis, largest, out=Out(y))
    return y, ()


@composed
def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Node, Node]:
    """The k largest (or smallest) along an axis, the most extreme first, and their places

    Shapes: x any -> values, places int64, with size k along the axis
    """
    places = argtopk(x, k, axis, largest)
    return gather(x, axis, places), places


gather.samples = [
    Sample(normal(3, 4), 1, integers(4, 3, 2)),
    Sample(normal(3, 4), 0, integers(3, 5, 4)),
    Sample(normal(2, 3, 4), -1, integers(4, 1, 2, 6)),
    Sample(normal(5), -1, integers(5, 9)),
    Sample(normal(3, 4), 1, integers(4, 0, 2)),
]
argtopk.samples = [
    Sample(normal(3, 4), 2),
    Sample(normal(3, 4), 3, 0),
    Sample(normal(2, 5, 3), 2, axis=1, largest=False),
    Sample(normal(4), 0),
    Sample(normal(4), 4),
]
