"""More views: swapaxes, squeeze, unsqueeze, flip, whose gradients are windows; and broadcast_to, whose sums."""

from __future__ import annotations

from typing import Any

from ag import kernels
from ag.op import op, view_op
from ag.ops import arithmetic, reduce
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt.kernel import Out


@view_op(covers=True)
def swapaxes(x: Tensor, axis1: int, axis2: int) -> Any:
    """y = x with two axes exchanged; a view

    Shapes: x any -> y x.shape with the two sizes exchanged
    Saves:  the axes
    """
    (first,), (second,) = (reduce.normal_axes("swapaxes", axis, x.ndim) for axis in (axis1, axis2))
    order = list(range(x.ndim))
    order[first], order[second] = second, first
    return x.transpose(tuple(order)), (tuple(order),)


@swapaxes.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    dx.lend(g.transpose(*saved))


@view_op(covers=True, same_order=True)
def squeeze(x: Tensor, axis: int | tuple[int, ...] | None = None) -> Any:
    """y = x without axes of size 1: those named, which must have it, or all that have; a view

    Shapes: x any -> y x.shape without them
    Saves:  a shape
    """
    axes = reduce.normal_axes("squeeze", axis, x.ndim)
    if axis is None:
        axes = tuple(a for a in axes if x.shape[a] == 1)
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: expected size 1 along axis {axis}; got shape {x.shape}. Use reshape")
    return x[tuple(0 if a in axes else slice(None) for a in range(x.ndim))], (x.shape,)


@squeeze.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    dx.lend(g.view(*saved))


@view_op(covers=True, same_order=True)
def unsqueeze(x: Tensor, axis: int) -> Any:
    """y = x with a new axis of size 1, which then is axis number `axis`; a view

    Shapes: x any -> y x.shape with a 1 put in
    Saves:  a shape
    """
    (place,) = reduce.normal_axes("unsqueeze", axis, x.ndim + 1)
    return x[(slice(None),) * place + (None,)], (x.shape,)


@unsqueeze.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    dx.lend(g.view(*saved))


@view_op(covers=True)
def flip(x: Tensor, axis: int | tuple[int, ...] | None = None) -> Any:
    """y = x backwards along some axes, all by default; a view

    Shapes: x any -> y the same
    Saves:  the key
    """
    axes = reduce.normal_axes("flip", axis, x.ndim)
    key = tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim))
    return x[key], (key,)


@flip.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    dx.lend(g[saved[0]])


@op(integers=True)
def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Any:
    """y = x repeated along axes of size 1 and new axes at the left; a copy

    Shapes: x any that broadcasts -> y `shape`
    Saves:  nothing
    """
    if len(shape) < x.ndim or arithmetic.broadcast_shape("broadcast_to", x.shape, tuple(shape)) != tuple(shape):
        raise ValueError(f"broadcast_to: expected a shape to which {x.shape} broadcasts; got {shape}")
    y = scratch.empty(tuple(shape), like=x)
    kernels.copy(x, out=Out(y))
    return y, ()


@broadcast_to.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    arithmetic.pass_on(dx, g)


swapaxes.samples = [Sample(normal(2, 3, 4), 0, 2), Sample(normal(2, 3), -1, -2), Sample(normal(2, 3), 1, 1)]
squeeze.samples = [
    Sample(normal(1, 3, 1)),
    Sample(normal(1, 3, 1), 0),
    Sample(normal(1, 3, 1), axis=(0, -1)),
    Sample(normal(2, 3)),
    Sample(normal(1, 1)),
    Sample(normal()),
]
unsqueeze.samples = [Sample(normal(2, 3), 0), Sample(normal(2, 3), -1), Sample(normal(2, 3), 1), Sample(normal(), 0)]
flip.samples = [Sample(normal(2, 3)), Sample(normal(2, 3), 0), Sample(normal(2, 3, 2), (0, -1)), Sample(normal())]
broadcast_to.samples = [
    Sample(normal(3), (2, 3)),
    Sample(normal(3, 1), (3, 4)),
    Sample(normal(), (2, 2)),
    Sample(normal(2, 3), (2, 3)),
    Sample(normal(1, 3), (0, 3)),
]
