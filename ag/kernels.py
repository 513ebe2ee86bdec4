"""Kernels that many ops share: fill, copy, scale, and sums down to a broadcast operand's shape."""

from __future__ import annotations

from typing import Any

from ownt.device import module
from ownt.kernel import Out, kernel, pieces


@kernel(elementwise=True, moves=True)
def fill(value: float, *, out: Out) -> None:
    """out = value"""
    out.store(value)


@kernel(elementwise=True, moves=True)
def copy(x: Any, *, out: Out) -> None:
    """out = x, broadcast"""
    out.store(x)


@kernel(elementwise=True, casts=True)
def cast(x: Any, *, out: Out) -> None:
    """out = x, in the dtype of out"""
    out.store(x)


@kernel(elementwise=True, casts=True)
def cast_by(x: Any, factor: Any, *, out: Out) -> None:
    """out = x * factor, in the dtype of out; factor is a float32 number in memory, a sum's or a scale's"""
    out.store(x.astype(factor.dtype) * factor)


@kernel(elementwise=True)
def scale(x: Any, factor: float, *, out: Out) -> None:
    """out = x * factor"""
    out.store(x * factor)


@kernel
def sum_to(x: Any, *, out: Out) -> None:
    """out = x summed over the axes along which out would be broadcast to x.

    Piece by piece over out, so that a parameter's gradient never has a temporary of its own size.
    """
    target = out.view((1,) * (x.ndim - out.array.ndim) + out.array.shape)
    shape = target.array.shape
    axes = tuple(i for i, (small, large) in enumerate(zip(shape, x.shape, strict=True)) if small != large or large == 1)
    for key, _ in pieces(shape):
        from_x = tuple(slice(None) if i in axes else part for i, part in enumerate(key))
        target[key].store(module(x).sum(x[from_x], axis=axes, keepdims=True))
