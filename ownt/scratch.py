"""Scratch tensors: what ops compute into. Freed with their last holder; see ownt.arena."""

from __future__ import annotations

from typing import Any

from ownt import device as devices
from ownt import memory
from ownt.layout import FROM_LAST, channels_last
from ownt.mark import Mark
from ownt.tensor import Tensor
from ownt.thread import state


def empty(shape: tuple[int, ...], like: Tensor | None = None, dtype: Any = None, kind: str = "activation") -> Tensor:
    """An uninitialised scratch tensor on the device and, unless `dtype` is given, of the dtype of `like`."""
    if like is None:
        return memory.scratch().empty(shape, dtype, kind)
    array = like._array
    place = devices.of(array)
    arena = state.scratch.get(place) or memory.scratch(place)
    return arena.empty(shape, array.dtype if dtype is None else dtype, kind)


def images(shape: tuple[int, ...], like: Tensor, dtype: Any = None) -> Tensor:
    """An uninitialised scratch tensor of images (N, C, H, W) whose channels lie last in memory."""
    n, channels, height, width = shape
    return empty((n, height, width, channels), like, dtype).transpose(FROM_LAST)


def workspace(shape: tuple[int, ...], beside: Any, dtype: Any = None) -> Tensor:
    """An uninitialised tensor for a launch to work in, on the device and, unless `dtype` is given, of the dtype of an
    array. The binder that takes it holds it until it returns.
    """
    place = devices.of(beside)
    arena = state.scratch.get(place) or memory.scratch(place)
    return arena.empty(shape, beside.dtype if dtype is None else dtype, "workspace")


def alike(x: Tensor) -> Tensor:
    """An uninitialised scratch tensor of the shape, dtype and layout of `x`."""
    array = x._array
    return images(array.shape, x) if array.ndim == 4 and channels_last(array) else empty(array.shape, x)


def mark(device: str | None = None) -> Mark:
    """Bracket a stretch of work: whatever scratch is made in it must be dropped by its end.

    ```
    with ownt.scratch.mark():
        loss = model.loss(x, y)
        loss.backward()
        del loss
    ```
    Raises: ownt.HeldError at the end, naming what is still held.
    """
    return memory.scratch(device).mark()
