"""batch_norm: each channel to mean 0 and variance 1 over a batch, and what follows it in a residual network."""

from __future__ import annotations

from typing import Any

from ag.op import op, recomputing, where
from ag.ops.norm import EPS
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import wide
from ownt.kernel import Out, kernel

Running = tuple[Tensor, Tensor]  # mean and variance


def _axes(x: Any) -> tuple[int, ...]:
    """All but the channels'."""
    return (0, *range(2, x.ndim))


def _by_channel(p: Any, x: Any) -> Any:
    """A number for each channel (C,), beside x (N, C, ...)."""
    return p.reshape(-1, *(1,) * (x.ndim - 2))


def _normalized(x: Any, stats: Any) -> Any:
    return (x - _by_channel(stats[0], x)) * _by_channel(stats[1], x)


def _before_relu(x: Any, stats: Any, gain: Any, shift: Any, residual: Any) -> Any:
    y = _normalized(x, stats)
    if gain is not None:
        y = y * _by_channel(gain, x)
    if shift is not None:
        y = y + _by_channel(shift, x)
    return y if residual is None else y + residual


@kernel
def batch_stats_kernel(x: Any, eps: float, *, stats: Out, variance: Out) -> None:
    """stats = (mean, 1 / deviation) of each channel. Shapes: x (N, C, ...), stats (2, C), variance (C,)"""
    mean = x.mean(_axes(x))
    d = x - _by_channel(mean, x)
    found = (d * d).mean(_axes(x))
    stats[0].store(mean)
    stats[1].store(1 / devices.module(x).sqrt(found + eps))
    variance.store(found)


@kernel
def track_kernel(
    mean: Any, variance: Any, momentum: float, factor: float, *, running_mean: Out, running_variance: Out
) -> None:
    """Both move by `momentum` towards the batch's mean, and its variance times `factor`; their beta is 1"""
    running_mean.array[...] += momentum * (mean - running_mean.array)
    running_variance.array[...] += momentum * (factor * variance - running_variance.array)


@kernel
def running_stats_kernel(mean: Any, variance: Any, eps: float, *, stats: Out) -> None:
    """stats = (mean, 1 / deviation)"""
    stats[0].store(mean)
    stats[1].store(1 / devices.module(mean).sqrt(variance + eps))


@kernel
def batch_norm_kernel(x: Any, stats: Any, gain: Any, shift: Any, residual: Any, relu: bool, *, out: Out) -> None:
    """out = gain (x - mean) / deviation + shift + residual, and no less than 0 if relu"""
    y = _before_relu(x, stats, gain, shift, residual)
    out.store(devices.module(x).maximum(y, 0) if relu else y)


@kernel
def batch_norm_vjp(
    g: Any, x: Any, stats: Any, gain: Any, shift: Any, residual: Any, relu: bool, training: bool,
    *, dx: Out | None, dgain: Out | None, dshift: Out | None, dresidual: Out | None,
) -> None:  # fmt: skip
    """Shapes: g, x, dx, dresidual (N, C, ...), dgain, dshift (C,)"""
    if relu:
        g = devices.module(x).where(_before_relu(x, stats, gain, shift, residual) <= 0, 0, g)
    if dresidual:
        dresidual.store(g)
    h = _normalized(x, stats)
    to_shift, to_gain = g.sum(_axes(x)), (g * h).sum(_axes(x))
    if dshift:
        dshift.store(to_shift)
    if dgain:
        dgain.store(to_gain)
    if dx:
        if training:
            count = max(x.size // max(x.shape[1], 1), 1)
            g = g - _by_channel(to_shift, x) / count - h * (_by_channel(to_gain, x) / count)
        slope = stats[1] if gain is None else stats[1] * gain
        dx.store(g * _by_channel(slope, x))


def check(x: Tensor, gain: Tensor | None, shift: Tensor | None, residual: Tensor | None, running: Any) -> None:
    """Raises: ValueError unless the shapes fit."""
    by_channel = [p for p in (gain, shift, *(running or ())) if p is not None]
    misfits = x.ndim < 2 or any(p.shape != x.shape[1:2] for p in by_channel)
    if misfits or (residual is not None and residual.shape != x.shape):
        got = ", ".join(str(p.shape) for p in (x, *by_channel, residual) if p is not None)
        raise ValueError(
            f"{where('batch_norm')}: expected x (N, C, ...), gain, shift and running statistics (C,), a residual like "
            f"x; got {got}"
        )


@op
def batch_norm(
    x: Tensor,
    gain: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    running: Any = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = EPS,
    relu: bool = False,
) -> Any:
    """y = gain (x - mean) / sqrt(variance + eps) + shift + residual, and no less than 0 if relu

    Mean and variance of each channel over the batch; those that are running if not in training. In training the
    running ones, a pair of tensors, move towards the batch's by `momentum`, the variance without its bias.

    Shapes: x (N, C, ...), gain, shift, mean, variance (C,), residual like x -> y like x
    Saves:  x, gain, shift, residual, two numbers a channel; y is made again from them
    Source: Ioffe and Szegedy, arXiv 1502.03167
    """
    check(x, gain, shift, residual, running)
    count = x.size // max(x.shape[1], 1)
    if training and count < 2:
        raise ValueError(
            f"{where('batch_norm')}: expected two numbers a channel or more in training; got shape {x.shape}"
        )
    stats = scratch.empty((2, *x.shape[1:2]), like=x, dtype=wide(x.dtype))
    if training:
        variance = scratch.empty(x.shape[1:2], like=x, dtype=wide(x.dtype))
        batch_stats_kernel(x, eps, stats=Out(stats), variance=Out(variance))
    elif running is None:
        raise ValueError(f"{where('batch_norm')}: expected running statistics, since it is not in training; got none")
    else:
        running_stats_kernel(*running, eps, stats=Out(stats))
    y = scratch.alike(x)
    batch_norm_kernel(x, stats, gain, shift, residual, relu, out=Out(y))
    if training and running is not None and not recomputing():  # last: where memory runs out, nothing was tracked
        outs = {"running_mean": Out(running[0], 1), "running_variance": Out(running[1], 1)}
        track_kernel(stats[0], variance, momentum, count / (count - 1), **outs)
    return y, (x, stats, gain, shift, residual, relu, training, True)


@batch_norm.vjp
def _(g: Tensor, saved: Any, dx: Any, dgain: Any, dshift: Any, dresidual: Any) -> None:
    outs = {"dx": dx, "dgain": dgain, "dshift": dshift, "dresidual": dresidual}
    batch_norm_vjp(g, *saved[:-1], **{name: slot and slot.out() for name, slot in outs.items()})


@batch_norm.remakes
def _(saved: Any, out: Out) -> None:
    batch_norm_kernel(*saved[:-2], out=out)


batch_norm.samples = [
    Sample(normal(3, 4, 2, 3), normal(4), normal(4)),
    Sample(normal(5, 3)),
    Sample(normal(2, 3, 4), None, normal(3), relu=True),
    Sample(normal(3, 4, 2, 2), normal(4), normal(4), normal(3, 4, 2, 2), relu=True),
    Sample(normal(3, 2, 2, 2), normal(2), None, normal(3, 2, 2, 2)),
]
