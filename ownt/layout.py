"""Layouts of images: logically (N, C, H, W), in memory with the channels first or last."""

from __future__ import annotations

from typing import Any

TO_LAST, FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


def channels_last(array: Any) -> bool:
    """Whether it is an array of images whose channels lie last, and not first too."""
    return array.ndim == 4 and not array.flags.c_contiguous and array.transpose(TO_LAST).flags.c_contiguous


def by_strides(array: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(the axes from the farthest apart to the nearest in memory, the order that undoes it)"""
    order = tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
    return order, tuple(sorted(range(array.ndim), key=order.__getitem__))
