"""The array-module switch: where bytes live, and the module that computes on them.

Everything above asks this module which array module to use, so that one source runs on all devices.
"""

from __future__ import annotations

import importlib
from typing import Any, final

import numpy

from ownt import threads


@final
class Device:
    """A place where arrays live.

    xp:     its array module, with NumPy's interface
    array:  the type of its arrays
    special: the name of its module with SciPy's special functions
    align:  bytes to which memory on it is aligned: one cache line, and one AVX-512 vector
    """

    def __init__(self, name: str, xp: Any, array: type, special: str, align: int) -> None:
        self.name = name
        self.xp = xp
        self.array = array
        self.special = special
        self.align = align

    def __repr__(self) -> str:
        return self.name

    def allocate(self, size_bytes: int) -> Any:
        """`size_bytes` uninitialised bytes in an allocation of their own, aligned."""
        raw = numpy.empty(size_bytes + self.align, numpy.uint8)
        lead = -raw.ctypes.data % self.align
        return raw[lead : lead + size_bytes]

    @staticmethod
    def view(memory: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """The array of `shape` that begins `offset` bytes into `memory`."""
        return numpy.ndarray(shape, dtype, memory, offset)

    def quiet(self) -> Any:
        """A context in which overflow and division by zero give Inf and NaN without a warning."""
        return numpy.errstate(all="ignore")

    def one_thread(self) -> Any:
        """A context in which this module's matrix products, many and small, run on one thread."""
        return threads.numpys_blas

    def to_host(self, array: Any) -> numpy.ndarray:
        """The array for NumPy; the same memory where that is possible."""
        return array

    def from_host(self, values: Any, dtype: Any = None) -> Any:
        """Values (an array, nested lists, a number) as an array here; no copy where possible."""
        return numpy.asarray(values, dtype)


cpu = Device("cpu", numpy, numpy.ndarray, special="scipy.special", align=64)
_DEVICES = {"cpu": cpu}
_BY_ARRAY: dict[type, Device] = {cpu.array: cpu}


def get(name: str | Device | None) -> Device:
    """The device called `name`; None is the CPU.

    Raises: ValueError naming the devices that exist.
    """
    if type(name) is Device:
        return name
    try:
        return _DEVICES[name or "cpu"]
    except KeyError:
        raise ValueError(f"unknown device {name!r}: expected one of {', '.join(_DEVICES)}") from None


def of(array: Any) -> Device:
    """The device on which an array lives; that of NumPy's scalars, which 0-d arithmetic gives, is the CPU."""
    return _BY_ARRAY.get(type(array)) or _BY_ARRAY[numpy.ndarray if isinstance(array, numpy.generic) else type(array)]


def module(array: Any) -> Any:
    """The array module to which an array belongs: what a reference kernel calls `xp`."""
    return of(array).xp


def special(array: Any) -> Any:
    """SciPy's special functions for an array, loaded on first use."""
    return importlib.import_module(of(array).special)


def is_array(value: Any) -> bool:
    """Whether a value is an array of some device."""
    return type(value) in _BY_ARRAY
