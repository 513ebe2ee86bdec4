"""Shapes and index keys as users write them."""

from __future__ import annotations

from numbers import Integral
from operator import index
from typing import Any

from ownt import device as devices
from ownt import tensor
from ownt.dtype import bool_


def raw(value: Any) -> Any:
    """The array of a Tensor; anything else as it is."""
    return value.array if type(value) is tensor.Tensor else value


def shape_of(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape given as integers or as one tuple."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return tuple(index(size) for size in shape)


def index_key(key: Any) -> tuple[Any, ...]:
    """A key as a tuple of slices, integers and arrays, with an ellipsis, so that the result is an array."""
    parts = key if isinstance(key, tuple) else (key,)
    return parts if any(part is Ellipsis for part in parts) else (*parts, Ellipsis)


def is_basic(key: tuple[Any, ...]) -> bool:
    """Whether indexing with `key` gives a view."""
    return all(part is None or part is Ellipsis or isinstance(part, slice) or _is_integer(part) for part in key)


def is_all(key: slice, shape: tuple[int, ...]) -> bool:
    """Whether a slice says that it is of all rows."""
    integers = type(key.start) is type(key.stop) is int
    return integers and key.start == 0 and key.step is None and shape[:1] == (key.stop,)


def _is_integer(part: Any) -> bool:
    return isinstance(part, Integral) and not isinstance(part, bool)


def indexed_shape(x: tensor.Tensor, key: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of x[key], found without touching x: on an array of the same shape that takes one byte.

    Raises: IndexError for an index out of range, but for those in arrays on a GPU, for which it would have to wait.
    """
    xp = devices.cpu.xp
    return xp.broadcast_to(xp.empty((), "bool"), x.shape)[tuple([_of_shape(raw(part)) for part in key])].shape


def indexed_sizes(key: tuple[Any, ...], shape: tuple[int, ...]) -> list[tuple[tensor.Tensor, int]]:
    """Each tensor of integers in a key whose numbers `indexed_shape` did not see, since it is on a GPU, and the size of
    the axis that it is for."""
    taken = sum([part.ndim if _is_mask(part) else part is not None and part is not Ellipsis for part in key])
    found, axis = [], 0
    for part in key:
        if type(part) is tensor.Tensor and not _is_mask(part) and devices.of(part.array).faults is not None:
            found.append((part, shape[axis]))
        if part is Ellipsis:
            axis += len(shape) - taken
        else:
            axis += part.ndim if _is_mask(part) else part is not None
    return found


def _is_mask(part: Any) -> bool:
    return getattr(part, "dtype", None) == bool_


def _of_shape(part: Any) -> Any:
    """What gives an index the same shape and can be seen by the CPU: of an array of truth values, a copy."""
    if not devices.is_array(part) or isinstance(part, devices.MetaArray) or devices.of(part).faults is None:
        return part
    return devices.host(part) if part.dtype.kind == "b" else devices.cpu.xp.zeros(part.shape, part.dtype)


def is_viewable(x: tensor.Tensor, shape: tuple[int, ...]) -> bool:
    """Whether the strides of x allow another shape without a copy."""
    try:
        x.view(shape)
    except ValueError:
        return False
    return True
