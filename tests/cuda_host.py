"""A GPU that is none: real CuPy arrays over the host's memory, for what needs no kernel to run.

The driver's answers, streams, events and memory are stand-ins; arrays, views, strides and pointers are CuPy's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from ownt import device as devices
from ownt.cuda import UNIT_BYTES, Cuda
from ownt.thread import state

CAPACITY = 1 << 28


class Memory:
    """What is left of `capacity` bytes; each stretch of them a NumPy array that is poisoned."""

    def __init__(self, cupy: Any, capacity: int) -> None:
        self.cupy = cupy
        self.capacity = capacity
        self.used = 0
        self.device_id = 0  # of what is taken next
        self.requests: list[int] = []
        self.chosen: list[int] = []  # devices that the runtime was told to mean

    def take(self, size: int) -> Any:
        """As cudaMalloc: memory that is given back when nobody holds it."""
        self.requests.append(size)
        rounded = -(-size // UNIT_BYTES) * UNIT_BYTES
        if self.used + rounded > self.capacity:
            raise MemoryError(f"no {size} bytes left")
        self.used += rounded
        owner = _Owner(self, rounded)
        return self.cupy.cuda.UnownedMemory(owner.address, size, owner, self.device_id)

    def pool(self) -> Any:
        """As CuPy's pool, which gives out units of 512 bytes."""

        def malloc(size: int) -> Any:
            return self.cupy.cuda.MemoryPointer(self.take(size), 0)

        return SimpleNamespace(
            malloc=malloc, free_all_blocks=lambda: None, used_bytes=lambda: self.used, total_bytes=lambda: self.used
        )


class _Owner:
    def __init__(self, memory: Memory, size: int) -> None:
        self.memory, self.size = memory, size
        self.bytes = numpy.full(size + UNIT_BYTES, 0x7F, numpy.uint8)
        self.address = -(-self.bytes.ctypes.data // UNIT_BYTES) * UNIT_BYTES

    def __del__(self) -> None:
        self.memory.used -= self.size


class Stream:
    """One that has done all that it was given; or that takes note of it, to make a graph of it."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking
        self.ptr = 7
        self.waits = 0  # of the host for it
        self.after: list[Any] = []  # streams that it lets go first
        self.noted: list[Any] | None = None  # what it was given since its capture began
        self.done: list[Any] = []  # graphs and names of what it was given otherwise

    def do(self, name: str, function: Any) -> None:
        """What a launch is: something named, done in the order of this stream."""
        if self.noted is not None:
            self.noted.append((name, function))
        else:
            self.done.append(name)
            function()

    def begin_capture(self) -> None:
        self.noted = []

    def end_capture(self) -> Any:
        noted, self.noted = self.noted, None
        return Graph(noted)

    def __enter__(self) -> Stream:
        Stream.entered.append(self)
        self.use()
        return self

    def __exit__(self, *_: object) -> None:  # as CuPy's: back to the last that was entered, not to what `use` chose
        Stream.entered.pop()
        Stream.entered[-1].use()

    def use(self) -> None:
        Stream.current = self

    def synchronize(self) -> None:
        self.waits += 1

    def record(self) -> Any:
        return self

    def wait_event(self, event: Any) -> None:
        self.after.append(event)

    current: Any = None
    entered: list[Any] = []


class Graph:
    """What a stream took note of."""

    def __init__(self, noted: list[Any]) -> None:
        self.noted = noted

    def launch(self, stream: Stream) -> None:
        for name, function in self.noted:
            stream.do(name, function)


class Event:
    """One that is done when it is waited for, or all are."""

    all_done = True

    def __init__(self, disable_timing: bool = False) -> None:
        self.waited = False

    def record(self, stream: Stream) -> None:
        pass

    @property
    def done(self) -> bool:
        return self.waited or Event.all_done

    def synchronize(self) -> None:
        self.waited = True


def stand_ins(monkeypatch: pytest.MonkeyPatch, cupy: Any, memory: Memory) -> None:
    """Have CuPy's functions that need a driver do what they would, on the host."""

    def copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
        ctypes.memmove(target, source, size)

    Stream.current = Stream()
    Stream.entered = [Stream.current]
    runtime = cupy.cuda.runtime
    for name, value in {
        "getDevice": lambda: 0,
        "setDevice": memory.chosen.append,
        "memcpyAsync": copy,
        "memGetInfo": lambda: (memory.capacity - memory.used, memory.capacity),
    }.items():
        monkeypatch.setattr(runtime, name, value)
    for name, value in {
        "Stream": Stream,
        "Event": Event,
        "Memory": memory.take,
        "MemoryPool": memory.pool,
        "alloc_pinned_memory": bytearray,
        "get_current_stream": lambda: Stream.current,
    }.items():
        monkeypatch.setattr(cupy.cuda, name, value)
    monkeypatch.setattr(cupy, "get_default_memory_pool", lambda: memory.pool())


@contextlib.contextmanager
def host_gpu(monkeypatch: pytest.MonkeyPatch, capacity: int) -> Iterator[Cuda]:
    """The device "cuda" in so many bytes of the host's memory."""
    cupy = pytest.importorskip("cupy", reason="needs CuPy, of the extra cuda12 or cuda13")
    memory = Memory(cupy, capacity)
    stand_ins(monkeypatch, cupy, memory)
    place = Cuda(0, cupy, 90)
    place.kernels = "nowhere"  # no overrides: nothing is launched here
    monkeypatch.setattr(devices, "_DEVICES", {**devices._DEVICES, "cuda": place})
    monkeypatch.setattr(devices, "_BY_ARRAY", {**devices._BY_ARRAY, cupy.ndarray: place})
    try:
        yield place
    finally:
        state.scratch.pop(place, None)
        state.temporaries.pop(place, None)


def numbers(place: Cuda, array: Any) -> numpy.ndarray:
    """What an array of the stand-in holds, through its address."""
    held = (ctypes.c_char * array.nbytes).from_address(place.pointer(array))
    return numpy.frombuffer(held, array.dtype).reshape(array.shape)


@pytest.fixture
def gpu(monkeypatch):
    """The stand-in; tests/test_gpu.py has the real one under the same name."""
    with host_gpu(monkeypatch, CAPACITY) as place:
        yield place
        gc.collect()


@pytest.fixture
def held(gpu):
    """The bytes that the stand-in of the driver has given out."""
    return gpu.xp.cuda.Memory.__self__


@pytest.fixture
def not_run():
    """Launches are bound, and not run."""
    outer, state.launch = state.launch, lambda launch: None
    yield
    state.launch = outer
