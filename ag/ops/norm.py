"""layer_norm and rms_norm over the last axis. Two numbers a row are kept: its mean (0 for rms) and 1 / deviation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ag.op import op
from ag.ops.matmul import rows, rows_out
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import wide
from ownt.kernel import PIECE, Out, kernel, stretches

EPS = 1e-5


def _pieces(x: Any) -> Iterator[slice]:
    """Rows of x in pieces whose temporaries stay in cache."""
    return stretches(x.shape[0], max(1, PIECE // max(x.shape[1], 1)))


@kernel
def norm_kernel(x: Any, gain: Any, shift: Any, eps: float, centred: bool, *, out: Out, stats: Out) -> None:
    """out = gain (x - mean) / deviation + shift, row by row; stats = (mean, 1 / deviation).

    Shapes: x, out (N, C), gain, shift (C,) or None, stats (N, 2)
    """
    xp = devices.module(x)
    for part in _pieces(x):
        h = x[part]
        mean = h.mean(1, keepdims=True) if centred else xp.zeros_like(h[:, :1])
        h = h - mean
        inverse = 1 / xp.sqrt((h * h).mean(1, keepdims=True) + eps)
        stats[part, :1].store(mean)
        stats[part, 1:].store(inverse)
        out[part].store(_affine(h * inverse, gain, shift))


@kernel
def renorm_kernel(x: Any, stats: Any, gain: Any, shift: Any, *, out: Out) -> None:
    """What norm_kernel wrote, from its stats."""
    for part in _pieces(x):
        out[part].store(_affine((x[part] - stats[part, :1]) * stats[part, 1:], gain, shift))


@kernel
def norm_vjp(
    g: Any, x: Any, stats: Any, gain: Any, centred: bool, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> None:
    """Gradients of norm_kernel: g, x (N, C) -> dx (N, C), dgain, dshift (C,)"""
    for part in _pieces(x):
        h, inverse = (x[part] - stats[part, :1]) * stats[part, 1:], stats[part, 1:]
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


def _affine(h: Any, gain: Any, shift: Any) -> Any:
    if gain is not None:
        h = h * gain
    return h if shift is None else h + shift


def check(name: str, x: Tensor, gain: Tensor | None, shift: Tensor | None = None) -> None:
    """Raises: ValueError naming the op unless x (..., C) and gain, shift (C,)."""
    if x.ndim < 1 or any(p is not None and p.shape != x.shape[-1:] for p in (gain, shift)):
        got = ", ".join(str(p.shape) for p in (x, gain, shift) if p is not None)
        raise ValueError(f"{name}: expected x (..., C) with gain and shift (C,); got {got}")


def normalized(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, eps: float, centred: bool
) -> tuple[Tensor, Tensor]:
    """The result and the statistics of each row."""
    y = scratch.empty(x.shape, like=x)
    flat = rows(x)
    stats = scratch.empty((flat.shape[0], 2), like=x, dtype=wide(x.dtype))
    norm_kernel(flat, gain, shift, eps, centred, out=Out(rows(y)), stats=Out(stats))
    return y, stats


@op
def layer_norm(x: Tensor, gain: Tensor | None = None, shift: Tensor | None = None, eps: float = EPS) -> Any:
    """y = gain (x - mean) / sqrt(variance + eps) + shift over the last axis

    Shapes: x (..., C), gain, shift (C,) -> y (..., C)
    Saves:  x, gain, two numbers a row
    Source: Ba, Kiros and Hinton, arXiv 1607.06450
    """
    check("layer_norm", x, gain, shift)
    y, stats = normalized(x, gain, shift, eps, centred=True)
    return y, (x, gain, stats)


@layer_norm.vjp
def _(g: Tensor, saved: Any, dx: Any, dgain: Any, dshift: Any) -> None:
    x, gain, stats = saved
    with rows_out(dx) as out:
        norm_vjp(
            rows(g), rows(x), stats, gain, True, dx=out, dgain=dgain and dgain.out(), dshift=dshift and dshift.out()
        )


@op
def rms_norm(x: Tensor, gain: Tensor | None = None, eps: float = EPS) -> Any:
    """y = gain x / sqrt(mean(x²) + eps) over the last axis

    Shapes: x (..., C), gain (C,) -> y (..., C)
    Saves:  x, gain, two numbers a row
    Source: Zhang and Sennrich, arXiv 1910.07467
    """
    check("rms_norm", x, gain)
    y, stats = normalized(x, gain, None, eps, centred=False)
    return y, (x, gain, stats)


@rms_norm.vjp
def _(g: Tensor, saved: Any, dx: Any, dgain: Any) -> None:
    x, gain, stats = saved
    with rows_out(dx) as out:
        norm_vjp(rows(g), rows(x), stats, gain, False, dx=out, dgain=dgain and dgain.out(), dshift=None)


layer_norm.samples = [
    Sample(normal(3, 8), normal(8), normal(8)),
    Sample(normal(2, 3, 8), normal(8)),
    Sample(normal(3, 8)),
    Sample(normal(8), normal(8), normal(8), eps=1e-3),
    Sample(normal(0, 8), normal(8), normal(8)),
]
rms_norm.samples = [Sample(normal(3, 8), normal(8)), Sample(normal(2, 3, 8)), Sample(normal(8), eps=1e-3)]
