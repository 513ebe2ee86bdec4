"""group_norm: channels in groups, each group of a sample to mean 0 and variance 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ag.op import op
from ag.ops.matmul import shaped, shaped_out
from ag.ops.norm import EPS
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import wide
from ownt.kernel import PIECE, Out, kernel, stretches


def _pieces(x: Any) -> Iterator[slice]:
    """Samples in pieces whose temporaries stay in cache."""
    return stretches(x.shape[0], max(1, PIECE // max(math.prod(x.shape[1:]), 1)))


def _by_channel(p: Any) -> Any:
    """A number for each channel (C,) as (C, 1), beside x (N, C, L)."""
    return None if p is None else p[:, None]


@kernel
def group_norm_kernel(x: Any, groups: int, gain: Any, shift: Any, eps: float, *, out: Out, stats: Out) -> None:
    """out = gain (x - mean) / deviation + shift, group by group; stats = (mean, 1 / deviation).

    Shapes: x, out (N, C, L), gain, shift (C,) or None, stats (N, G, 2)
    """
    if not x.size:
        return
    for part in _pieces(x):
        h = x[part].reshape(-1, groups, x.shape[1] // groups * x.shape[2])
        mean = h.mean(2, keepdims=True)
        h = h - mean
        inverse = 1 / devices.module(x).sqrt((h * h).mean(2, keepdims=True) + eps)
        stats[part, :, :1].store(mean)
        stats[part, :, 1:].store(inverse)
        y = (h * inverse).reshape(x[part].shape)
        if gain is not None:
            y = y * _by_channel(gain)
        out[part].store(y if shift is None else y + _by_channel(shift))


@kernel
def group_norm_vjp(
    g: Any, x: Any, stats: Any, groups: int, gain: Any, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> None:
    """Shapes: g, x, dx (N, C, L), stats (N, G, 2), dgain, dshift (C,)"""
    for part in _pieces(x):
        shape = x[part].shape
        width = (-1 if x.size else shape[0], groups, shape[1] // groups * shape[2])
        inverse = stats[part, :, 1:]
        h = (x[part].reshape(width) - stats[part, :, :1]) * inverse
        if dshift:
            dshift.store(g[part].sum((0, 2)))
            dshift = dshift.then_add()
        if dgain:
            dgain.store((g[part] * h.reshape(shape)).sum((0, 2)))
            dgain = dgain.then_add()
        if dx and x.size:
            scaled = (g[part] if gain is None else g[part] * _by_channel(gain)).reshape(width)
            slope = scaled - h * (scaled * h).mean(2, keepdims=True) - scaled.mean(2, keepdims=True)
            dx[part].store((inverse * slope).reshape(shape))


def _flat(x: Any) -> tuple[int, int, int]:
    """The shape (N, C, L), L being all axes after the channels as one."""
    return (x.shape[0], x.shape[1], math.prod(x.shape[2:]))


@op
def group_norm(
    x: Tensor, groups: int, gain: Tensor | None = None, shift: Tensor | None = None, eps: float = EPS
) -> Any:
    """y = gain (x - mean) / sqrt(variance + eps) + shift, mean and variance over each group of channels of a sample

    Shapes: x (N, C, ...), C divisible by groups, gain, shift (C,) -> y like x
    Saves:  x, gain, two numbers a group
    Source: Wu and He, arXiv 1803.08494
    """
    misfits = [p for p in (gain, shift) if p is not None and p.shape != x.shape[1:2]]
    if x.ndim < 2 or groups < 1 or x.shape[1] % groups or misfits:
        got = ", ".join(str(p.shape) for p in (x, gain, shift) if p is not None)
        raise ValueError(
            f"group_norm: expected x (N, C, ...) with C divisible by groups, gain and shift (C,); "
            f"got {got} and {groups} groups"
        )
    y = scratch.empty(x.shape, like=x)
    stats = scratch.empty((x.shape[0], groups, 2), like=x, dtype=wide(x.dtype))
    flat, out = shaped(x, _flat(x)), Out(y).view(_flat(x))
    group_norm_kernel(flat, groups, gain, shift, eps, out=out, stats=Out(stats))
    return y, (x, groups, gain, stats)


@group_norm.vjp
def _(g: Tensor, saved: Any, dx: Any, dgain: Any, dshift: Any) -> None:
    x, groups, gain, stats = saved
    flat = _flat(x)
    with shaped_out(dx, flat) as out:
        outs = {"dx": out, "dgain": dgain and dgain.out(), "dshift": dshift and dshift.out()}
        group_norm_vjp(shaped(g, flat), shaped(x, flat), stats, groups, gain, **outs)


group_norm.samples = [
    Sample(normal(3, 4, 5), 2, normal(4), normal(4)),
    Sample(normal(2, 6), 3, normal(6)),
    Sample(normal(2, 4, 3, 2), 4),
    Sample(normal(2, 4, 3, 2), 1, None, normal(4), eps=1e-3),
    Sample(normal(0, 4, 3), 2, normal(4), normal(4)),
]
