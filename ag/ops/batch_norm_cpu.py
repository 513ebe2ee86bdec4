"""Batch norm on the CPU, compiled: pixels as the rows of a matrix, their channels side by side.

Sums over rows are of blocks that depend on shapes alone, so that they do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from ag.ops.batch_norm import batch_norm_kernel, batch_norm_vjp, batch_stats_kernel
from ownt import Tensor, scratch
from ownt.compiled_cpu import HEAVY, OPTIONS, blocks, compiled, prange
from ownt.kernel import Out
from ownt.layout import TO_LAST

_ROWS = 64  # of a block at least
_BLOCKS = 32  # at most
_NOTHING = {numpy.dtype(name): numpy.empty((0, 0), name) for name in ("float32", "float64")}


@compiled("void(real[:, ::1], float64, real[:, ::1], real[::1], real[:, :, ::1])", parallel=True)
def measure(x, eps, stats, variance, sums):
    """Mean and variance of each block, and from them those of all: stable where the mean is large"""
    count, width = x.shape
    parts = sums.shape[0]
    for part in prange(parts):
        first, last = part * count // parts, (part + 1) * count // parts
        mean, square = sums[part, 0], sums[part, 1]
        for c in range(width):
            mean[c] = x.dtype.type(0)
            square[c] = x.dtype.type(0)
        for r in range(first, last):
            row = x[r]
            for c in range(width):
                mean[c] += row[c]
        share = x.dtype.type(1) / x.dtype.type(last - first)
        for c in range(width):
            mean[c] *= share
        for r in range(first, last):
            row = x[r]
            for c in range(width):
                d = row[c] - mean[c]
                square[c] += d * d
    for c in range(width):
        middle, spread = 0.0, 0.0
        for part in range(parts):
            middle += sums[part, 0, c] * ((part + 1) * count // parts - part * count // parts)
        middle /= count
        for part in range(parts):
            off = sums[part, 0, c] - middle
            spread += sums[part, 1, c] + off * off * ((part + 1) * count // parts - part * count // parts)
        stats[0, c] = middle
        stats[1, c] = 1 / numpy.sqrt(spread / count + eps)
        variance[c] = spread / count


@numba.njit(**OPTIONS)
def _lines(stats, gain, shift, line):
    """slope and start of each channel, with which y is slope x + start"""
    zero, one = stats.dtype.type(0), stats.dtype.type(1)
    for c in range(stats.shape[1]):
        line[0, c] = stats[1, c] * (gain[0, c] if gain.size else one)
        line[1, c] = (shift[0, c] if shift.size else zero) - stats[0, c] * line[0, c]


@compiled(
    "void(real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], int64, real[:, ::1], int64, "
    "real[:, ::1])",
    parallel=True,
)
def normalize(x, stats, gain, shift, residual, relu, y, beta, line):
    """y = line[0] x + line[1] + residual, channel by channel"""
    count, width = x.shape
    zero, slope, start = x.dtype.type(0), line[0], line[1]
    _lines(stats, gain, shift, line)
    for part in prange(blocks(count, _ROWS)):
        for r in range(part * _ROWS, min(count, (part + 1) * _ROWS)):
            row, out = x[r], y[r]
            if residual.size:
                other = residual[r]
                for c in range(width):
                    value = row[c] * slope[c] + start[c] + other[c]
                    value = zero if relu and value <= zero else value
                    out[c] = value + (out[c] if beta else zero)
            else:
                for c in range(width):
                    value = row[c] * slope[c] + start[c]
                    value = zero if relu and value <= zero else value
                    out[c] = value + (out[c] if beta else zero)


@numba.njit(**OPTIONS)
def _masked(g, row, slope, start, other, relu, out):
    """out = g where the ReLU let through what the row became"""
    zero = row.dtype.type(0)
    if not relu:
        for c in range(row.size):
            out[c] = g[c]
    elif other.size:
        for c in range(row.size):
            out[c] = zero if row[c] * slope[c] + start[c] + other[c] <= zero else g[c]
    else:
        for c in range(row.size):
            out[c] = zero if row[c] * slope[c] + start[c] <= zero else g[c]


@compiled(
    "void(real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], int64, int64, "
    "real[:, ::1], int64, real[:, ::1], int64, real[:, ::1], real[:, :, ::1])",
    parallel=True,
)
def slopes(g, x, stats, gain, shift, residual, relu, training, dx, beta, dresidual, beta_residual, totals, sums):
    """totals = sums of the masked g and of g times the normalized x, channel by channel; and then dx, dresidual

    sums: for each block the two sums, a row, and slope and start
    """
    count, width = x.shape
    parts, zero = sums.shape[0], x.dtype.type(0)
    for part in prange(parts):
        to_shift, to_gain, masked, line = sums[part, 0], sums[part, 1], sums[part, 2], sums[part, 3:]
        _lines(stats, gain, shift, line)
        slope, start, mean, inverse = line[0], line[1], stats[0], stats[1]
        for c in range(width):
            to_shift[c] = zero
            to_gain[c] = zero
        for r in range(part * count // parts, (part + 1) * count // parts):
            row = x[r]
            _masked(g[r], row, slope, start, residual[r] if residual.size else slope[:0], relu, masked)
            for c in range(width):
                to_shift[c] += masked[c]
                to_gain[c] += masked[c] * ((row[c] - mean[c]) * inverse[c])
    for c in range(width):
        shifted, gained = zero, zero
        for part in range(parts):
            shifted += sums[part, 0, c]
            gained += sums[part, 1, c]
        totals[0, c] = shifted
        totals[1, c] = gained
        totals[2, c] = stats[1, c] * gained / count if training else zero  # what dx has of x, by slope
        totals[3, c] = shifted / count - stats[0, c] * totals[2, c] if training else zero
    for part in prange(parts):
        masked, slope, start = sums[part, 2], sums[part, 3], sums[part, 4]
        of_x, constant = totals[2], totals[3]
        for r in range(part * count // parts, (part + 1) * count // parts):
            row = x[r]
            _masked(g[r], row, slope, start, residual[r] if residual.size else slope[:0], relu, masked)
            if dresidual.size:
                out = dresidual[r]
                for c in range(width):
                    out[c] = masked[c] + (out[c] if beta_residual else zero)
            if dx.size:
                out = dx[r]
                for c in range(width):
                    value = slope[c] * (masked[c] - of_x[c] * row[c] - constant[c])
                    out[c] = value + (out[c] if beta else zero)


def _rows(array: Any) -> Any:
    """Channels side by side as a matrix (N, C), or nothing for no array; None if they do not lie so."""
    if array.ndim == 4:
        array = array.transpose(TO_LAST)
    elif array.ndim != 2:
        return None
    return array.reshape(-1, array.shape[-1]) if array.flags.c_contiguous else None


def _matrices(dtype: Any, *arrays: Any) -> list[Any] | None:
    """Each as the kernels take it, of size 0 where there is none; None if one does not fit."""
    found: list[Any] = []
    for array in arrays:
        made: Any = None
        if array is None:
            made = _NOTHING[dtype]
        elif array.ndim == 1:
            made = array.reshape(1, -1) if array.flags.c_contiguous else None
        else:
            made = _rows(array)
        found.append(made)
    return None if any(made is None for made in found) else found


def _parts(count: int) -> int:
    return max(1, min(_BLOCKS, count // _ROWS))


def _workspace(shape: tuple[int, ...], dtype: Any) -> Tensor:
    return scratch.empty(shape, dtype=dtype, kind="workspace")


@batch_stats_kernel.on("cpu", "float32", "float64")
def _(x: Any, eps: float, *, stats: Out, variance: Out) -> tuple[Callable[..., None], tuple] | None:
    rows = _rows(x)
    if rows is None or not rows.size or stats.beta or variance.beta:
        return None
    sums = _workspace((_parts(len(rows)), 2, rows.shape[1]), x.dtype)
    return measure[x.dtype, x.size > HEAVY], (rows, eps, stats.array, variance.array, sums.array)


@batch_norm_kernel.on("cpu", "float32", "float64")
def _(
    x: Any, stats: Any, gain: Any, shift: Any, residual: Any, relu: bool, *, out: Out
) -> tuple[Callable[..., None], tuple] | None:
    matrices = _matrices(x.dtype, x, stats, gain, shift, residual, out.array)
    if matrices is None or not x.size:
        return None
    *inputs, y = matrices
    line = _workspace((2, x.shape[1]), x.dtype)
    return normalize[x.dtype, x.size > HEAVY], (*inputs, relu, y, out.beta, line.array)


@batch_norm_vjp.on("cpu", "float32", "float64")
def _(
    g: Any, x: Any, stats: Any, gain: Any, shift: Any, residual: Any, relu: bool, training: bool,
    *, dx: Out | None, dgain: Out | None, dshift: Out | None, dresidual: Out | None,
) -> tuple[Callable[..., None], tuple] | None:  # fmt: skip
    results = [out and out.array for out in (dx, dresidual)]
    matrices = _matrices(x.dtype, g, x, stats, gain, shift, residual, *results)
    if matrices is None or not x.size:
        return None
    *inputs, to_x, to_residual = matrices
    totals = _workspace((4, x.shape[1]), x.dtype)
    sums = _workspace((_parts(x.size // x.shape[1]), 5, x.shape[1]), x.dtype)
    betas = [out.beta if out else 0 for out in (dx, dresidual)]
    arguments = (*inputs, relu, training, to_x, betas[0], to_residual, betas[1], totals.array, sums.array)
    shares = [(out.array, out.beta, totals.array[i]) for i, out in enumerate((dshift, dgain)) if out]
    return _differentiate, (slopes[x.dtype, x.size > HEAVY], arguments, shares)


def _differentiate(
    function: Callable[..., None], arguments: tuple[Any, ...], shares: list[tuple[Any, int, Any]]
) -> None:
    function(*arguments)
    for array, beta, value in shares:
        if beta:
            array += value
        else:
            array[...] = value
