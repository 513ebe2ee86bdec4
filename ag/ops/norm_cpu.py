"""Norms on the CPU, compiled. Sums over rows are made in blocks that depend on shapes alone, not on threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from ag.ops import norm_narrow_cpu as narrow
from ag.ops.norm import norm_kernel, norm_vjp
from ag.ops.norm_narrow_cpu import add_up
from ownt import dtype as dtypes
from ownt import scratch
from ownt.compiled_cpu import HEAVY, OPTIONS, SMALL, blocks, compiled, constant, prange
from ownt.kernel import Out

_ROWS = 32  # of a block at least
_BLOCKS = 16  # at most, in sums over rows
_EMPTY = {dtype: numpy.empty(0, dtype) for dtype in (dtypes.float32, dtypes.float64)}
_EMPTY_ROWS = {dtype: empty.reshape(0, 0) for dtype, empty in _EMPTY.items()}


@compiled("void(real[:, ::1], real[::1], real[::1], float64, boolean, real[:, ::1], int64)", parallel=True)
def normalize(x, gain, shift, eps, centred, y, beta):
    """See norm_kernel."""
    count, width = x.shape
    zero = x.dtype.type(0)
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            row, result = x[r], y[r]
            mean, square = _mean(row) if centred else zero, zero
            for c in range(width):
                square += (row[c] - mean) * (row[c] - mean)
            inverse = _inverse(square, width, eps)
            if beta:
                for c in range(width):
                    result[c] += (row[c] - mean) * inverse * gain[c] + shift[c]
            else:
                for c in range(width):
                    result[c] = (row[c] - mean) * inverse * gain[c] + shift[c]


@compiled(
    "void(real[:, ::1], real[:, ::1], real[::1], float64, boolean, real[:, ::1], int64, real[:, :, ::1], "
    "real[::1], int64, real[::1], int64)",
    parallel=True,
)
def slopes(g, x, gain, eps, centred, dx, beta, sums, dgain, gain_beta, dshift, shift_beta):
    """See norm_vjp; a beta below 0 says that a gradient is not wanted.

    Each block has two rows for its sums and one to work in. In one function, not in one for each step: calls cost
    more than a short row.
    """
    count, width = x.shape
    zero, size = x.dtype.type(0), x.dtype.type(width)
    parts = sums.shape[0]
    for part in prange(parts):
        along_x, plain, scaled = sums[part, 0], sums[part, 1], sums[part, 2]
        for c in range(width):
            along_x[c] = zero
            plain[c] = zero
        for r in range(part * count // parts, (part + 1) * count // parts):
            row, slope = x[r], g[r]
            for c in range(width):
                scaled[c] = slope[c] * gain[c]  # rounded once, so that in a row of one column it equals its mean
            mean, square, total, along = _mean(row) if centred else zero, zero, zero, zero
            for c in range(width):
                apart = row[c] - mean
                square += apart * apart
                total += scaled[c]
                along += scaled[c] * apart
            inverse = _inverse(square, width, eps)
            total, along = total / size if centred else zero, along * inverse / size
            for c in range(width):
                along_x[c] += slope[c] * ((row[c] - mean) * inverse)
                plain[c] += slope[c]
            if beta >= 0:
                result = dx[r]
                if beta:
                    for c in range(width):
                        result[c] += inverse * (scaled[c] - total - (row[c] - mean) * inverse * along)
                else:
                    for c in range(width):
                        result[c] = inverse * (scaled[c] - total - (row[c] - mean) * inverse * along)
    if gain_beta >= 0:
        add_up(sums, 0, dgain, gain_beta)
    if shift_beta >= 0:
        add_up(sums, 1, dshift, shift_beta)


@numba.njit(**OPTIONS)
def _mean(row):
    total = row.dtype.type(0)
    for c in range(row.size):
        total += row[c]
    return total / row.dtype.type(row.size)


@numba.njit(**OPTIONS)
def _inverse(square, width, eps):
    """1 / the deviation of so many numbers, of the sum of their squares. In float64: of float32 LLVM estimates the
    root, which is NaN at Inf."""
    return type(square)(1.0 / numpy.sqrt(numpy.float64(square) / width + eps))


def _in_rows(*arrays: Any) -> bool:
    return all(array is None or array.flags.c_contiguous for array in arrays)


def _gain(gain: Any, x: Any) -> Any:
    return constant(1, x.shape[1], x.dtype) if gain is None else gain


def _shift(shift: Any, x: Any) -> Any:
    return constant(0, x.shape[1], x.dtype) if shift is None else shift


@norm_kernel.on("cpu", "float32", "float64")
def _(x: Any, gain: Any, shift: Any, eps: float, centred: bool, *, out: Out) -> Any:
    y, kind = out.array, out.array.dtype
    if not _in_rows(x, y, gain, shift):
        return None
    arguments = (x, _gain(gain, x), _shift(shift, x), eps, centred, y, out.beta)
    if _is_narrow(x):
        return narrow.normalize[kind, x.size > SMALL], (*arguments, _parts(x))
    return normalize[kind, x.size > HEAVY], arguments


@norm_vjp.on("cpu", "float32", "float64")
def _(
    g: Any, x: Any, gain: Any, eps: float, centred: bool, *, dx: Out | None, dgain: Out | None, dshift: Out | None
) -> tuple[Callable[..., None], tuple] | None:
    kind = x.dtype
    if not _in_rows(g, x, gain, *(out.array for out in (dx, dgain, dshift) if out)):
        return None
    sums = scratch.empty((_parts(x), 3, x.shape[1]), dtype=kind, kind="workspace")
    target, beta = (dx.array, dx.beta) if dx else (_EMPTY_ROWS[kind], -1)
    wanted = (*_wanted(dgain, kind), *_wanted(dshift, kind))
    arguments = (g, x, _gain(gain, x), eps, centred, target, beta, sums.array, *wanted)
    if _is_narrow(x):
        return narrow.slopes[kind, x.size > SMALL], arguments
    return slopes[kind, x.size > HEAVY], arguments


def _is_narrow(x: Any) -> bool:
    return 0 < x.shape[1] <= narrow.WIDEST and x.shape[1] % 4 == 0


def _parts(x: Any) -> int:
    """Blocks that sums over rows are made in."""
    return max(1, min(_BLOCKS, x.shape[0] // _ROWS))


def _wanted(out: Out | None, dtype: Any) -> tuple[Any, int]:
    return (out.array, out.beta) if out else (_EMPTY[dtype], -1)
