"""Clipping of gradients in place, by their common norm or each number by itself."""

from __future__ import annotations

import math
from typing import Any

from nn.optim.groups import parameters_of
from nn.optim.rule import wide
from ownt import Tensor
from ownt import device as devices
from ownt.kernel import Out, kernel, pieces


@kernel(elementwise=True)
def scale_kernel(factor: float, *, out: Out) -> None:
    """out *= factor, which may be too small a number for float16"""
    multiply = devices.module(out.array).multiply
    multiply(out.array, factor, out=out.array, dtype=wide(out.array.dtype), casting="same_kind")


@kernel(elementwise=True)
def limit_kernel(limit: float, *, out: Out) -> None:
    """out = out, from -limit to limit"""
    devices.module(out.array).clip(out.array, -limit, limit, out=out.array)


def grads_of(name: str, parameters: Any) -> list[Tensor]:
    """The gradients that there are, each once."""
    return [node.grad for node in parameters_of(name, parameters) if node.grad is not None]


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients in place so that their common norm is at most `max_norm`; returns the norm from before.

    A norm of NaN makes all gradients NaN, an infinite one makes finite gradients 0.
    Raises: RuntimeError for such a norm with `error_if_nonfinite`, before anything changes.
    """
    name = "clip_grad_norm_"
    _expect(name, "max_norm", max_norm >= 0, "of 0 or more", max_norm)
    _expect(name, "norm_type", norm_type > 0, "above 0, or inf", norm_type)
    grads = grads_of(name, parameters)
    norm = _norm(grads, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"{name}: expected gradients of a finite norm; got {norm}. Find where it began: ag.detect_anomaly"
        )
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # NaN is not to pass for a small norm
        for grad in grads:
            scale_kernel(factor, out=Out(grad, 1))
    return norm


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Bring every number of the gradients in place into the range from -clip_value to clip_value."""
    _expect("clip_grad_value_", "clip_value", clip_value >= 0, "of 0 or more", clip_value)
    for grad in grads_of("clip_grad_value_", parameters):
        limit_kernel(clip_value, out=Out(grad, 1))


def _norm(grads: list[Tensor], order: float) -> float:
    """In float64, a piece at a time: squares of float32 overflow, and a whole copy would take memory."""
    norms = [_norm_of(grad.array[key], order) for grad in grads if grad.size for key, _ in pieces(grad.shape)]
    return _norm_of(devices.cpu.from_host(norms), order) if norms else 0.0


def _norm_of(array: Any, order: float) -> float:
    place = devices.of(array)
    with place.quiet(), place.one_thread():  # threads of NumPy's BLAS would spin, and the kernels' wait for a core
        return float(place.xp.linalg.norm(array.astype("float64").ravel(), order))


def _expect(name: str, argument: str, holds: bool, what: str, value: float) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {argument} {what}; got {value}")
