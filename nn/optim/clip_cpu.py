"""Clipping on the CPU, compiled: all gradients in one launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from nn.optim.clip import factor_of, limit_norm_kernel, norm_kernel
from nn.optim.table_cpu import Table, array_at
from ownt import scratch
from ownt.compiled_cpu import OPTIONS, SMALL, compiled, prange
from ownt.kernel import Out

_factor_of = numba.njit(factor_of)


@compiled("void(uint64[:, ::1], int64[:, ::1], real[::1], float64[::1], float64[::1])", parallel=True)
def norm(addresses, pieces, like, sums, out):
    """out = the root of the sum of all squares, those of each piece first. See Table."""
    for i in prange(pieces.shape[0]):
        which, start, size = pieces[i]
        array = array_at(addresses[which, 0], start, size, like)
        total = 0.0
        for j in range(size):
            total += numpy.float64(array[j]) * numpy.float64(array[j])
        sums[i] = total
    total = 0.0
    for i in range(sums.size):
        total += sums[i]
    out[0] = numpy.sqrt(total)


@numba.njit(**OPTIONS)
def _scale(array, factor):
    for i in range(array.size):
        array[i] *= factor


@compiled("void(uint64[:, ::1], int64[:, ::1], real[::1], float64[::1], float64)", parallel=True)
def limit(addresses, pieces, like, norm, max_norm):
    """Every array *= max_norm / norm, if that is below 1. See Table."""
    factor = _factor_of(norm[0], max_norm)
    if not factor >= 1:
        for i in prange(pieces.shape[0]):
            which, start, size = pieces[i]
            _scale(array_at(addresses[which, 0], start, size, like), like.dtype.type(factor))


@norm_kernel.on("cpu", "float64")
def _(grads: tuple[Any, ...], order: float, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    table = Table.of(grads) if order == 2 and grads else None
    if table is None:
        return None
    sums = scratch.empty((len(table.pieces),), dtype="float64", kind="workspace")
    return norm[table.like.dtype, table.size > SMALL], (
        table.addresses, table.pieces, table.like, sums.array, out.array.reshape(1),
    )  # fmt: skip


@limit_norm_kernel.on("cpu", "float32", "float64")
def _(norm: Any, max_norm: float, *, out: list[Out]) -> tuple[Callable[..., None], tuple] | None:
    table = Table.of(out)
    if table is None:
        return None
    return limit[table.like.dtype, table.size > SMALL], (
        table.addresses, table.pieces, table.like, norm.reshape(1), max_norm,
    )  # fmt: skip
