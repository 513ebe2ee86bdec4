"""Norms on the CPU, compiled. Sums over rows are made in blocks that depend on shapes alone, not on threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy

from ag.ops.norm import norm_kernel, norm_vjp, renorm_kernel
from ownt import dtype as dtypes
from ownt import scratch
from ownt.compiled_cpu import OPTIONS, SMALL, blocks, compiled, prange
from ownt.kernel import Out

_ROWS = 32  # of a block at least
_BLOCKS = 16  # at most, in sums over rows
_EMPTY_ROWS = {dtype: numpy.empty((0, 0), dtype) for dtype in (dtypes.float32, dtypes.float64)}


@numba.njit(**OPTIONS)
def _affine(row, mean, inverse, gain, shift, result, beta):
    """result = gain (row - mean) inverse + shift"""
    for c in range(row.size):
        y = (row[c] - mean) * inverse * gain[c] + shift[c]
        result[c] = y + (result[c] if beta else row.dtype.type(0))


@compiled(
    "void(real[:, ::1], real[::1], real[::1], float64, boolean, real[:, ::1], int64, real[:, ::1])", parallel=True
)
def normalize(x, gain, shift, eps, centred, y, beta, stats):
    """See norm_kernel."""
    count, width = x.shape
    zero = x.dtype.type(0)
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            row, result = x[r], y[r]
            mean = zero
            if centred:
                for c in range(width):
                    mean += row[c]
                mean /= x.dtype.type(width)
            square = zero
            for c in range(width):
                square += (row[c] - mean) * (row[c] - mean)
            deviation = numpy.sqrt(numpy.float64(square) / width + eps)  # of float32 there is an estimate, NaN at Inf
            inverse = x.dtype.type(1.0 / deviation)
            stats[r, 0] = mean
            stats[r, 1] = inverse
            _affine(row, mean, inverse, gain, shift, result, beta)


@compiled("void(real[:, ::1], real[:, ::1], real[::1], real[::1], real[:, ::1], int64)", parallel=True)
def normalize_again(x, stats, gain, shift, y, beta):
    """See renorm_kernel."""
    count = x.shape[0]
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            _affine(x[r], stats[r, 0], stats[r, 1], gain, shift, y[r], beta)


@compiled(
    "void(real[:, ::1], real[:, ::1], real[:, ::1], real[::1], boolean, real[:, ::1], int64, real[:, :, ::1])",
    parallel=True,
)
def slopes(g, x, stats, gain, centred, dx, beta, sums):
    """Gradients of normalize: dx, unless beta is below 0, and for each block the sums that make dgain and dshift.

    Beside those sums each block has a row to work in.
    """
    count, width = x.shape
    zero = x.dtype.type(0)
    parts = sums.shape[0]
    for part in prange(parts):
        dgain, dshift = sums[part, 0], sums[part, 1]
        for c in range(width):
            dgain[c] = zero
            dshift[c] = zero
        for r in range(part * count // parts, (part + 1) * count // parts):
            _row_sums(g[r], x[r], stats[r, 0], stats[r, 1], dgain, dshift)
            if beta >= 0:
                _row_slope(g[r], x[r], stats[r, 0], stats[r, 1], gain, centred, dx[r], beta, sums[part, 2])


@numba.njit(**OPTIONS)
def _row_sums(g, x, mean, inverse, dgain, dshift):
    for c in range(g.size):
        dgain[c] += g[c] * ((x[c] - mean) * inverse)
    for c in range(g.size):
        dshift[c] += g[c]


@numba.njit(**OPTIONS)
def _row_slope(g, x, mean, inverse, gain, centred, dx, beta, scaled):
    for c in range(g.size):
        scaled[c] = g[c] * gain[c]  # rounded once, so that in a row of one column it equals its mean
    total, along = g.dtype.type(0), g.dtype.type(0)
    for c in range(g.size):
        total += scaled[c]
        along += scaled[c] * ((x[c] - mean) * inverse)
    total = total / g.dtype.type(g.size) if centred else g.dtype.type(0)
    along /= g.dtype.type(g.size)
    for c in range(g.size):
        slope = inverse * (scaled[c] - total - (x[c] - mean) * inverse * along)
        dx[c] = slope + (dx[c] if beta else g.dtype.type(0))


@compiled("void(real[:, :, ::1], int64, real[::1], int64)")
def add_up(sums, which, out, beta):
    """out = the sum over blocks, in their order"""
    for c in range(out.size):
        total = out[c] if beta else out.dtype.type(0)
        for part in range(sums.shape[0]):
            total += sums[part, which, c]
        out[c] = total


def _slopes_and_sums(parallel, dtype, arguments, sums, dgain, dshift):
    slopes[dtype, parallel](*arguments, sums)
    for which, out in enumerate((dgain, dshift)):
        if out is not None:
            add_up[dtype, False](sums, which, out.array, out.beta)


def _in_rows(*arrays: Any) -> bool:
    return all(array is None or array.flags.c_contiguous for array in arrays)


@lru_cache(maxsize=64)
def _constant(value: float, width: int, dtype: Any) -> Any:
    """What stands for a gain (1) or a shift (0) that there is none of."""
    return numpy.full(width, value, dtype)


def _gain(gain: Any, x: Any) -> Any:
    return _constant(1, x.shape[1], x.dtype) if gain is None else gain


def _shift(shift: Any, x: Any) -> Any:
    return _constant(0, x.shape[1], x.dtype) if shift is None else shift


@norm_kernel.on("cpu", "float32", "float64")
def _(x: Any, gain: Any, shift: Any, eps: float, centred: bool, *, out: Out, stats: Out) -> Any:
    y, kind = out.array, out.array.dtype
    if not _in_rows(x, y, gain, shift, stats.array):
        return None
    arguments = (x, _gain(gain, x), _shift(shift, x), eps, centred, y, out.beta, stats.array)
    return normalize[kind, x.size > SMALL], arguments


@renorm_kernel.on("cpu", "float32", "float64")
def _(x: Any, stats: Any, gain: Any, shift: Any, *, out: Out) -> Any:
    y, kind = out.array, out.array.dtype
    if not _in_rows(x, y, gain, shift, stats):
        return None
    return normalize_again[kind, x.size > SMALL], (x, stats, _gain(gain, x), _shift(shift, x), y, out.beta)


@norm_vjp.on("cpu", "float32", "float64")
def _(
    g: Any, x: Any, stats: Any, gain: Any, centred: bool, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> tuple[Callable[..., None], tuple] | None:
    kind = x.dtype
    outs = [out.array for out in (dx, dgain, dshift) if out]
    if not _in_rows(g, x, stats, gain, *outs):
        return None
    parts = max(1, min(_BLOCKS, x.shape[0] // _ROWS))
    sums = scratch.empty((parts, 3, x.shape[1]), dtype=kind, kind="workspace")
    target, beta = (dx.array, dx.beta) if dx else (_EMPTY_ROWS[kind], -1)
    arguments = (g, x, stats, _gain(gain, x), centred, target, beta)
    return _slopes_and_sums, (x.size > SMALL, kind, arguments, sums.array, dgain, dshift)
