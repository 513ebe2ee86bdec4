"""Matrices for tests of products: numbers, and the ways in which they may lie in memory."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from ownt.kernel import Out
from ownt.memory import external
from ownt.tensor import wrap

TOLERANCE = {"float32": 1e-5, "float64": 1e-13, "float16": 2e-3, "bfloat16": 2e-2}


def there(place, x):
    """A NumPy array on a device, with the very strides that it has here; the same memory on a device of the host's."""
    if x is None:
        return None
    if issubclass(place.array, np.ndarray):
        return x.view(place.array)
    root = x
    while root.base is not None:
        root = root.base
    moved = place.bring(np.ravel(root, order="K").view(np.uint8))
    offset = x.ctypes.data - root.ctypes.data
    return place.xp.ndarray(x.shape, x.dtype, moved.data + offset, x.strides)


def multiplied(place, kernel, args, out, beta):
    """What a kernel makes of `out`, given NumPy arrays."""
    target = there(place, out)
    tensors = [x if x is None else wrap(there(place, x), external()) for x in args]
    kernel(*tensors, out=Out(wrap(target, external()), beta))
    return place.to_host(target)


def numbers(shape, dtype="float32", seed=0):
    dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def laid(values, how):
    """The same values, otherwise laid out in memory that is full of NaN."""
    *stack, rows, columns = values.shape
    if how == "rows":
        return values.copy()
    if how == "columns":
        return _filled(values, np.full((*stack, columns, rows), np.nan, values.dtype).swapaxes(-1, -2))
    if how == "window":  # of wider rows, from an odd address on
        return _filled(values, np.full((*stack, rows + 2, columns + 7), np.nan, values.dtype)[..., 1:-1, 3:-4])
    if how == "window of columns":
        room = np.full((*stack, columns + 3, rows + 5), np.nan, values.dtype)
        return _filled(values, room.swapaxes(-1, -2)[..., 1:-4, 1:-2])
    if how == "stack inside":  # as heads lie in rows of all heads
        return _filled(values, np.moveaxis(np.full((rows, *stack, columns), np.nan, values.dtype), 0, -2))
    if how == "apart":
        return _filled(values, np.full((*stack, rows, 2 * columns), np.nan, values.dtype)[..., ::2])
    if how == "columns backwards":
        return _filled(values, np.full((*stack, columns, rows), np.nan, values.dtype).swapaxes(-1, -2)[..., ::-1])
    assert how == "backwards"
    return _filled(values, np.full(values.shape, np.nan, values.dtype)[..., ::-1, :])


def _filled(values, room):
    room[...] = values
    return room


def close(found, expected, dtype):
    wide = np.asarray(found).astype("float64"), np.asarray(expected).astype("float64")
    scale = max(1.0, np.abs(wide[1]).max(initial=0))
    np.testing.assert_allclose(*wide, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


def destination(shape, how, dtype, beta):
    """Written over, it holds NaN before; added to, numbers."""
    before = numbers(shape, dtype, 9) if beta else np.full(shape, np.nan).astype(numbers((0,), dtype).dtype)
    return before, laid(before, how)
