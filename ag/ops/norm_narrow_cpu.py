"""Norms of short rows on the CPU: a lane of the vector units for each row, so that nothing is summed across lanes."""

from __future__ import annotations

import numba

from ownt.compiled_cpu import OPTIONS, compiled, prange
from ownt.lanes_columns_cpu import load_columns, store_columns, workspace
from ownt.lanes_cpu import each, fill, lanes, load, store, total
from ownt.lanes_math_cpu import sqrt

WIDEST = 64  # rows that it is for, of a multiple of 4: longer ones are vectors by themselves
_LANES = 16  # that there are at most
_FORWARD, _BACKWARD = WIDEST * _LANES, 4 * WIDEST * _LANES  # numbers of workspace


@compiled("void(real[:, ::1], real[::1], real[::1], float64, boolean, real[:, ::1], int64, int64)", parallel=True)
def normalize(x, gain, shift, eps, centred, y, beta, parts):
    """See norm_kernel."""
    count, width = x.shape
    for part in prange(parts):
        rows = workspace(x, _FORWARD)
        n = lanes(rows)
        groups = -(-count // n)
        none, one, share, least = fill(rows, 0), fill(rows, 1), fill(rows, 1 / width), fill(rows, eps)
        for group in range(part * groups // parts, (part + 1) * groups // parts):
            first = group * n
            here = min(n, count - first)
            load_columns(rows, 0, x, first * width, width, here, width)
            mean, square = _mean(rows, 0, width) if centred else none, none
            for at in range(0, width * n, 4 * n):
                a, b = load(rows, at) - mean, load(rows, at + n) - mean
                c, d = load(rows, at + 2 * n) - mean, load(rows, at + 3 * n) - mean
                square = square + ((a * a + b * b) + (c * c + d * d))
            inverse = one / sqrt(square * share + least)
            for c in range(width):
                store(rows, c * n, (load(rows, c * n) - mean) * inverse * each(gain, c) + each(shift, c))
            store_columns(y, first * width, width, here, width, beta, rows, 0)


@compiled(
    "void(real[:, ::1], real[:, ::1], real[::1], float64, boolean, real[:, ::1], int64, real[:, :, ::1], "
    "real[::1], int64, real[::1], int64)",
    parallel=True,
)
def slopes(g, x, gain, eps, centred, dx, beta, sums, dgain, gain_beta, dshift, shift_beta):
    """See norm_vjp; a beta below 0 says that a gradient is not wanted. sums: three rows a part, the last left."""
    count, width = x.shape
    parts = sums.shape[0]
    for part in prange(parts):
        rows = workspace(x, _BACKWARD)
        n = lanes(rows)
        groups = -(-count // n)
        none, one, size, least = fill(rows, 0), fill(rows, 1), fill(rows, width), fill(rows, eps)
        share = one / size
        others, along_x, plain, end = width * n, 2 * width * n, 3 * width * n, 4 * width * n  # where what lies
        for at in range(along_x, end, n):
            store(rows, at, none)
        for group in range(part * groups // parts, (part + 1) * groups // parts):
            first = group * n
            here = min(n, count - first)
            load_columns(rows, 0, g, first * width, width, here, width)
            load_columns(rows, others, x, first * width, width, here, width)
            mean = _mean(rows, others, width) if centred else none
            square, level, along = none, none, none
            for c in range(0, others, n):
                apart, scaled = load(rows, others + c) - mean, load(rows, c) * each(gain, c // n)
                store(rows, others + c, apart)
                square, level, along = square + apart * apart, level + scaled, along + scaled * apart
            inverse = one / sqrt(square * share + least)
            level, along = level / size if centred else none, along * inverse * share
            for c in range(0, others, n):
                slope, h = load(rows, c), load(rows, others + c) * inverse
                store(rows, along_x + c, load(rows, along_x + c) + slope * h)
                store(rows, plain + c, load(rows, plain + c) + slope)
                store(rows, c, inverse * (slope * each(gain, c // n) - level - h * along))
            if beta >= 0:
                store_columns(dx, first * width, width, here, width, beta, rows, 0)
        for c in range(width):
            sums[part, 0, c] = total(load(rows, along_x + c * n))
            sums[part, 1, c] = total(load(rows, plain + c * n))
    if gain_beta >= 0:
        add_up(sums, 0, dgain, gain_beta)
    if shift_beta >= 0:
        add_up(sums, 1, dshift, shift_beta)


@numba.njit(**OPTIONS)
def _mean(rows, at, width):
    """That of rows whose columns begin at `at`, by lanes."""
    n = lanes(rows)
    mean = fill(rows, 0)
    for c in range(at, at + width * n, 4 * n):
        mean = mean + ((load(rows, c) + load(rows, c + n)) + (load(rows, c + 2 * n) + load(rows, c + 3 * n)))
    return mean / fill(rows, width)  # not times 1 / width: of equal numbers it is that number


@numba.njit(**OPTIONS)
def add_up(sums, which, out, beta):
    """out = the sum over parts, in their order"""
    for c in range(out.size):
        found = out[c] if beta else out.dtype.type(0)
        for part in range(sums.shape[0]):
            found += sums[part, which, c]
        out[c] = found
