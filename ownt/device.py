"""The array-module switch: where bytes live, and the module that computes on them.

Everything above asks this module which array module to use, so that one source runs on all devices.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import mmap
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy

from ownt import threads
from ownt.addresses_cpu import address_of
from ownt.ledger import Ledger, ledger
from ownt.thread import state


class DeviceError(RuntimeError):
    """A device that was asked for cannot be used here; the message says why, and what to do about it."""


class OutOfMemoryError(MemoryError):
    """A device has no memory left; nothing has changed, and work that needs less of it can go on."""


class Device:
    """A place where arrays live.

    xp:     its array module, with NumPy's interface
    array:  the type of its arrays
    kernels: the name of the device whose kernels it uses
    ledger: who holds which bytes on it
    special: the name of its module with SciPy's special functions
    align:  bytes to which memory on it is aligned: one cache line, and one AVX-512 vector
    note:   what its reports add
    chunk_bytes: that an arena on it takes at a time, at least
    """

    chunk_bytes = 1 << 20
    note = ""
    gemm: Any = None  # its library of matrix products; see ownt.gemm
    peers: dict[int, Device] | None = None  # devices with arrays of the same type, by their number
    faults: Any = None  # the ownt.faults.Faults of one that nobody waits for, to find what is wrong

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

    pointer = staticmethod(address_of)  # of an array: that of its first element

    def working(self) -> Any:
        """A context in which its array module works on this device, in the order of its launches."""
        return contextlib.nullcontext()

    def quiet(self) -> Any:
        """A context for references, in which overflow and division by zero give Inf and NaN without a warning."""
        return numpy.errstate(all="ignore")

    def one_thread(self) -> Any:
        """A context in which this module's matrix products, many and small, run on one thread."""
        return threads.numpys_blas

    def to_host(self, array: Any) -> numpy.ndarray:
        """The array for NumPy; the same memory where that is possible."""
        return array

    def from_host(self, values: Any, dtype: Any = None) -> Any:
        """Values (an array, nested lists, a number) as an array here; no copy where possible."""
        return numpy.asarray(host(values), dtype)

    def write(self, array: Any, key: Any, value: Any) -> None:
        """array[key] = value, which may be an array of any device, nested lists or a number."""
        array[key] = host(value)

    def bring(self, value: Any) -> Any:
        """An array of whatever device as one here, for the moment; anything else as it is."""
        return host(value)

    def export(self, array: Any, owner: Any) -> Any:
        """The array for other libraries: it keeps `owner` alive."""
        return numpy.asarray(_Export(array, owner)).view(array.dtype)  # NumPy's protocol has no name for bfloat16

    def graph(self, launches: Sequence[Any]) -> Callable[[], None] | None:
        """What does all that launches do, given addresses and numbers now; None where there is nothing of the kind.

        Raises: CaptureError for a launch that cannot be part of it.
        """
        return None

    def joined(self, calls: list[Any]) -> list[Any]:
        """Calls (function, arguments) that do the same, given addresses and numbers now: of compiled kernels fewer."""
        return importlib.import_module("ownt.chain_cpu").joined(calls)

    def synchronize(self) -> None:
        """Wait until all that was launched is done."""

    def occupied(self) -> dict[str, int]:
        """Bytes of it by who took them from the system; empty where nobody knows."""
        return {}

    def runs(self) -> bool:
        """Whether launches do anything."""
        return True


class _Export:
    """What NumPy arrays handed out have as their base: it keeps the memory, and its owner, alive."""

    __slots__ = ("__array_interface__", "array", "owner")

    def __init__(self, array: Any, owner: Any) -> None:
        self.__array_interface__ = array.__array_interface__
        self.array = array
        self.owner = owner


class MetaArray(numpy.ndarray):
    """An array of which only shape, dtype and strides count: its numbers are nobody's."""


@final
class Meta(Device):
    """A device without data: shapes, dtypes and the ledger of what the CPU would do; or a GPU, see ownt.meta_cuda.

    Its arrays lie in address space that is reserved and never touched, so that a model of any size fits.
    """

    def __init__(self, name: str, xp: Any, array: type, special: str, align: int) -> None:
        super().__init__(name, xp, array, special, align)
        self.kernels = "cpu"

    def allocate(self, size_bytes: int) -> Any:
        return numpy.frombuffer(_reserved(size_bytes), numpy.uint8, size_bytes)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        dtype = numpy.dtype(dtype)
        return self.array(shape, dtype, _reserved(math.prod(shape) * dtype.itemsize))

    def view(self, memory: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:  # type: ignore[override]
        return self.array(shape, dtype, memory, offset)

    def to_host(self, array: Any) -> numpy.ndarray:
        raise RuntimeError(
            f"a tensor of shape {array.shape} on the device {self.name!r} was read: expected code that needs no "
            "values; there are none. Run it on the CPU"
        )

    def from_host(self, values: Any, dtype: Any = None) -> Any:
        if isinstance(values, MetaArray):
            ours = dtype is None and type(values) is self.array
            return values if ours else self.empty(values.shape, dtype or values.dtype)
        array = numpy.asarray(values, dtype)
        return self.empty(array.shape, array.dtype)

    def write(self, array: Any, key: Any, value: Any) -> None:
        """Nothing: there are no numbers."""

    def bring(self, value: Any) -> Any:
        return value

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
several = False  # whether arrays of one type may lie on more devices than one


def get(name: str | Device | None) -> Device:
    """The device called `name`; None is the one in use, the CPU unless `use` says otherwise.

    "cuda" is the first GPU, "cuda:1" the second. CuPy is imported, and the GPU looked at, when one is first asked for.
    "meta" has no data, for estimates of what the CPU would hold, "meta:cuda" for those of a GPU.
    Raises: ValueError naming the devices that exist; DeviceError for a GPU that cannot be used.
    """
    if isinstance(name, Device):
        return name
    found = _DEVICES.get(name) if name else state.device or cpu
    if found is not None:
        return found
    kind, _, number = str(name).partition(":")
    if name == "meta:cuda":
        return register(importlib.import_module("ownt.meta_cuda").device)
    if kind != "cuda" or not (number.isdecimal() or name == "cuda"):
        raise ValueError(f"unknown device {name!r}: expected one of cpu, meta, meta:cuda, cuda or cuda:1")
    index = int(number or 0)
    known = _DEVICES.get(f"cuda:{index}" if index else "cuda")
    return known or register(importlib.import_module("ownt.cuda_check").find(index))


def register(device: Device) -> Device:
    """Have a device found by its name and by its arrays; the one of that name that there is already, if any.

    Devices whose arrays are of one type are peers, told apart by the number of the device in each array.
    """
    global several
    found = _DEVICES.setdefault(device.name, device)
    first = _BY_ARRAY.setdefault(found.array, found)
    if first.peers is not None and found.peers is not None:
        first.peers.update(found.peers)
        several = several or len(first.peers) > 1
    return found


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
    found = _BY_ARRAY.get(type(array))
    if found is None:
        found = _BY_ARRAY[numpy.ndarray if isinstance(array, numpy.generic) else type(array)]
    return found if found.peers is None else _among(found.peers, array)


def _among(peers: dict[int, Device], array: Any) -> Device:
    number = array.data.device_id
    return peers.get(number) or get(f"cuda:{number}")


def place_for(values: Any, name: str | Device | None) -> Device:
    """Where a tensor of `values` is made: on the device that is named, else, of an array on a GPU, where it is."""
    if type(values).__module__ == "cupy" and not is_array(values):
        get(f"cuda:{values.data.device_id}")  # of whom nobody has asked yet
    if name is None and type(values) is not numpy.ndarray and is_array(values):
        return of(values)
    return get(name)


def host(values: Any) -> Any:
    """Values for NumPy: an array of another device as one of the CPU, anything else as it is."""
    if type(values) is numpy.ndarray or not is_array(values):
        return values
    return of(values).to_host(values)


def module(array: Any) -> Any:
    """The array module to which an array belongs: what a reference kernel calls `xp`."""
    return of(array).xp


def special(array: Any) -> Any:
    """SciPy's special functions for an array, loaded on first use."""
    return importlib.import_module(of(array).special)


def is_array(value: Any) -> bool:
    """Whether a value is an array of some device."""
    return type(value) in _BY_ARRAY
