"""Choosing elements: maximum, minimum, where, clip, masked_fill, tril, triu. Ties as PyTorch's."""

from __future__ import annotations

from typing import Any

from ag.op import Mask, op
from ag.ops import arithmetic
from ag.ops.arithmetic import combined, contribute, result_for
from ag.ops.unary import mapped, pointwise
from ag.sample import Sample, between, integers, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Kernel, Out, kernel

maximum_kernel = pointwise("maximum", lambda xp, a, b: xp.maximum(a, b))
minimum_kernel = pointwise("minimum", lambda xp, a, b: xp.minimum(a, b))
# Of equals each gets half of the gradient.
larger_vjp = pointwise("larger_vjp", lambda xp, g, a, b: xp.where(a < b, 0, xp.where(a == b, 0.5 * g, g)))
where_kernel = pointwise("where", lambda xp, mask, a, b: xp.where(mask != 0, a, b))
chosen_vjp = pointwise("chosen_vjp", lambda xp, g, mask: xp.where(mask != 0, g, 0))
rest_vjp = pointwise("rest_vjp", lambda xp, g, mask: xp.where(mask != 0, 0, g))
clip_kernel = pointwise("clip", lambda xp, x, low, high: xp.clip(x, low, high))
clip_vjp = pointwise("clip_vjp", lambda xp, g, x, low, high: xp.where(inside(x, low, high), g, 0))


def inside(x: Any, low: float | None, high: float | None) -> Any:
    """Where x is within the bounds, which are inside themselves; NaN is not."""
    above = x >= low if low is not None else True
    return above & (x <= high) if high is not None else above


@op(integers=True)
def maximum(a: Tensor | float, b: Tensor | float) -> Any:
    """y = the larger of a and b, element by element; of equals each gets half of the gradient

    Shapes: a, b broadcast -> y
    Saves:  a, b
    """
    return combined("maximum", maximum_kernel, a, b), (a, b)


@maximum.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    a, b = saved
    contribute(da, larger_vjp, g, a, b)
    contribute(db, larger_vjp, g, b, a)


@op(integers=True)
def minimum(a: Tensor | float, b: Tensor | float) -> Any:
    """y = the smaller of a and b, element by element; of equals each gets half of the gradient

    Shapes: a, b broadcast -> y
    Saves:  a, b
    """
    return combined("minimum", minimum_kernel, a, b), (a, b)


@minimum.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    a, b = saved
    contribute(da, larger_vjp, g, b, a)
    contribute(db, larger_vjp, g, a, b)


@op(integers=True)
def where(condition: Mask, a: Tensor | float, b: Tensor | float) -> Any:
    """y = a where the condition is true (or not 0), else b

    Shapes: condition, a, b broadcast -> y
    Saves:  condition
    """
    shapes = [x.shape for x in (condition, a, b) if type(x) is Tensor]
    like = result_for("where", a, b)
    y = scratch.empty(arithmetic.broadcast_shape("where", *shapes), like=like)
    where_kernel(condition, a, b, out=Out(y))
    return y, (condition,)


@where.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    contribute(da, chosen_vjp, g, *saved)
    contribute(db, rest_vjp, g, *saved)


@op(integers=True)
def masked_fill(x: Tensor, mask: Mask, value: float) -> Any:
    """y = x, but `value` where the mask is true (or not 0)

    Shapes: x, mask broadcast -> y
    Saves:  mask
    """
    arithmetic.check_number("masked_fill", value, x)
    y = scratch.empty(arithmetic.broadcast_shape("masked_fill", x.shape, mask.shape), like=x)
    where_kernel(mask, value, x, out=Out(y))
    return y, (mask,)


@masked_fill.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    contribute(dx, rest_vjp, g, *saved)


@op(integers=True)
def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Any:
    """y = x kept within low ... high; the gradient passes at the bounds, and not beyond them

    Shapes: x any -> y the same
    Saves:  x
    """
    if low is None and high is None:
        raise ValueError("clip: expected a bound; got neither low nor high")
    for bound in (low, high):
        if bound is not None:
            arithmetic.check_number("clip", bound, x)
    return mapped(clip_kernel, x, low, high), (x, low, high)


@clip.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    clip_vjp(g, *saved, out=dx.out())


@kernel(moves=True)
def tril_kernel(x: Any, diagonal: int, *, out: Out) -> None:
    out.store(devices.module(x).tril(x, diagonal))


@kernel(moves=True)
def triu_kernel(x: Any, diagonal: int, *, out: Out) -> None:
    out.store(devices.module(x).triu(x, diagonal))


def triangle(name: str, function: Kernel, x: Tensor, diagonal: int) -> Tensor:
    """A triangle of matrices. Raises: ValueError for a number or a vector."""
    if x.ndim < 2:
        raise ValueError(f"{name}: expected matrices (..., M, N); got shape {x.shape}. Use reshape or unsqueeze")
    return mapped(function, x, diagonal)


@op(integers=True)
def tril(x: Tensor, diagonal: int = 0) -> Any:
    """y = x on the diagonal and below, 0 above; a positive `diagonal` moves the border so many places up

    Shapes: x (..., M, N) -> y the same
    Saves:  the number
    """
    return triangle("tril", tril_kernel, x, diagonal), (diagonal,)


@tril.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    tril_kernel(g, *saved, out=dx.out())


@op(integers=True)
def triu(x: Tensor, diagonal: int = 0) -> Any:
    """y = x on the diagonal and above, 0 below; a positive `diagonal` moves the border so many places up

    Shapes: x (..., M, N) -> y the same
    Saves:  the number
    """
    return triangle("triu", triu_kernel, x, diagonal), (diagonal,)


@triu.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    triu_kernel(g, *saved, out=dx.out())


_pairs = [
    Sample(normal(3, 4), normal(3, 4)),
    Sample(normal(3, 1), normal(4)),
    Sample(normal(), normal(2)),
    Sample(normal(5), 0.3),
]
maximum.samples = minimum.samples = _pairs
where.samples = [
    Sample(integers(2, 3, 4), normal(3, 4), normal(3, 4)),
    Sample(integers(2, 4), normal(3, 1), normal()),
    Sample(integers(2, 5), normal(5), 0.5),
    Sample(integers(2, 5), -1.0, normal(5)),
]
masked_fill.samples = [
    Sample(normal(3, 4), integers(2, 3, 4), -9.0),
    Sample(normal(3, 4), integers(2, 4), 0.5),
    Sample(normal(4), integers(2, 2, 4), 1.0),
]
clip.samples = [Sample(normal(9), -0.5, 0.5), Sample(normal(3, 4), low=0.1), Sample(between(-2, 2, 7), high=1.0)]
tril.samples = triu.samples = [
    Sample(normal(3, 4)),
    Sample(normal(4, 3), 1),
    Sample(normal(2, 3, 3), diagonal=-1),
    Sample(normal(0, 3)),
]
