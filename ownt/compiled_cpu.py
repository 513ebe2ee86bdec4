"""Kernels for the CPU compiled by Numba: on first use, cached on disk, in one pool of threads, with BLAS inside.

```
@compiled("void(real[:, ::1], real[::1])", parallel=True)
def row_sums(x, y):
    for part in prange(blocks(x.shape[0], 64)):      # pieces of rows, shared out among the threads
        ...

row_sums[x.dtype, x.size > SMALL](x, y)              # in parallel if the second part of the key is true
```

Compiled code may be reordered and contracted, but it keeps NaN and Inf. Where the order counts, compute in float64.
No loop stores to one array, reads others and adds up numbers too: whether such a loop runs in vectors depends on how
far the arrays lie apart, and a sum made in vectors is rounded otherwise.
"""

from __future__ import annotations

import functools
import sys
import time
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, final

import numba
import numpy
from numba import prange, types
from numba.core import event
from numba.extending import overload

from ownt import threads
from ownt.layout import TO_LAST
from ownt.thread import apart

__all__ = [
    "HEAVY", "PIECE", "SMALL", "blocks", "compiled", "constant", "exp", "flat", "largest", "prange",
]  # fmt: skip

FAST = {"reassoc", "contract", "nsz"}  # not what assumes that no NaN or Inf occurs, nor approximations of its own
OPTIONS: dict[str, Any] = {"fastmath": FAST, "error_model": "numpy", "nogil": True}
SMALL = 1 << 14  # elements below which a second thread does not pay
HEAVY = 1 << 12  # the same where each takes much arithmetic
PIECE = 1 << 13  # elements of a piece: a few arrays of it fit into a core's first-level cache


_SHARED = ("compiled", "blas", "lanes", "lanes_math", "lanes_columns", "tile")
_SOURCES = [Path(__file__).with_name(f"{name}_cpu.py") for name in _SHARED]
_OWN_CODE = f"{zlib.crc32(b''.join(path.read_bytes() for path in _SOURCES)):08x}"  # kernels are made of it too


@final
class Compiled:
    """A function that Numba compiles for a dtype, for one thread or in parallel, when it is first asked for.

    key: tells it apart in the cache from others of the same name
    """

    def __init__(self, function: Callable[..., Any], signature: str, parallel: bool, key: str = "") -> None:
        self.function = function
        self.key = f"{_OWN_CODE}{key}"
        self.signature = signature
        self.parallel = parallel
        self._made: dict[tuple[Any, bool], Callable[..., Any]] = {}

    def __getitem__(self, key: tuple[Any, bool]) -> Callable[..., Any]:
        """The compiled function for (dtype, whether to run in parallel).

        The parallel one runs on one thread too, so that results do not depend on how many there are: the two are
        not rounded alike.
        """
        if key[1] and not (self.parallel and threads.has_pool()):
            key = key[0], False
        return self._made.get(key) or _Variant(self, key)

    def variant(self, key: tuple[Any, bool]) -> Callable[..., Any]:
        """That of one key, compiled unless it is."""
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(*key)
        return found

    def _make(self, dtype: Any, parallel: bool) -> Callable[..., Any]:
        threads.use_pool()
        signature = self.signature.replace("real", numpy.dtype(dtype).name)
        function = _renamed(self.function, f"{self.function.__name__}_{self.key}{'_parallel' * parallel}")
        try:
            return apart(numba.njit(signature, parallel=parallel, cache=True, **OPTIONS), function)
        except RuntimeError as error:
            if "cache" not in str(error):
                raise
            _say(f"ownt: {error}: it is compiled again in each process. Set NUMBA_CACHE_DIR to a folder to write to")
            return apart(numba.njit(signature, parallel=parallel, **OPTIONS), function)


@final
class _Variant:
    """A function that is compiled when it is first called: a launch that is never run compiles nothing."""

    def __init__(self, whole: Compiled, key: tuple[Any, bool]) -> None:
        self.whole = whole
        self.key = key

    @property
    def settled(self) -> Callable[..., Any]:
        """The compiled function itself."""
        return self.whole.variant(self.key)

    def __call__(self, *args: Any) -> None:
        self.settled(*args)


def compiled(signature: str, parallel: bool = False) -> Callable[[Callable[..., Any]], Compiled]:
    """Declare a function to be compiled; `real` in the signature stands for the dtype."""
    return lambda function: Compiled(function, signature, parallel)


def _renamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function under a name for the cache, which does not see options, nor a change in the code here."""
    made = FunctionType(function.__code__, function.__globals__, function.__name__, None, function.__closure__)
    made.__qualname__ = name
    return made


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@final
class _Announcer(event.Listener):
    """Says what is compiled, and for how long: it happens once on a machine, and is worth waiting for."""

    def __init__(self) -> None:
        self.depth = 0
        self.began = 0.0

    def on_start(self, what: event.Event) -> None:
        if not self.depth:
            self.began = time.perf_counter()
        self.depth += 1

    def on_end(self, what: event.Event) -> None:
        self.depth -= 1
        name = what.data["dispatcher"].py_func
        if not self.depth and Path(name.__code__.co_filename).name.endswith("_cpu.py"):
            _say(f"ownt: compiled {name.__name__} in {time.perf_counter() - self.began:.1f} s, to be kept on disk")


event.register("numba:compile", _Announcer())


@functools.lru_cache(maxsize=64)
def constant(value: float, width: int, dtype: Any) -> Any:
    """A vector of one number, which nobody writes to: what stands for an argument that there is none of."""
    made = numpy.full(width, value, dtype)
    constants[id(made)] = made
    return made


constants: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by their identity


def flat(*arrays: Any) -> tuple[Any, ...] | None:
    """The arrays as vectors; None unless all lie in one run of bytes each, of one dtype and as many elements.

    Images may have their channels last, if all have.
    """
    size, dtype = arrays[0].size, arrays[0].dtype
    if arrays[0].ndim == 4 and not arrays[0].flags.c_contiguous:
        arrays = tuple([array.transpose(TO_LAST) if array.ndim == 4 else array for array in arrays])
    vectors = []
    for array in arrays:
        if array.size != size or not array.flags.c_contiguous:
            return None
        if array.dtype is not dtype and array.dtype != dtype:
            return None
        vectors.append(array.reshape(-1))
    return tuple(vectors)


@numba.njit(inline="always")
def blocks(count: int, size: int) -> int:
    """How many blocks of `size` cover `count`; one at least."""
    return max(1, (count + size - 1) // size)


# mathematics that vectorises


def exp(x: Any) -> Any:
    """e^x; in float32 to 3e-7 of its value, 0 below -87.3 and Inf above 88.7."""


@overload(exp, jit_options=OPTIONS, inline="never")
def _(x):
    if x != types.float32:
        return lambda x: numpy.exp(x)
    f = numpy.float32

    def exp32(x):
        """2^n times a polynomial of degree 6 in the rest; written so that NaN comes through"""
        y = x if not x > f(89) else f(89)
        y = y if not y < f(-88) else f(-88)
        n = numpy.floor(y * f(1.44269504) + f(0.5))
        r = (y - n * f(0.693359375)) - n * f(-2.12194440e-4)
        p = f(1.9875691500e-4)
        p = p * r + f(1.3981999507e-3)
        p = p * r + f(8.3334519073e-3)
        p = p * r + f(4.1665795894e-2)
        p = p * r + f(1.6666665459e-1)
        p = p * r + f(5.0000001201e-1)
        y = p * r * r + r + f(1)
        power = (numpy.int32(n) + numpy.int32(127)) << numpy.int32(23)
        return y * numpy.int32(power).view(numpy.float32)

    return exp32


def largest(row: Any) -> Any:
    """The largest of a row, NaN if there is one."""


@overload(largest, jit_options=OPTIONS)
def _(row):
    integer = numpy.int32 if row.dtype == types.float32 else numpy.int64
    real, bits = (numpy.float32, 31) if integer is numpy.int32 else (numpy.float64, 63)
    lowest, rest = integer(-(2**bits)), integer(2**bits - 1)

    def by_bits(row):
        """Floats as integers that have the same order: of those the maximum vectorises"""
        top = lowest
        for i in range(row.size):
            value = real(row[i]).view(integer)
            top = max(top, value ^ ((value >> integer(bits)) & rest))
        top = top ^ ((top >> integer(bits)) & rest)
        return integer(top).view(real)

    return by_bits
