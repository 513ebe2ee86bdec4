"""Adam and AdamW on the CPU, compiled: all parameters of a group in one pass over weights, gradients and both means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from nn.optim.adam import adam_kernel
from nn.optim.table_cpu import Table, array_at
from ownt.compiled_cpu import OPTIONS, SMALL, compiled, prange
from ownt.kernel import Out


@numba.njit(**OPTIONS)
def _piece(p, g, mean, square, factor, lr, beta1, beta2, eps, decay, shrink, mean_scale, square_scale):
    one = p.dtype.type(1)
    for i in range(p.size):
        slope = g[i] * factor + decay * p[i]
        mean[i] = beta1 * mean[i] + (one - beta1) * slope
        square[i] = beta2 * square[i] + (one - beta2) * slope * slope
        root = numpy.sqrt(square[i] * square_scale)
        p[i] = p[i] * shrink - lr * (mean[i] * mean_scale) / (root + eps)


@compiled("void(uint64[:, ::1], int64[:, ::1], float64[:, ::1], boolean, real[::1])", parallel=True)
def update(addresses, pieces, numbers, decoupled, like):
    """p -= lr m / (sqrt(v) + eps), p shrunk first if decoupled; m, v the unbiased means. See Table."""
    real = like.dtype.type
    for i in prange(pieces.shape[0]):
        which, start, size = pieces[i]
        row = numbers[which]
        lr, beta1, beta2, decay = row[1], row[2], row[3], row[5]
        _piece(
            array_at(addresses[which, 0], start, size, like), array_at(addresses[which, 1], start, size, like),
            array_at(addresses[which, 2], start, size, like), array_at(addresses[which, 3], start, size, like),
            real(row[0]), real(lr), real(beta1), real(beta2), real(row[4]),
            real(0.0 if decoupled else decay), real(1.0 - lr * decay if decoupled else 1.0),
            real(1.0 / row[6]), real(1.0 / row[7]),
        )  # fmt: skip


@adam_kernel.on("cpu", "float32")
def _(
    grads: tuple[Any, ...], numbers: Any, position: Any, decoupled: bool,
    *, out: list[Out], half: list[Out] | None, exp_avg: list[Out], exp_avg_sq: list[Out],
) -> tuple[Callable[..., None], tuple] | None:  # fmt: skip
    table = Table.of(out, grads, exp_avg, exp_avg_sq)
    if half is not None or position is not None or table is None:
        return None
    wide = table.size > SMALL
    return update[table.like.dtype, wide], (table.addresses, table.pieces, numbers, decoupled, table.like)
