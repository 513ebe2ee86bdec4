"""embedding: rows of a table."""

from __future__ import annotations

from typing import Any

from ag.op import Indices, op
from ag.ops.matmul import vector
from ag.ops.ranges import check_range
from ag.sample import Sample, integers, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import PIECE, Out, kernel, stretches


@kernel(moves=True)
def embedding_kernel(indices: Any, w: Any, *, out: Out) -> None:
    out.store(w[indices])


@kernel
def embedding_vjp(g: Any, indices: Any, *, out: Out) -> None:
    """out[i] += the sum of the rows of g that came from i. Adds, always: the slot is zeroed first.

    Sorted, so that each row of the table is added to once, in one order; but on a GPU, whose reduceat takes differences
    of one long sum. Shapes: g (N, C), indices (N,)
    """
    if not indices.size:
        return
    xp = devices.module(g)
    if devices.of(g) is not devices.cpu:
        xp.add.at(out.array, indices, g)
        return
    order = xp.argsort(indices, kind="stable")
    found = indices[order]
    first = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), found[1:] != found[:-1]]))
    rows = found[first]
    for part in stretches(g.shape[1], max(1, PIECE // len(order))):  # a few columns at a time: small temporaries
        out.array[rows, part] += xp.add.reduceat(g[order, part], first, axis=0)


@op(integers=True)
def embedding(indices: Indices, w: Tensor) -> Any:
    """y = w[indices]

    Shapes: indices any, integers below V; w (V, C) -> y (..., C)
    Saves:  indices
    Raises: IndexError for an index out of range
    """
    if w.ndim != 2:
        raise ValueError(f"embedding: expected a table w (V, C); got {w.shape}")
    check_range("embedding", "indices", indices, w.shape[0])
    y = scratch.empty(indices.shape + w.shape[1:], like=w)
    embedding_kernel(indices, w, out=Out(y))
    return y, (indices,)


@embedding.vjp
def _(g: Tensor, saved: Any, dw: Any) -> None:
    (indices,) = saved
    embedding_vjp(g.view((indices.size, g.shape[-1])), vector(indices), out=dw.out(zero=True))


embedding.samples = [
    Sample(integers(7, 2, 3), normal(7, 4)),
    Sample(integers(2, 9), normal(2, 3)),
    Sample(integers(3), normal(3, 2)),
    Sample(integers(3, 0), normal(3, 2)),
]
