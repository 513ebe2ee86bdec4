"""Cross-entropy on the CPU, compiled: each row in two passes. Class weights and smoothing are left to the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from ag.ops.loss import mean_loss_kernel, row_loss_kernel, row_loss_vjp, row_share_kernel
from ownt.compiled_cpu import HEAVY, OPTIONS, blocks, compiled, largest, prange
from ownt.kernel import Out
from ownt.lanes_columns_cpu import load_columns, workspace
from ownt.lanes_cpu import fill, from_lane, lanes, larger, load, load_some, store, store_some, total
from ownt.lanes_math_cpu import exp, log

_ROWS, _NARROW_ROWS = 16, 64  # of a block
_NARROW = 64  # classes up to which a lane is had for each row
_WORKSPACE = (_NARROW + 2) * 16  # numbers, of as many lanes as there are at most


@compiled("void(real[:, ::1], int64[::1], int64, real[::1], real[:, ::1])", parallel=True)
def losses(logits, targets, ignore, out, stats):
    """See row_loss_kernel."""
    count, width = logits.shape
    n = lanes(logits)
    none, rest = fill(logits, 0), width % n
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            top, end = largest(logits[r]), (r + 1) * width
            powers = none
            for at in range(r * width, end - rest, n):
                powers = powers + exp(load(logits, at) - fill(logits, top))
            if rest:
                last = exp(load_some(logits, end - rest, rest) - fill(logits, top))
                powers = powers + from_lane(rest, none, last)
            _store_loss(logits, targets, ignore, r, top, numpy.log(total(powers)), out, stats)


@compiled("void(real[:, ::1], int64[::1], int64, real[::1], real[:, ::1])", parallel=True)
def narrow_losses(logits, targets, ignore, out, stats):
    """The same for few classes, a lane for each row: nothing is summed across lanes, and logarithms are taken of many
    rows at once."""
    count, width = logits.shape
    for block in prange(blocks(count, _NARROW_ROWS)):
        rows = workspace(logits, _WORKSPACE)
        n = lanes(rows)
        end = width * n
        for first in range(block * _NARROW_ROWS, min(count, (block + 1) * _NARROW_ROWS), n):
            here = min(n, count - first)
            load_columns(rows, 0, logits, first * width, width, here, width)
            top, powers = load(rows, 0), fill(rows, 0)
            for at in range(n, end, n):
                top = larger(top, load(rows, at))
            for at in range(0, end, n):
                powers = powers + exp(load(rows, at) - top)
            store(rows, end, top)
            store(rows, end + n, log(powers))
            for r in range(here):
                _store_loss(logits, targets, ignore, first + r, rows[end + r], rows[end + n + r], out, stats)


@numba.njit(**OPTIONS)
def _store_loss(logits, targets, ignore, row, top, log_sum, out, stats):
    stats[row, 0] = top
    stats[row, 1] = log_sum
    chosen = top if targets[row] == ignore else logits[row, targets[row]]
    loss = numpy.float64(top) - numpy.float64(chosen) + numpy.float64(log_sum)  # large ones cancel
    out[row] = 0 if targets[row] == ignore else loss


@compiled("void(real[::1], real[:, ::1], int64[::1], real[:, ::1], int64, real[:, ::1], int64)", parallel=True)
def slopes(share, logits, targets, stats, ignore, out, beta):
    """See row_loss_vjp. By lanes, since `out` may be the logits themselves: the compiler would not dare."""
    count, width = logits.shape
    n = lanes(logits)
    rest = width % n
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            top, scale = fill(logits, stats[r, 0]), fill(logits, share[r] * exp(-stats[r, 1]))
            for at in range(r * width, (r + 1) * width - rest, n):
                value = exp(load(logits, at) - top) * scale
                store(out, at, value + load(out, at) if beta else value)
            if rest:
                at = (r + 1) * width - rest
                value = exp(load_some(logits, at, rest) - top) * scale
                store_some(out, at, rest, value + load_some(out, at, rest) if beta else value)
            if targets[r] != ignore:
                out[r, targets[r]] -= share[r]


@compiled("void(real[::1], int64[::1], int64, real[::1], int64)")
def mean_loss(losses, targets, ignore, out, beta):
    """See mean_loss_kernel."""
    total, count = 0.0, 0
    for i in range(losses.size):
        total += losses[i]
        count += targets[i] != ignore
    mean = total / count
    out[0] = mean + out[0] if beta else mean


@compiled("void(real[::1], int64[::1], int64, boolean, real[::1])")
def shares(g, targets, ignore, mean, out):
    """See row_share_kernel; g for each row, or one for all"""
    count = 0 if mean else 1
    if mean:
        for i in range(targets.size):
            count += targets[i] != ignore
    for i in range(targets.size):
        given = g[i if g.size == out.size else 0] / count
        out[i] = given if targets[i] != ignore else 0


def _fits(weight: Any, smoothing: float, targets: Any, *arrays: Any) -> bool:
    plain = weight is None and not smoothing and targets.dtype == numpy.int64
    return plain and arrays[0].size and all(array.flags.c_contiguous for array in (targets, *arrays))


@row_loss_kernel.on("cpu", "float32", "float64")
def _(
    logits: Any, targets: Any, weight: Any, ignore: int, smoothing: float, *, out: Out, stats: Out
) -> tuple[Callable[..., None], tuple] | None:
    if out.beta or not _fits(weight, smoothing, targets, logits, out.array, stats.array):
        return None
    row_losses = narrow_losses if logits.shape[1] <= _NARROW else losses
    return row_losses[logits.dtype, logits.size > HEAVY], (logits, targets, ignore, out.array, stats.array)


@row_loss_vjp.on("cpu", "float32", "float64")
def _(
    share: Any, logits: Any, targets: Any, weight: Any, stats: Any, ignore: int, smoothing: float, *, out: Out
) -> tuple[Callable[..., None], tuple] | None:
    slope = out.array
    if not _fits(weight, smoothing, targets, logits, slope, stats, share):
        return None
    return slopes[logits.dtype, logits.size > HEAVY], (share, logits, targets, stats, ignore, slope, out.beta)


@mean_loss_kernel.on("cpu", "float32", "float64")
def _(losses: Any, targets: Any, weight: Any, ignore: int, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    if not _fits(weight, 0, targets, losses):
        return None
    return mean_loss[losses.dtype, False], (losses, targets, ignore, out.array.reshape(1), out.beta)


@row_share_kernel.on("cpu", "float32", "float64")
def _(
    g: Any, targets: Any, weight: Any, ignore: int, mean: bool, *, out: Out
) -> tuple[Callable[..., None], tuple] | None:
    if out.beta or not _fits(weight, 0, targets, g, out.array):
        return None
    return shares[g.dtype, False], (g.reshape(-1), targets, ignore, mean, out.array)
