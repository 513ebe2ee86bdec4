"""The array-module switch: where bytes live, and the module that computes on them.

Everything above asks this module which array module to use, so that one source runs on all devices.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import mmap
import sys
from collections.abc import Iterator
from typing import Any, final

import numpy

from ownt import threads
from ownt.ledger import Ledger, ledger
from ownt.thread import state


class Device:
    """A place where arrays live.

    xp:     its array module, with NumPy's interface
    array:  the type of its arrays
    kernels: the name of the device whose kernels it uses
    ledger: who holds which bytes on it
    special: the name of its module with SciPy's special functions
    align:  bytes to which memory on it is aligned: one cache line, and one AVX-512 vector
    """

    def __init__(self, name: str, xp: Any, array: type, special: str, align: int) -> None:
        self.name = name
        self.xp = xp
        self.array = array
        self.special = special
        self.align = align
        self.kernels = name
        self.ledger = Ledger()

    def __repr__(self) -> str:
        return self.name

    def allocate(self, size_bytes: int) -> Any:
        """`size_bytes` uninitialised bytes in an allocation of their own, aligned."""
        raw = numpy.empty(size_bytes + self.align, numpy.uint8)
        lead = -raw.ctypes.data % self.align
        return raw[lead : lead + size_bytes]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised array in an allocation of its own, of exact size."""
        return self.xp.empty(shape, dtype)

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

    def runs(self) -> bool:
        """Whether launches do anything."""
        return True


class MetaArray(numpy.ndarray):
    """An array of which only shape, dtype and strides count: its numbers are nobody's."""


@final
class Meta(Device):
    """A device without data: shapes, dtypes and the ledger of what the CPU would do.

    Its arrays lie in address space that is reserved and never touched, so that a model of any size fits.
    """

    def __init__(self, name: str, xp: Any, array: type, special: str, align: int) -> None:
        super().__init__(name, xp, array, special, align)
        self.kernels = "cpu"

    def allocate(self, size_bytes: int) -> Any:
        return numpy.frombuffer(_reserved(size_bytes), numpy.uint8, size_bytes)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        dtype = numpy.dtype(dtype)
        return MetaArray(shape, dtype, _reserved(math.prod(shape) * dtype.itemsize))

    @staticmethod
    def view(memory: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
        return MetaArray(shape, dtype, memory, offset)

    def to_host(self, array: Any) -> numpy.ndarray:
        raise RuntimeError(
            f"a tensor of shape {array.shape} on the device 'meta' was read: expected code that needs no values; "
            "there are none. Run it on the CPU"
        )

    def from_host(self, values: Any, dtype: Any = None) -> Any:
        if isinstance(values, MetaArray):
            return values if dtype is None else self.empty(values.shape, dtype)
        array = numpy.asarray(values, dtype)
        return self.empty(array.shape, array.dtype)

    def runs(self) -> bool:
        return False


def _reserved(size_bytes: int) -> mmap.mmap:
    """Address space of which no byte is real until it is written."""
    no_reserve = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which Python names from 3.13 on
    options: dict[str, Any] = {}
    if hasattr(mmap, "MAP_PRIVATE"):
        options["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    return mmap.mmap(-1, max(size_bytes, 1), **options)


cpu = Device("cpu", numpy, numpy.ndarray, special="scipy.special", align=64)
cpu.ledger = ledger
meta = Meta("meta", numpy, MetaArray, special="scipy.special", align=64)
_DEVICES = {"cpu": cpu, "meta": meta}
_BY_ARRAY: dict[type, Device] = {device.array: device for device in _DEVICES.values()}


def get(name: str | Device | None) -> Device:
    """The device called `name`; None is the one in use, the CPU unless `use` says otherwise.

    Raises: ValueError naming the devices that exist.
    """
    if isinstance(name, Device):
        return name
    try:
        return _DEVICES[name] if name else state.device or cpu
    except KeyError:
        raise ValueError(f"unknown device {name!r}: expected one of {', '.join(_DEVICES)}") from None


@contextlib.contextmanager
def use(name: str | Device) -> Iterator[Device]:
    """Have tensors made on a device unless another is named: `with ownt.device.use("meta"): ...`."""
    outer, state.device = state.device, get(name)
    try:
        yield state.device
    finally:
        state.device = outer


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
