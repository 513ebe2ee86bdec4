"""Matrix products: the kernels `matmul` and `affine`, which add into a destination, and the op `matmul`."""

from __future__ import annotations

import math
from typing import Any, final

from ag import kernels
from ag.op import op
from ag.ops import arithmetic
from ag.sample import Sample, normal
from ag.slot import GradSlot
from ownt import Tensor, indexing, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel


@kernel
def matmul_kernel(a: Any, b: Any, *, out: Out) -> None:
    """out = a b, for matrices and for stacks of them, broadcast"""
    out.store(devices.module(a).matmul(a, b))


@matmul_kernel.operations
def _(a: Any, b: Any) -> int:
    stack = arithmetic.broadcast_shape("matmul", a.shape[:-2], b.shape[:-2])
    return 2 * math.prod(stack) * a.shape[-2] * a.shape[-1] * b.shape[-1]


@kernel
def affine_kernel(x: Any, w: Any, b: Any, residual: Any = None, *, out: Out) -> None:
    """out = x wᵀ + b + residual, for matrices. Shapes: x (N, I), w (O, I), b (O,), residual and out (N, O)"""
    y = x @ w.T
    if b is not None:
        y += b
    out.store(y if residual is None else y + residual)


@affine_kernel.operations
def _(x: Any, w: Any, b: Any, residual: Any = None) -> int:
    return 2 * x.shape[0] * w.size


def shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x in another shape: a view where the strides allow it, else a workspace copy."""
    if x.is_contiguous or indexing.is_viewable(x, shape):
        return x.view(shape)
    copied = scratch.empty(x.shape, like=x, kind="workspace")
    kernels.copy(x, out=Out(copied))
    return copied.view(shape)


def rows(x: Tensor) -> Tensor:
    """x (..., C) as a matrix (N, C)."""
    shape = x._array.shape
    return x if len(shape) == 2 else shaped(x, (math.prod(shape[:-1]), shape[-1]))


def vector(x: Tensor) -> Tensor:
    """x as a vector."""
    return shaped(x, (x.size,))


@final
class shaped_out:
    """A slot's destination in another shape; through a workspace where it is a window of other strides.

    `with shaped_out(slot, shape) as out: ...`; None for no slot.
    """

    __slots__ = ("out", "part", "shape", "slot")

    def __init__(self, slot: GradSlot | None, shape: tuple[int, ...]) -> None:
        self.slot = slot
        self.shape = shape
        self.part: Tensor | None = None

    def __enter__(self) -> Out | None:
        if self.slot is None:
            return None
        out = self.out = self.slot.out()
        if out.array.shape == self.shape:
            return out
        if out.tensor.is_contiguous or indexing.is_viewable(out.tensor, self.shape):
            return out.view(self.shape)
        self.part = scratch.empty(self.shape, like=out.tensor, kind="workspace")
        return Out(self.part)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.part is not None and error is None:
            kernels.copy(self.part.view(self.slot.shape), out=self.out)  # type: ignore[union-attr]


def rows_out(slot: GradSlot | None) -> shaped_out:
    """A slot's destination as a matrix (N, C)."""
    return shaped_out(slot, (math.prod(slot.shape[:-1]), slot.shape[-1]) if slot else ())


@op(integers=True)
def matmul(a: Tensor, b: Tensor) -> Any:
    """y = a b

    Shapes: a (..., M, K), b (..., K, N) -> y (..., M, N), the stacks broadcast; a (K,) or b (K,) as in NumPy
    Saves:  a, b
    """
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise ValueError(
            f"matmul: expected a (..., M, K) and b (..., K, N); got {a.shape} and {b.shape}. Transpose one, or reshape"
        )
    left, right = _matrices(a, b)
    stack = arithmetic.broadcast_shape("matmul", left.shape[:-2], right.shape[:-2])
    y = scratch.empty((*stack, left.shape[-2], right.shape[-1]), like=a)
    _product(left, right, Out(y))
    shape = (*stack, *a.shape[-2:-1], *b.shape[max(b.ndim - 1, 1) :])
    return y.view(shape), (a, b, y.shape)


@matmul.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    a, b, shape = saved
    left, right = _matrices(a, b)
    g = g.view(shape)
    if da:
        _contribute(da, left.shape, g, _turned(right))
    if db and left.ndim > 2 and right.ndim == 2:  # the sum over a stack is one product of tall matrices
        matmul_kernel(rows(left).T, rows(g), out=db.out().view(right.shape))
    elif db:
        _contribute(db, right.shape, _turned(left), g)


def _matrices(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors as a row and as a column."""
    return (a if a.ndim > 1 else a[None, :]), (b if b.ndim > 1 else b[:, None])


def _turned(x: Tensor) -> Tensor:
    return x.transpose((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _product(left: Tensor, right: Tensor, out: Out) -> None:
    """The product; one large matrix product where a stack meets a single matrix."""
    if left.ndim > 2 and right.ndim == 2 and left.is_contiguous and out.tensor.is_contiguous:
        matmul_kernel(rows(left), right, out=Out(rows(out.tensor), out.beta))
    else:
        matmul_kernel(left, right, out=out)


def _contribute(slot: GradSlot, shape: tuple[int, ...], left: Tensor, right: Tensor) -> None:
    """Add left right to a slot of `shape`, summed over the stacks its operand was broadcast along."""
    stack = arithmetic.broadcast_shape("matmul", left.shape[:-2], right.shape[:-2])
    full = (*stack, left.shape[-2], right.shape[-1])
    if full == shape:
        _product(left, right, slot.out().view(shape))
    else:
        part = scratch.empty(full, like=left, kind="workspace")
        _product(left, right, Out(part))
        kernels.sum_to(part, out=slot.out().view(shape))


matmul.samples = [
    Sample(normal(3, 4), normal(4, 5)),
    Sample(normal(2, 3, 4), normal(4, 5)),
    Sample(normal(2, 3, 4), normal(2, 4, 5)),
    Sample(normal(2, 1, 3, 4), normal(5, 4, 2)),
    Sample(normal(3, 4), normal(2, 4, 5)),
    Sample(normal(4), normal(4)),
    Sample(normal(4), normal(4, 5)),
    Sample(normal(3, 4), normal(4)),
    Sample(normal(2, 3, 4), normal(4)),
    Sample(normal(4), normal(2, 4, 5)),
    Sample(normal(1, 1), normal(1, 1)),
    Sample(normal(3, 0), normal(0, 5)),
    Sample(normal(0, 4), normal(4, 5)),
]
