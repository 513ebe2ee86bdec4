"""Shared kernels on the CPU, compiled: copy and scale; sums over rows, in blocks that depend on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from ag import kernels
from ownt import scratch
from ownt.compiled_cpu import OPTIONS, SMALL, compiled, prange
from ownt.elementwise_cpu import elementwise
from ownt.kernel import Out
from ownt.lanes_cpu import fill, lanes, load_some, store_some

_ROWS = 32  # of a block at least
_BLOCKS = 16  # at most
_NARROW = 128  # columns up to which sums over rows stay in registers
_WORTH_SHARING = 4 * SMALL  # elements from which a second thread pays: there is little to do with each
_WIDTH = 2  # columns below which NumPy sums in pairs, and so more exactly


@elementwise(kernels.fill, "float32", "float64")
def _(value: Any) -> Any:
    return value


@elementwise(kernels.copy, "float32", "float64")
def _(x: Any) -> Any:
    return x


@elementwise(kernels.scale, "float32", "float64")
def _(x: Any, factor: Any) -> Any:
    return x * factor


@compiled("void(real[:, ::1], real[:, ::1], real[::1], int64)", parallel=True)
def sum_rows(x, sums, out, beta):
    """out = the sum of the rows, those of each block first"""
    count, width = x.shape
    parts = sums.shape[0]
    for part in prange(parts):
        block = sums[part]
        for c in range(width):
            block[c] = x.dtype.type(0)
        first, end = part * count // parts, (part + 1) * count // parts
        whole = first + (end - first) // 4 * 4
        for r in range(first, whole, 4):
            s, t, u, v = x[r], x[r + 1], x[r + 2], x[r + 3]
            for c in range(width):
                block[c] += (s[c] + t[c]) + (u[c] + v[c])
        for r in range(whole, end):
            row = x[r]
            for c in range(width):
                block[c] += row[c]
    _add_up(sums, out, beta)


@compiled("void(real[:, ::1], real[:, ::1], real[::1], int64)", parallel=True)
def sum_narrow_rows(x, sums, out, beta):
    """sum_rows for rows of a few vectors: sums stay in registers."""
    count, width = x.shape
    parts = sums.shape[0]
    for part in prange(parts):
        n, none = lanes(x), fill(x, 0)
        first, end = part * count // parts * width, (part + 1) * count // parts * width
        whole = first + (end - first) // (4 * width) * (4 * width)
        for c in range(0, width, n):
            here = min(n, width - c)
            s, t, u, v = none, none, none, none
            for at in range(first + c, whole + c, 4 * width):
                s, t = s + load_some(x, at, here), t + load_some(x, at + width, here)
                u, v = u + load_some(x, at + 2 * width, here), v + load_some(x, at + 3 * width, here)
            for at in range(whole + c, end + c, width):
                s = s + load_some(x, at, here)
            store_some(sums, part * width + c, here, (s + t) + (u + v))
    _add_up(sums, out, beta)


@numba.njit(**OPTIONS)
def _add_up(sums, out, beta):
    for c in range(out.size):
        total = out[c] if beta else out.dtype.type(0)
        for part in range(sums.shape[0]):
            total += sums[part, c]
        out[c] = total


@compiled("void(real[:, ::1], real[::1], int64)")
def sum_few_rows(x, out, beta):
    """out = the sum of the rows, one after the other"""
    count, width = x.shape
    if not beta:
        for c in range(width):
            out[c] = x.dtype.type(0)
    for r in range(count):
        row = x[r]
        for c in range(width):
            out[c] += row[c]


@kernels.sum_to.on("cpu", "float32", "float64")
def _(x: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    """Of x (..., N, C) down to (C,), leading axes of size 1 aside: what the gradient of a bias is."""
    y = out.array
    width = y.size
    trailing = y.shape
    while trailing and trailing[0] == 1:
        trailing = trailing[1:]
    fits = width >= _WIDTH and x.shape[x.ndim - len(trailing) :] == trailing
    if not fits or not x.size or not (x.flags.c_contiguous and y.flags.c_contiguous):
        return None
    rows = x.reshape(-1, width)
    parts = min(_BLOCKS, rows.shape[0] // _ROWS)
    if parts < 2:
        return sum_few_rows[x.dtype, False], (rows, y.reshape(-1), out.beta)
    sums = scratch.empty((parts, width), dtype=x.dtype, kind="workspace")
    add = sum_narrow_rows if width <= _NARROW else sum_rows
    return add[x.dtype, x.size > _WORTH_SHARING], (rows, sums.array, y.reshape(-1), out.beta)
