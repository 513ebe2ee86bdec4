"""The CUDA device: CuPy's arrays in memory of our own, in the order of one stream.

All threads launch to the one compute stream of a GPU, which does not wait for CUDA's default stream. So the order in
which a program launches is the order in which the GPU works, across threads as well: memory that is given back may be
used again at once, whoever gave it back and although kernels that read it have not run yet, because those that write
to it next run after them. Work on other streams is the caller's to order, by events.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

from ownt import cuda_watch
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.arena import Arena
from ownt.cublaslt import CublasLt
from ownt.cuda_graph import Graph, captured
from ownt.cuda_source import Run, Source, compile_with_cupy
from ownt.faults import Faults
from ownt.indexing import is_basic
from ownt.launch import Launch
from ownt.layout import by_strides
from ownt.pinned import Ring
from ownt.thread import state

UNIT_BYTES = 512  # memory from CuPy's pool, as from the driver, comes in units of so many
_DTYPES = frozenset("?bBhHiIlLqQefd")  # characters of those that kernels know, beside bfloat16
_NO_MEMORY = 2  # cudaErrorMemoryAllocation, which CuPy does not name in Python


@final
class Cuda(devices.Device):
    """A GPU. What a model keeps comes from a pool of CuPy's, scratch memory straight from the driver.

    index:        its number, as CUDA counts the GPUs
    architecture: what code for it is compiled for, such as "sm_90"
    pool:         keeps what a model gives back, for the next request: the driver would wait for the GPU each time
    """

    chunk_bytes = 1 << 25

    def __init__(self, index: int, cupy: Any, capability: int) -> None:
        name = f"cuda:{index}" if index else "cuda"
        super().__init__(name, cupy, cupy.ndarray, special="cupyx.scipy.special", align=UNIT_BYTES)
        self.kernels = "cuda"
        self.peers = {index: self}
        self.index = index
        self.architecture = f"sm_{capability}"
        self.pool = cupy.cuda.MemoryPool()
        self.may_allocate = True  # whether references may take memory for what they compute on the way
        self._runtime = cupy.cuda.runtime
        self._ring = Ring(cupy.cuda)
        self.faults = Faults(self)
        with self.chosen():
            self._stream = cupy.cuda.Stream(non_blocking=True)

    # where it works

    @property
    def stream(self) -> Any:
        """The stream that all is launched to; threads that make tensors have it as CuPy's current one.

        For a thread that captures its launches, the one that takes note of them: see ownt.cuda_graph.
        """
        return state.capturing.get(self, self._stream)

    @contextlib.contextmanager
    def chosen(self) -> Iterator[None]:
        """Have the runtime mean this GPU."""
        before = self._runtime.getDevice()
        if before != self.index:
            self._runtime.setDevice(self.index)
        try:
            yield
        finally:
            if before != self.index:
                self._runtime.setDevice(before)

    def here(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments) with the runtime meaning this GPU: the cheap way, for each launch."""
        if self._runtime.getDevice() == self.index:
            return function(*arguments)
        with self.chosen():
            return function(*arguments)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """This GPU and its stream are CuPy's current ones inside; the stream stays this thread's for this GPU.

        What was launched to the stream that was current before, as when CuPy made an array, comes first.
        """
        with self.chosen():
            before = self.xp.cuda.get_current_stream()
            if before != self.stream:
                self.stream.wait_event(before.record())
                self.stream.use()
            yield

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """A context for references: what they compute on the way lies in an arena, and in the ledger, as workspace."""
        with self.working(), self.xp.cuda.using_allocator(self._temporary):
            yield

    def one_thread(self) -> Any:
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        """Wait until all that was launched is done. Raises: what launches found wrong; see ownt.faults."""
        self.faults.check(*self._fetched(*self.faults.tables()))

    # kernels

    def compile(self, source: Source, dtype: Any) -> Callable[[str], Run]:
        """The kernels of a source by name; see ownt.cuda_source. Raises: RuntimeError with the compiler's messages."""
        hopper = self.architecture == "sm_90"
        with self.chosen():
            made = compile_with_cupy(source, dtype, "sm_90a" if hopper else "", lambda: self.stream)
        return lambda name: functools.partial(self.here, self.here(made, name))

    def graph(self, launches: Sequence[Launch]) -> Graph:
        return captured(self, launches)

    def joined(self, calls: list[Any]) -> list[Any]:
        return calls

    @functools.cached_property
    def gemm(self) -> CublasLt:
        """Its library of matrix products. Raises: RuntimeError where there is none."""
        with self.chosen():
            return CublasLt(self.pointer, lambda: self.stream.ptr, here=self.here)

    # memory

    def pointer(self, array: Any) -> int:
        return array.data.ptr

    def allocate(self, size_bytes: int) -> Any:
        """A chunk for an arena: an array of bytes, which the driver takes back when nobody holds it.

        Raises: OutOfMemoryError.
        """
        memory = self._taken(self.xp.cuda.Memory, size_bytes)
        return self.xp.ndarray((size_bytes,), "uint8", self.xp.cuda.MemoryPointer(memory, 0))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised array in an allocation of its own, of exact size, rounded up to 512 bytes.

        Raises: OutOfMemoryError.
        """
        dtype = self._known(dtypes.DType(dtype))
        return self.xp.ndarray(shape, dtype, self._taken(self.pool.malloc, math.prod(shape) * dtype.itemsize))

    def view(self, memory: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:  # type: ignore[override]
        return self.xp.ndarray(shape, self._known(dtype), memory.data + offset)

    def _known(self, dtype: Any) -> Any:
        if dtype.char not in _DTYPES and dtype.name != "bfloat16":
            raise TypeError(f"device {self.name!r}: expected a dtype that GPUs compute with; got {dtype}")
        return dtype

    def _taken(self, take: Callable[[int], Any], size_bytes: int) -> Any:
        """take(size_bytes), a second time after what nobody uses has been given back to the driver.

        Raises: OutOfMemoryError.
        """
        with self.working():
            try:
                return take(size_bytes)
            except (MemoryError, self._runtime.CUDARuntimeError) as error:
                self._check_is_lack(error)
            gc.collect()
            self.pool.free_all_blocks()
            self.xp.get_default_memory_pool().free_all_blocks()
            try:
                return take(size_bytes)
            except (MemoryError, self._runtime.CUDARuntimeError) as error:
                self._check_is_lack(error)
            raise devices.OutOfMemoryError(cuda_watch.lack_of_memory(self, size_bytes))

    def _check_is_lack(self, error: Exception) -> None:
        """Raises: the error, unless it is that there is no memory left."""
        if getattr(error, "status", _NO_MEMORY) != _NO_MEMORY:
            raise error

    def _temporary(self, size_bytes: int) -> Any:
        """Memory for what a reference computes on the way, as CuPy's allocators give it; its owner is a Block."""
        if not self.may_allocate or self in state.capturing:
            raise RuntimeError(
                f"device {self.name!r}: expected no allocations; got one of {size_bytes:,} bytes, in a reference or "
                "a copy of strides"
            )
        arena = state.temporaries.get(self) or state.temporaries.setdefault(self, Arena(device=self))
        tensor = arena.empty((size_bytes,), "uint8", "workspace")
        cuda = self.xp.cuda
        owned = cuda.UnownedMemory(self.pointer(tensor.array), size_bytes, tensor.block, self.index)
        return cuda.MemoryPointer(owned, 0)

    def occupied(self) -> dict[str, int]:
        """Bytes in use and held by the pool of models, in CuPy's own pool, and in use on the device by all programs."""
        with self.working():  # CuPy's pools answer for its current device
            free, total = self._runtime.memGetInfo()
            return {
                "pool_used": self.pool.used_bytes(),
                "pool": self.pool.total_bytes(),
                "cupy": self.xp.get_default_memory_pool().total_bytes(),
                "device": total - free,
            }

    # numbers that come and go

    def to_host(self, array: Any) -> Any:
        """A copy, once all is done that was launched before. Raises: what launches found wrong; see ownt.faults."""
        self._check_waits("a value is read")
        order, back = by_strides(array)
        with self.quiet():
            whole = array.transpose(order)
            if not whole.flags.c_contiguous:
                whole = self.xp.ascontiguousarray(whole)
            copied, *found = self._fetched(whole, *self.faults.tables())
        self.faults.check(*found)
        return copied.transpose(back)

    def _fetched(self, *arrays: Any) -> list[Any]:
        """Copies of contiguous arrays on the host, once all is done that was launched before."""
        copies = [devices.cpu.xp.empty(array.shape, array.dtype) for array in arrays]
        kind, stream = self._runtime.memcpyDeviceToHost, self.stream
        for array, copied in zip(arrays, copies, strict=True):
            if not array.nbytes:
                continue
            self._runtime.memcpyAsync(copied.ctypes.data, self.pointer(array), array.nbytes, kind, stream.ptr)
        stream.synchronize()
        return copies

    def from_host(self, values: Any, dtype: Any = None) -> Any:
        """Values as an array that `write` and tensors take: the same one if it is here, else one of the host."""
        if self._is_here(values) and (dtype is None or dtype == values.dtype):
            return values
        return devices.cpu.from_host(values, dtype)

    def write(self, array: Any, key: Any, value: Any) -> None:
        """array[key] = value, without waiting for the GPU where an array comes from the host."""
        key = tuple(self.bring(part) for part in key) if isinstance(key, tuple) else key
        with self.quiet():
            if isinstance(value, (bool, int, float)):
                array[key] = value
            elif self._is_here(value):  # CuPy copies what overlaps as if it did not
                array[key] = value.copy() if self.xp.may_share_memory(array, value) else value
            elif is_basic(key if isinstance(key, tuple) else (key,)):
                self._send(array[key], devices.cpu.from_host(value))
            else:
                array[key] = self.bring(devices.cpu.from_host(value))

    def _is_here(self, value: Any) -> bool:
        return type(value) is self.array and devices.of(value) is self

    def bring(self, value: Any) -> Any:
        """An array of another device copied here, for the moment; anything else as it is."""
        if not devices.is_array(value) or self._is_here(value):
            return value
        source = devices.host(value)
        with self.quiet():
            brought = self.xp.empty(source.shape, source.dtype)
            self._send(brought, source)
        return brought

    def _check_waits(self, what: str) -> None:
        """Raises: RuntimeError in a capture, of what cannot be part of a graph."""
        if self in state.capturing:
            raise RuntimeError(f"{what}, by the program")

    def _send(self, target: Any, values: Any) -> None:
        """target[...] = values, of the host."""
        self._check_waits("a value is sent to the GPU")
        xp = devices.cpu.xp
        order, _ = by_strides(target)
        whole = target.transpose(order)
        values = xp.broadcast_to(values.astype(target.dtype, copy=False), target.shape).transpose(order)
        if not target.size:
            return
        dense = whole if whole.flags.c_contiguous else self.xp.empty(whole.shape, whole.dtype)
        self._ring.send(self.pointer(dense), xp.ascontiguousarray(values), self.stream)
        if dense is not whole:
            whole[...] = dense

    def export(self, array: Any, owner: Any) -> Any:
        cuda = self.xp.cuda
        memory = cuda.UnownedMemory(self.pointer(array), array.nbytes, (array, owner), self.index)
        return self.xp.ndarray(array.shape, array.dtype, cuda.MemoryPointer(memory, 0), array.strides)
