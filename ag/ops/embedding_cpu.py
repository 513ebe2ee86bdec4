"""Embedding on the CPU, compiled. Its gradient is shared out by columns: no two threads add to one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ag.ops.embedding import embedding_kernel, embedding_vjp
from ownt import threads
from ownt.compiled_cpu import SMALL, blocks, compiled, prange
from ownt.kernel import Out

_ROWS = 64  # of a block


@compiled("void(int64[::1], real[:, ::1], real[:, ::1], int64)", parallel=True)
def look_up(indices, table, out, beta):
    """out[i] = table[indices[i]]"""
    count, width = out.shape
    for block in prange(blocks(count, _ROWS)):
        for i in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            row, result = table[indices[i]], out[i]
            for c in range(width):
                result[c] = row[c] + (result[c] if beta else table.dtype.type(0))


@compiled("void(real[:, ::1], int64[::1], real[:, ::1], int64)", parallel=True)
def add_rows(g, indices, out, parts):
    """out[indices[i]] += g[i], in this order, each thread for some of the columns"""
    width = g.shape[1]
    for part in prange(parts):
        first, last = part * width // parts, (part + 1) * width // parts
        for i in range(indices.size):
            row, result = g[i, first:last], out[indices[i], first:last]
            for c in range(row.size):
                result[c] += row[c]


@embedding_kernel.on("cpu", "float32", "float64")
def _(indices: Any, table: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    if indices.dtype != numpy.int64 or not all(array.flags.c_contiguous for array in (indices, table, y)):
        return None
    rows = y.reshape(-1, table.shape[1]) if table.shape[1] else None
    if rows is None:
        return None
    return look_up[y.dtype, y.size > SMALL], (indices.reshape(-1), table, rows, out.beta)


@embedding_vjp.on("cpu", "float32", "float64")
def _(g: Any, indices: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    if indices.dtype != numpy.int64 or not all(array.flags.c_contiguous for array in (g, indices, out.array)):
        return None
    wide = g.size > SMALL
    return add_rows[g.dtype, wide], (g, indices, out.array, threads.get_num_threads() if wide else 1)
