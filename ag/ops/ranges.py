"""Whether indices are in range: at once on the CPU; on a GPU when the host next waits for it."""

from __future__ import annotations

import functools
from typing import Any

from ownt import Tensor, launch
from ownt import device as devices
from ownt.kernel import Out, kernel

_LAST = (1 << 31) - 1  # the last index of which can be said where it is
_LOW, _HIGH = -(1 << 31), (1 << 31) - 1  # what is said of an index that is beyond


def check_range(name: str, what: str, indices: Tensor, size: int, ignored: int | None = None) -> None:
    """Raises: IndexError naming the op and the first index that is not in 0 ... size - 1 or `ignored`.

    On a GPU it is raised when the host next waits for it: by what reads a value from it, or synchronizes. Until then
    rows of such indices are 0.
    """
    faults = devices.of(indices.array).faults
    found = None
    if faults is not None:
        facts = name, what, indices.shape, size
        found = faults.number((*facts, ignored), functools.partial(_error, *facts))
    if found is None:
        launch.run("check_range", _check_range, (name, what, indices.array, size, ignored))
    else:
        range_kernel(indices, size, ignored, out=Out(found, 1))


def _check_range(name: str, what: str, array: Any, size: int, ignored: int | None) -> None:
    if not array.size or (array.min() >= 0 and array.max() < size):
        return
    wrong = _wrong(array, size, ignored)
    if wrong.any():
        at = int(wrong.reshape(-1).argmax())
        raise _out_of_range(name, what, array.shape, size, at, int(array.reshape(-1)[at]))


def _wrong(array: Any, size: int, ignored: int | None) -> Any:
    wrong = (array < 0) | (array >= size)
    return wrong if ignored is None else wrong & (array != ignored)


def _out_of_range(name: str, what: str, shape: tuple[int, ...], size: int, at: int, value: int) -> IndexError:
    where = tuple(map(int, devices.cpu.xp.unravel_index(at, shape)))
    return IndexError(f"{name}: expected {what} from 0 to {size - 1}; got {value} at {where}")


@kernel
def range_kernel(indices: Any, size: int, ignored: int | None, *, out: Out) -> None:
    """out = the larger of itself and a number that says which index is out of range first: where it is, counted down
    from _LAST, times 2^32, plus its value as an unsigned int; 0 if none is. Shapes: indices any -> ()
    """
    if not indices.size:
        return
    xp = devices.module(indices)
    flat = indices.reshape(-1).astype("int64")
    first = (_LAST - xp.arange(flat.size)) << 32
    said = xp.where(_wrong(flat, size, ignored), first | (flat.clip(_LOW, _HIGH) & 0xFFFFFFFF), 0).max()
    out.array[...] = xp.maximum(out.array, said)


def _error(name: str, what: str, shape: tuple[int, ...], size: int, said: int) -> IndexError:
    value = said & 0xFFFFFFFF
    return _out_of_range(name, what, shape, size, _LAST - (said >> 32), value - (1 << 32 if value > _HIGH else 0))
