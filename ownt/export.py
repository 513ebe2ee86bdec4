"""Arrays and numbers for those outside: NumPy arrays that keep a tensor's memory alive, Python's numbers."""

from __future__ import annotations

from typing import Any, final

from ownt import device as devices
from ownt.dtype import bfloat16, float32


@final
class _Export:
    """What NumPy arrays handed out have as their base: it keeps the memory, and its Block, alive."""

    __slots__ = ("__array_interface__", "array", "block")

    def __init__(self, array: Any, block: Any) -> None:
        self.__array_interface__ = array.__array_interface__
        self.array = array
        self.block = block


def as_numpy(array: Any, block: Any) -> Any:
    """A NumPy array of the same memory as `array`, which is NumPy's too, that keeps `block` alive."""
    made = devices.cpu.from_host(_Export(array, block))
    return made if made.dtype == array.dtype else made.view(array.dtype)  # of bfloat16 an interface says but its size


def as_python(host: Any) -> Any:
    """A NumPy array of numbers that Python has: those of bfloat16 it takes for bytes."""
    return host.astype(float32) if host.dtype == bfloat16 else host
