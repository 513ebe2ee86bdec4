"""softmax, log_softmax and logsumexp along axes."""

from __future__ import annotations

from typing import Any

from ag.op import op
from ag.ops import reduce
from ag.sample import Sample, between, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel


@kernel
def softmax_kernel(x: Any, axis: int, *, out: Out) -> None:
    if x.size:
        e = x - x.max(axis, keepdims=True)
        devices.module(x).exp(e, out=e)
        e /= e.sum(axis, keepdims=True)
        out.store(e)


@kernel
def softmax_vjp(g: Any, y: Any, axis: int, *, out: Out) -> None:
    out.store(y * (g - (g * y).sum(axis, keepdims=True)))


@op
def softmax(x: Tensor, axis: int = -1) -> Any:
    """y = e^x / sum(e^x) along an axis

    Shapes: x any -> y the same
    Saves:  y
    """
    (axis,) = reduce.normal_axes("softmax", axis, x.ndim)
    y = scratch.empty(x.shape, like=x)
    softmax_kernel(x, axis, out=Out(y))
    return y, (y, axis)


@softmax.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    softmax_vjp(g, *saved, out=dx.out())


@kernel
def log_softmax_kernel(x: Any, axis: int, *, out: Out) -> None:
    if x.size:
        xp = devices.module(x)
        y = x - x.max(axis, keepdims=True)
        y -= xp.log(xp.exp(y).sum(axis, keepdims=True))
        out.store(y)


@kernel
def log_softmax_vjp(g: Any, y: Any, axis: int, *, out: Out) -> None:
    out.store(g - devices.module(y).exp(y) * g.sum(axis, keepdims=True))


@kernel
def logsumexp_kernel(x: Any, axes: tuple[int, ...], *, out: Out) -> None:
    """Shapes: out with the axes kept. An infinite maximum is not subtracted: Inf - Inf is NaN."""
    xp = devices.module(x)
    if not x.size:
        out.store(-xp.inf)
        return
    top = x.max(axes, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0).astype(x.dtype)
    out.store(xp.log(xp.exp(x - top).sum(axes, keepdims=True)) + top)


@kernel
def logsumexp_vjp(g: Any, x: Any, y: Any, *, out: Out) -> None:
    """Shapes: g, y with the axes kept"""
    xp = devices.module(x)
    out.store(g * xp.exp(x - xp.where(y == -xp.inf, 0, y).astype(x.dtype)))


@op
def log_softmax(x: Tensor, axis: int = -1) -> Any:
    """y = x - log(sum(e^x)) along an axis

    Shapes: x any -> y the same
    Saves:  y
    """
    (axis,) = reduce.normal_axes("log_softmax", axis, x.ndim)
    y = scratch.empty(x.shape, like=x)
    log_softmax_kernel(x, axis, out=Out(y))
    return y, (y, axis)


@log_softmax.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    log_softmax_vjp(g, *saved, out=dx.out())


@op
def logsumexp(x: Tensor, axis: reduce.Axis = None, keepdims: bool = False) -> Any:
    """y = log(sum(e^x)) over `axis`, all axes by default; -Inf of no elements

    Shapes: x any -> y without those axes, or with size 1 there if keepdims
    Saves:  x, y
    """
    axes = reduce.normal_axes("logsumexp", axis, x.ndim)
    kept = scratch.empty(reduce.kept_shape(x.shape, axes), like=x)
    logsumexp_kernel(x, axes, out=Out(kept))
    return (kept if keepdims else kept.view(reduce.reduced_shape(x.shape, axes))), (x, kept)


@logsumexp.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    x, y = saved
    logsumexp_vjp(g.view(y.shape), x, y, out=dx.out())


log_softmax.samples = softmax.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), 1),
    Sample(between(-80, 80, 2, 5)),
    Sample(normal(1)),
    Sample(normal(0, 3)),
]
logsumexp.samples = [
    Sample(normal(3, 4)),
    Sample(normal(3, 4), axis=0),
    Sample(normal(2, 3, 4), axis=(0, -1)),
    Sample(normal(2, 3, 4), axis=1, keepdims=True),
    Sample(between(-800, 800, 2, 5), 1),
    Sample(normal()),
]
