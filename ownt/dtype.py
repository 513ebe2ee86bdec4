"""Element types. NumPy's dtype objects serve every device: CuPy uses the very same ones."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy

DType = numpy.dtype
bool_ = numpy.dtype("bool")
uint8 = numpy.dtype("uint8")
int8 = numpy.dtype("int8")
int16 = numpy.dtype("int16")
int32 = numpy.dtype("int32")
int64 = numpy.dtype("int64")
uint16 = numpy.dtype("uint16")
uint32 = numpy.dtype("uint32")
uint64 = numpy.dtype("uint64")
float16 = numpy.dtype("float16")
bfloat16 = numpy.dtype(ml_dtypes.bfloat16)
float32 = numpy.dtype("float32")
float64 = numpy.dtype("float64")

default = float32
_INTEGERS = (uint8, uint16, uint32, uint64, int8, int16, int32, int64)
_KNOWN = {d.name: d for d in (bool_, *_INTEGERS, bfloat16, float16, float32, float64)}
_DTYPES = set(_KNOWN.values())


def get(dtype: Any) -> numpy.dtype:
    """The element type called `dtype`: a name, a NumPy type or None for the default, float32.

    Raises: TypeError naming the types that exist.
    """
    if dtype is None:
        return default
    if isinstance(dtype, DType) and dtype in _DTYPES:
        return dtype
    try:
        return _KNOWN[numpy.dtype(dtype).name]
    except (TypeError, KeyError):
        raise TypeError(f"unknown dtype {dtype!r}: expected one of {', '.join(_KNOWN)}") from None


def is_float(dtype: numpy.dtype) -> bool:
    """Whether it holds real numbers."""
    return dtype.kind == "f" or dtype == bfloat16


def wide(dtype: numpy.dtype) -> numpy.dtype:
    """The type that sums and statistics of floats are kept in: float32 of half types, else their own."""
    return float32 if dtype.itemsize < 4 else dtype


def holds(dtype: numpy.dtype, number: Any) -> bool:
    """Whether a Python number can stand beside tensors of `dtype` without a change of type or a wrap."""
    if dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        return isinstance(number, int) and limits.min <= number <= limits.max
    return isinstance(number, bool if dtype.kind == "b" else (int, float))


def is_integer(dtype: numpy.dtype) -> bool:
    """Whether it holds integers, signed or not."""
    return dtype.kind in "iu"
