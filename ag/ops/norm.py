"""layer_norm and rms_norm over the last axis.

Of a row nothing is kept but itself: gradients measure its mean and deviation again, while it is in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ag.op import op
from ag.ops.matmul import rows, rows_out
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import PIECE, Out, kernel, stretches

EPS = 1e-5


def _pieces(x: Any) -> Iterator[slice]:
    """Rows of x in pieces whose temporaries stay in cache."""
    return stretches(x.shape[0], max(1, PIECE // max(x.shape[1], 1)))


def _normal(x: Any, eps: float, centred: bool) -> tuple[Any, Any]:
    """(x - mean) / deviation and 1 / deviation of each row."""
    h = x - x.mean(1, keepdims=True) if centred else x
    inverse = 1 / devices.module(x).sqrt((h * h).mean(1, keepdims=True) + eps)
    return h * inverse, inverse


@kernel
def norm_kernel(x: Any, gain: Any, shift: Any, eps: float, centred: bool, *, out: Out) -> None:
    """out = gain (x - mean) / deviation + shift, row by row.

    Shapes: x, out (N, C), gain, shift (C,) or None
    """
    for part in _pieces(x):
        h, _ = _normal(x[part], eps, centred)
        if gain is not None:
            h = h * gain
        out[part].store(h if shift is None else h + shift)


@kernel
def norm_vjp(
    g: Any, x: Any, gain: Any, eps: float, centred: bool, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> None:
    """Gradients of norm_kernel: g, x (N, C) -> dx (N, C), dgain, dshift (C,)"""
    for part in _pieces(x):
        h, inverse = _normal(x[part], eps, centred)
        if dshift:
            dshift.store(g[part].sum(0))
            dshift = dshift.then_add()
        if dgain:
            dgain.store((g[part] * h).sum(0))
            dgain = dgain.then_add()
        if dx:
            scaled = g[part] if gain is None else g[part] * gain
            slope = scaled - h * (scaled * h).mean(1, keepdims=True)
            if centred:
                slope -= scaled.mean(1, keepdims=True)
            dx[part].store(inverse * slope)


def check(name: str, x: Tensor, gain: Tensor | None, shift: Tensor | None = None) -> None:
    """Raises: ValueError naming the op unless x (..., C) and gain, shift (C,)."""
    if x.ndim < 1 or any(p is not None and p.shape != x.shape[-1:] for p in (gain, shift)):
        got = ", ".join(str(p.shape) for p in (x, gain, shift) if p is not None)
        raise ValueError(f"{name}: expected x (..., C) with gain and shift (C,); got {got}")


@op
def layer_norm(x: Tensor, gain: Tensor | None = None, shift: Tensor | None = None, eps: float = EPS) -> Any:
    """y = gain (x - mean) / sqrt(variance + eps) + shift over the last axis

    Shapes: x (..., C), gain, shift (C,) -> y (..., C)
    Saves:  x, gain
    Source: Ba, Kiros and Hinton, arXiv 1607.06450
    """
    check("layer_norm", x, gain, shift)
    y = scratch.empty(x.shape, like=x)
    norm_kernel(rows(x), gain, shift, eps, True, out=Out(rows(y)))
    return y, (x, gain, eps)


@layer_norm.vjp
def _(g: Tensor, saved: Any, dx: Any, dgain: Any, dshift: Any) -> None:
    x, gain, eps = saved
    with rows_out(dx) as out:
        outs = {"dx": out, "dgain": dgain and dgain.out(), "dshift": dshift and dshift.out()}
        norm_vjp(rows(g), rows(x), gain, eps, True, **outs)


@op
def rms_norm(x: Tensor, gain: Tensor | None = None, eps: float = EPS) -> Any:
    """y = gain x / sqrt(mean(x²) + eps) over the last axis

    Shapes: x (..., C), gain (C,) -> y (..., C)
    Saves:  x, gain
    Source: Zhang and Sennrich, arXiv 1910.07467
    """
    check("rms_norm", x, gain)
    y = scratch.empty(x.shape, like=x)
    norm_kernel(rows(x), gain, None, eps, False, out=Out(rows(y)))
    return y, (x, gain, eps)


@rms_norm.vjp
def _(g: Tensor, saved: Any, dx: Any, dgain: Any) -> None:
    x, gain, eps = saved
    with rows_out(dx) as out:
        norm_vjp(rows(g), rows(x), gain, eps, False, dx=out, dgain=dgain and dgain.out(), dshift=None)


layer_norm.samples = [
    Sample(normal(3, 8), normal(8), normal(8)),
    Sample(normal(2, 3, 8), normal(8)),
    Sample(normal(3, 8)),
    Sample(normal(8), normal(8), normal(8), eps=1e-3),
    Sample(normal(0, 8), normal(8), normal(8)),
]
rms_norm.samples = [Sample(normal(3, 8), normal(8)), Sample(normal(2, 3, 8)), Sample(normal(8), eps=1e-3)]
