"""A device that has CUDA's kernels and no GPU: they run on the CPU, by the executor, on arrays in the host's memory.

```
with ownt.device.use(simulated): ...      # what is made here, and computed from it, runs on it
```
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
from typing import final

import numpy
from compile_for_cpu import Library
from lt_stand_in import StandIn

from ownt import device as devices
from ownt.cublaslt import CublasLt
from ownt.cuda_graph import check
from ownt.cuda_source import Source
from ownt.faults import Faults
from ownt.kernel import Out
from ownt.tensor import wrap

MOST_SHARED_BYTES = 99 << 10  # of a block, on sm_86 and sm_89; others from sm_80 on have more
MOST_BLOCKS = (2**31 - 1, 65535, 65535)


def _made(function, *arguments, **options):
    return function(*arguments, **options).view(SimulatedArray)


class SimulatedArray(numpy.ndarray):
    """An array of the simulated device; one of its numbers is an array, too, as CuPy's are."""

    def __getitem__(self, key):
        found = super().__getitem__(key)
        key = key if isinstance(key, tuple) else (key,)
        return found if isinstance(found, SimulatedArray) else super().__getitem__((..., *key))


class Module:
    """NumPy, but that the arrays it makes are of the simulated device, as CuPy's are of a GPU."""

    def __getattr__(self, name):
        return getattr(numpy, name)


for _name in ("empty", "zeros", "ones", "full", "arange"):
    setattr(Module, _name, staticmethod(functools.partial(_made, getattr(numpy, _name))))


@final
class Simulated(devices.Device):
    """See above.

    order:     in which threads and blocks run: "forward", "reversed" or "shuffled"
    deleted:   (source file, number) of the barrier that does nothing, if any
    sanitized: whether kernels, from when they are compiled, run under AddressSanitizer, on copies of their arguments
               whose bounds it watches
    launched:  (source file, kernel, dtype) of all that ran
    graphs:    whether it has graphs; those that were made, if it has
    """

    def __init__(self) -> None:
        super().__init__("simulated", Module(), SimulatedArray, special="scipy.special", align=256)
        self.kernels = "cuda"
        self.order = "forward"
        self.deleted: tuple[str, int] | None = None
        self.sanitized = False
        self.launched: set[tuple[str, str, str]] = set()
        self.faults = Faults(self)
        self.graphs: list[Graph] | None = None
        self.gemm = CublasLt(self.pointer, library=StandIn())

    def allocate(self, size_bytes):
        memory = super().allocate(size_bytes)
        memory[...] = 0xFF  # NaN: what is not written is seen
        return memory

    def empty(self, shape, dtype):
        dtype = numpy.dtype(dtype)
        return self.view(self.allocate(math.prod(shape) * dtype.itemsize), 0, shape, dtype)

    @staticmethod
    def view(memory, offset, shape, dtype):
        return SimulatedArray(shape, dtype, memory, offset)

    def to_host(self, array):
        self.synchronize()
        return numpy.array(array, copy=True, subok=False)

    def synchronize(self):
        self.faults.check(*self.faults.tables())

    def from_host(self, values, dtype=None):
        if type(values) is SimulatedArray and dtype in (None, values.dtype):
            return values
        return numpy.array(values, dtype).view(SimulatedArray)

    def write(self, array, key, value):
        array[key] = self.bring(value)

    def bring(self, value):
        return self.from_host(value) if devices.is_array(value) else value

    def graph(self, launches):
        """What stands in for a CUDA graph: see ownt.cuda_graph."""
        if self.graphs is None:
            return None
        check(self, launches)
        self.graphs.append(Graph(launches))
        return self.graphs[-1]

    def compile(self, source: Source, dtype):
        """See ownt.cuda_source: what a launch on this device calls, by the kernel's name."""
        library = Library(source, dtype, self.sanitized)
        return lambda name: functools.partial(self._run, library, source, dtype, name)

    def _run(self, library, source: Source, dtype, name: str, grid, block, shared_bytes: int, arguments: list) -> None:
        self._check(source.kernel(name).signature, grid, block, shared_bytes)
        self.launched.add((source.path.name, name, dtype.name))
        library.set(self.order, self.deleted[1] if self.deleted and self.deleted[0] == source.path.name else -1)
        with guarded(arguments) if self.sanitized else contextlib.nullcontext(arguments) as given:
            wrong = library.run(name, grid, block, shared_bytes, [_value(argument) for argument in given])
        if wrong:
            raise RuntimeError(f"{source.path.name}: {name}: {wrong}")

    @staticmethod
    def _check(signature, grid, block, shared_bytes: int) -> None:
        """What a GPU would refuse."""
        threads = numpy.prod(block)
        assert 0 < threads <= signature.threads, f"{signature.name}: {threads} threads of {signature.threads}"
        assert shared_bytes <= MOST_SHARED_BYTES, f"{signature.name}: {shared_bytes} bytes of shared memory"
        assert all(n <= most for n, most in zip(grid, MOST_BLOCKS)), f"{signature.name}: a grid of {grid}"


class Graph:
    """Calls with what their arguments were when it was made: arrays by their addresses, all else copied.

    launched: how often
    """

    def __init__(self, launches):
        self.calls = [(launch.function, _fixed(launch.bound)) for launch in launches]
        self.launched = 0

    def __call__(self):
        self.launched += 1
        for function, arguments in self.calls:
            function(*arguments)


def _fixed(part):
    """An argument as a graph has it."""
    if isinstance(part, SimulatedArray):
        return part.view()
    if isinstance(part, Out):
        return Out(wrap(_fixed(part.array), part.tensor.block), part.beta)
    if isinstance(part, (tuple, list)):
        made = map(_fixed, part)
        return type(part)(*made) if hasattr(part, "_fields") else type(part)(made)
    if isinstance(part, dict):
        return {name: _fixed(value) for name, value in part.items()}
    return part.copy() if isinstance(part, numpy.ndarray) else part


def _value(argument):
    """An argument as ctypes has it: an address, or a number's bytes."""
    if argument is None or isinstance(argument, numpy.ndarray):
        return ctypes.c_void_p(None if argument is None else argument.ctypes.data)
    return (ctypes.c_char * argument.itemsize).from_buffer_copy(argument.tobytes())


@contextlib.contextmanager
def guarded(arguments: list):
    """Copies of the arguments in allocations of exact size, as far from 16-byte boundaries; written back at the end.

    Arrays that share bytes go together into one.
    """
    bounds = sorted(numpy.lib.array_utils.byte_bounds(a) for a in arguments if isinstance(a, numpy.ndarray))
    runs: list[list[int]] = []
    for low, high in bounds:
        if runs and low < runs[-1][1]:
            runs[-1][1] = max(high, runs[-1][1])
        else:
            runs.append([low, high])
    copies = [(low, high, numpy.empty(low % 16 + high - low, numpy.uint8)) for low, high in runs]
    for low, high, copy in copies:
        ctypes.memmove(copy.ctypes.data + low % 16, low, high - low)
    given = [_moved(a, copies) if isinstance(a, numpy.ndarray) else a for a in arguments]
    yield given
    for low, high, copy in copies:
        ctypes.memmove(low, copy.ctypes.data + low % 16, high - low)


def _moved(array, copies):
    start = array.ctypes.data
    for low, high, copy in copies:
        if low <= start < high:
            return numpy.ndarray(array.shape, array.dtype, copy, start - low + low % 16, array.strides)
    return array  # of no elements


simulated = Simulated()
devices.register(simulated)
