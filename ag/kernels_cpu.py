"""Shared kernels on the CPU, compiled: copy and scale; sums over rows, in blocks that depend on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag import kernels
from ownt import scratch
from ownt.compiled_cpu import SMALL, compiled, prange
from ownt.elementwise_cpu import elementwise
from ownt.kernel import Out

_ROWS = 32  # of a block at least
_BLOCKS = 16  # at most
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
        for r in range(part * count // parts, (part + 1) * count // parts):
            row = x[r]
            for c in range(width):
                block[c] += row[c]
    for c in range(width):
        total = out[c] if beta else out.dtype.type(0)
        for part in range(parts):
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
    return sum_rows[x.dtype, x.size > SMALL], (rows, sums.array, y.reshape(-1), out.beta)
