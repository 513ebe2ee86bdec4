"""Functions that make tensors. They live as long as they are held, each in memory of its own.

Shapes are given as a tuple or as integers: `zeros((2, 3))`, `zeros(2, 3)`.
"""

from __future__ import annotations

import math
from typing import Any

from ownt import device as devices
from ownt import dtype as dtypes
from ownt import memory, random
from ownt.indexing import shape_of
from ownt.tensor import Tensor, asarray, wrap

__all__ = ["arange", "asarray", "empty", "from_dlpack", "full", "ones", "rand", "randint", "randn", "zeros"]

_DIGITS = {dtypes.float16: 11, dtypes.bfloat16: 8, dtypes.float32: 24, dtypes.float64: 53}  # binary, of each number
_DLPACK = {1: "cpu", 2: "cuda:{}", 13: "cuda:{}"}  # its numbers for kinds of devices; 13 is managed memory


def empty(*shape: Any, dtype: Any = None, device: str | None = None, kind: str = "buffer", path: str = "") -> Tensor:
    """An uninitialised tensor; `kind` and `path` say what for, in the ledger.

    Raises: ValueError for a negative size.
    """
    sizes = shape_of(shape)
    if any(size < 0 for size in sizes):
        raise ValueError(f"empty: expected sizes of 0 or more; got shape {sizes}")
    return memory.heap(device).empty(sizes, dtypes.get(dtype), kind, path)


def full(*shape: Any, fill_value: Any = None, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor of one value, given by name or as the last argument: `full((2, 3), 0.5)`."""
    *shape, value = (*shape, fill_value) if fill_value is not None else shape  # type: ignore[assignment]
    if isinstance(value, (tuple, list)):
        raise TypeError(f"full: expected a number after the shape; got {value}. Give fill_value")
    if dtype is None:
        dtype = dtypes.bool_ if isinstance(value, bool) else dtypes.int64 if isinstance(value, int) else None
    return empty(*shape, dtype=dtype, device=device).fill_(value)


def zeros(*shape: Any, dtype: Any = None, device: str | None = None, kind: str = "buffer", path: str = "") -> Tensor:
    """A tensor of zeros."""
    return empty(*shape, dtype=dtype, device=device, kind=kind, path=path).fill_(0)


def ones(*shape: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor of ones."""
    return empty(*shape, dtype=dtype, device=device).fill_(1)


def arange(
    start: float, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: str | None = None
) -> Tensor:
    """Evenly spaced numbers from `start` (0 if one number is given) up to, but without, `stop`."""
    first, last = (0, start) if stop is None else (start, stop)
    if dtype is None:
        dtype = dtypes.int64 if all(isinstance(v, int) for v in (first, last, step)) else dtypes.default
    made = empty(max(0, math.ceil((last - first) / step)), dtype=dtype, device=device)
    with devices.of(made.array).quiet():
        made[...] = devices.module(made.array).arange(made.size) * step + first
    return made


def rand(*shape: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """Random numbers uniform in [0, 1). Seeded by `ownt.manual_seed`."""
    made = empty(*shape, dtype=_float(dtype), device=device)
    digits = _DIGITS[made.dtype]
    random.fill(made.array, lambda xp, key, offset, count: random.uniform(xp, key, offset, count, digits), outputs=1)
    return made


def randn(*shape: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """Standard normal random numbers. Seeded by `ownt.manual_seed`."""
    made = empty(*shape, dtype=_float(dtype), device=device)
    random.fill(made.array, random.normal, outputs=2)
    return made


def randint(low: int, high: int, *shape: Any, dtype: Any = dtypes.int64, device: str | None = None) -> Tensor:
    """Random integers from `low` up to, but without, `high`. Seeded by `ownt.manual_seed`.

    Raises: ValueError if there is no such integer.
    """
    if high <= low:
        raise ValueError(f"randint: expected low < high; got low={low}, high={high}")
    made = empty(*shape, dtype=dtype, device=device)
    random.fill(made.array, lambda *draw: (random.bits(*draw) % (high - low)).astype("int64") + low, outputs=1)
    return made


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares the memory of another library's array or tensor, on its device.

    Raises: ValueError for a device that is neither the CPU nor a GPU of NVIDIA's.
    """
    kind, number = source.__dlpack_device__()
    if kind not in _DLPACK:
        raise ValueError(f"from_dlpack: expected memory of the CPU or of CUDA; got DLPack device {int(kind)}")
    place = devices.get(_DLPACK[kind].format(number))
    with place.working():
        return wrap(place.xp.from_dlpack(source), memory.external())


def _float(dtype: Any) -> dtypes.DType:
    wanted = dtypes.get(dtype)
    if not dtypes.is_float(wanted):
        raise TypeError(f"random numbers: expected a float dtype; got {wanted}. Use randint for integers")
    return wanted
