"""Clipping of gradients in place, by their common norm or each number by itself."""

from __future__ import annotations

import math
from typing import Any

from nn.optim.groups import parameters_of
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import wide
from ownt.kernel import Out, in_pieces, kernel, pieces


@kernel(casts=True)
def scale_kernel(factor: float, *, out: list[Out]) -> None:
    """Each out *= factor, which may be too small a number for float16"""
    for grad in out:
        in_pieces(_scale, [factor], {"out": grad})


@kernel(casts=True)
def norm_kernel(grads: tuple[Any, ...], order: float, *, out: Out) -> None:
    """out = the common norm, of an order, of all grads, in float64: squares of float32 overflow. Shapes: out ()"""
    norms = [_norm(grad[key], order) for grad in grads if grad.size for key, _ in pieces(grad.shape)]
    out.store(_norm(devices.module(out.array).asarray(norms), order) if norms else 0.0)


@kernel(casts=True)
def limit_norm_kernel(norm: Any, max_norm: float, *, out: list[Out]) -> None:
    """Each out *= max_norm / norm, if that is below 1. Shapes: norm ()"""
    factor = factor_of(float(norm), max_norm)
    if not factor >= 1:  # NaN is not to pass for a small norm
        scale_kernel.reference(factor, out=out)


def factor_of(norm: float, max_norm: float) -> float:
    """What gradients are multiplied by, unless it is 1 or more."""
    return max_norm / (norm + 1e-6)


@kernel(casts=True)
def limit_kernel(limit: float, *, out: list[Out]) -> None:
    """Each out = out, from -limit to limit, either of which may be too large a number for float16"""
    for grad in out:
        in_pieces(_limit, [limit], {"out": grad})


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
    found = norm_of(grads, norm_type)
    if error_if_nonfinite and not math.isfinite(found.item()):
        raise RuntimeError(
            f"{name}: expected gradients of a finite norm; got {found.item()}. Find where it began: ag.detect_anomaly"
        )
    limit_norm(grads, found, max_norm)
    return found.item()  # only now: reading it waits for a GPU


def norm_of(grads: list[Tensor], norm_type: float = 2.0) -> Tensor:
    """The common norm of all gradients, where they are. Shapes: -> (), float64"""
    like = grads[0] if grads else None
    found = scratch.empty((), like=like, dtype="float64", kind="workspace")
    norm_kernel(tuple(grads), norm_type, out=Out(found))
    return found


def limit_norm(grads: list[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale all gradients in place so that their common norm, which is given, becomes at most `max_norm`."""
    if grads:
        limit_norm_kernel(norm, max_norm, out=[Out(grad, 1) for grad in grads])


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Bring every number of the gradients in place into the range from -clip_value to clip_value."""
    _expect("clip_grad_value_", "clip_value", clip_value >= 0, "of 0 or more", clip_value)
    for grads in _by_device(grads_of("clip_grad_value_", parameters)):
        limit_kernel(clip_value, out=[Out(grad, 1) for grad in grads])


def are_finite(grads: list[Tensor]) -> bool:
    """Whether all numbers of all gradients are finite."""
    return all(math.isfinite(norm_of(part, math.inf).item()) for part in _by_device(grads))


def scale(grads: list[Tensor], factor: float) -> None:
    """Multiply all gradients in place."""
    for part in _by_device(grads):
        scale_kernel(factor, out=[Out(grad, 1) for grad in part])


def _by_device(grads: list[Tensor]) -> list[list[Tensor]]:
    """What launches of their own are for."""
    groups: dict[str, list[Tensor]] = {}
    for grad in grads:
        groups.setdefault(grad.device, []).append(grad)
    return list(groups.values())


def _scale(factor: float, *, out: Out) -> None:
    multiply = devices.module(out.array).multiply
    multiply(out.array, factor, out=out.array, dtype=wide(out.array.dtype), casting="same_kind")


def _limit(limit: float, *, out: Out) -> None:
    xp, dtype = devices.module(out.array), wide(out.array.dtype)
    out.array[...] = xp.clip(out.array.astype(dtype, copy=False), -limit, limit)


def _norm(array: Any, order: float) -> Any:
    place = devices.of(array)
    if order == math.inf:  # exact in any dtype
        return abs(array).max()
    with place.one_thread():  # threads of NumPy's BLAS would spin, and the kernels' wait for a core
        return place.xp.linalg.norm(array.astype("float64").ravel(), order)


def _expect(name: str, argument: str, holds: bool, what: str, value: float) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {argument} {what}; got {value}")
