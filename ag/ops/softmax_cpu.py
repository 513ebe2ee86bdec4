"""softmax and log_softmax on the CPU, compiled, along a last axis in one run of bytes; other axes by the references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ag.ops.softmax import log_softmax_kernel, log_softmax_vjp, softmax_kernel, softmax_vjp
from ownt.compiled_cpu import HEAVY, Compiled, blocks, compiled, exp, largest, prange
from ownt.kernel import Kernel, Out

_ROWS = 16  # of a block


@compiled("void(real[:, ::1], real[:, ::1], int64)", parallel=True)
def softmax(x, y, beta):
    """See softmax_kernel; it is never added to."""
    count, width = x.shape
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            row, result = x[r], y[r]
            top, total = largest(row), x.dtype.type(0)
            for j in range(width):
                result[j] = exp(row[j] - top)
            for j in range(width):
                total += result[j]
            scale = x.dtype.type(1) / total
            for j in range(width):
                result[j] *= scale


@compiled("void(real[:, ::1], real[:, ::1], int64)", parallel=True)
def log_softmax(x, y, beta):
    """See log_softmax_kernel; it is never added to."""
    count, width = x.shape
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            row, result = x[r], y[r]
            top, total = largest(row), x.dtype.type(0)
            for j in range(width):
                total += exp(row[j] - top)
            rest = numpy.log(total)
            for j in range(width):
                result[j] = (row[j] - top) - rest


@compiled("void(real[:, ::1], real[:, ::1], real[:, ::1], int64)", parallel=True)
def softmax_slope(g, y, dx, beta):
    """See softmax_vjp."""
    count, width = y.shape
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            slope, row, result = g[r], y[r], dx[r]
            along = y.dtype.type(0)
            for j in range(width):
                along += slope[j] * row[j]
            if beta:
                for j in range(width):
                    result[j] += row[j] * (slope[j] - along)
            else:
                for j in range(width):
                    result[j] = row[j] * (slope[j] - along)


@compiled("void(real[:, ::1], real[:, ::1], real[:, ::1], int64)", parallel=True)
def log_softmax_slope(g, y, dx, beta):
    """See log_softmax_vjp."""
    count, width = y.shape
    for block in prange(blocks(count, _ROWS)):
        for r in range(block * _ROWS, min(count, (block + 1) * _ROWS)):
            slope, row, result = g[r], y[r], dx[r]
            total = y.dtype.type(0)
            for j in range(width):
                total += slope[j]
            if beta:
                for j in range(width):
                    result[j] += slope[j] - exp(row[j]) * total
            else:
                for j in range(width):
                    result[j] = slope[j] - exp(row[j]) * total


def _along_the_last_axis(kernel: Kernel, loop: Compiled) -> None:
    @kernel.on("cpu", "float32", "float64")
    def _(*arrays: Any, out: Out) -> tuple[Callable[..., None], tuple] | None:
        *inputs, axis = arrays
        y = out.array
        if not y.size or axis != y.ndim - 1 or not all(array.flags.c_contiguous for array in (*inputs, y)):
            return None
        width = y.shape[-1]
        rows = [array.reshape(-1, width) for array in (*inputs, y)]
        return loop[y.dtype, y.size > HEAVY], (*rows, out.beta)


_along_the_last_axis(softmax_kernel, softmax)
_along_the_last_axis(log_softmax_kernel, log_softmax)
_along_the_last_axis(softmax_vjp, softmax_slope)
_along_the_last_axis(log_softmax_vjp, log_softmax_slope)
