"""Adam and AdamW on the CPU, compiled: one pass over weights, gradient and both means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from nn.optim.adam import adam_kernel
from ownt.compiled_cpu import OPTIONS, PIECE, SMALL, blocks, compiled, flat, prange
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


@compiled(f"void(real[::1], real[::1], real[::1], real[::1]{', real' * 9})", parallel=True)
def update(p, g, mean, square, factor, lr, beta1, beta2, eps, decay, shrink, mean_scale, square_scale):
    """p -= lr m / (sqrt(v) + eps), p shrunk first; m, v the means times their scales"""
    for part in prange(blocks(p.size, PIECE)):
        start, stop = part * PIECE, (part + 1) * PIECE
        _piece(
            p[start:stop], g[start:stop], mean[start:stop], square[start:stop],
            factor, lr, beta1, beta2, eps, decay, shrink, mean_scale, square_scale,
        )  # fmt: skip


@adam_kernel.on("cpu", "float32")
def _(
    g: Any, factor: float, lr: float, betas: tuple[float, float], eps: float, decay: float, decoupled: bool, step: int,
    *, out: Out, half: Out | None, exp_avg: Out, exp_avg_sq: Out,
) -> tuple[Callable[..., None], tuple] | None:  # fmt: skip
    arrays = flat(out.array, g, exp_avg.array, exp_avg_sq.array)
    if half is not None or arrays is None or g.dtype != out.array.dtype:
        return None
    beta1, beta2 = betas
    coupled, shrink = (0.0, 1 - lr * decay) if decoupled else (decay, 1.0)
    scales = 1 / (1 - beta1**step), 1 / (1 - beta2**step)
    arguments = (*arrays, factor, lr, beta1, beta2, eps, coupled, shrink, *scales)
    return update[out.array.dtype, out.array.size > SMALL], arguments
