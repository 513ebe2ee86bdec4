"""Checks of indices on the CPU, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ownt.compiled_cpu import compiled


@compiled("void(int64[::1], int64, int64, boolean, int64)")
def check(indices, least, size, is_given, ignored):
    """Raises: IndexError unless all are from `least` to size - 1, or `ignored` if that is given"""
    wrong = 0
    for i in range(indices.size):
        out = (indices[i] < least) | (indices[i] >= size)
        wrong += out & ((indices[i] != ignored) | (not is_given))
    if wrong:
        raise IndexError


def bind(indices: Any, least: int, size: int, ignored: int | None) -> tuple[Callable[..., None], tuple] | None:
    """What checks them; None for those that it is not compiled for."""
    if indices.dtype != "int64" or not indices.flags.c_contiguous:
        return None
    return check[indices.dtype, False], (indices.reshape(-1), least, size, ignored is not None, ignored or 0)
