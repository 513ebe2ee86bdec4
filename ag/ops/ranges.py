"""Whether indices are in range: at once on the CPU; on a GPU when the host next waits for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, final

from ownt import Tensor, launch
from ownt import device as devices
from ownt.kernel import Out, kernel

_LAST = (1 << 31) - 1  # the last index of which can be said where it is
_LOW, _HIGH = -(1 << 31), (1 << 31) - 1  # what is said of an index that is beyond


def check_range(name: str, what: str, indices: Tensor, size: int, ignored: int | None = None, least: int = 0) -> None:
    """Raises: IndexError naming the op and the first index that is not in least ... size - 1 or `ignored`.

    On a GPU it is raised when the host next waits for it: by what reads a value from it, or synchronizes. Until then
    rows of such indices are 0.
    """
    faults = devices.of(indices.array).faults
    found = None
    if faults is not None:
        facts = name, what, indices.shape, least, size
        found = faults.number((*facts, ignored), functools.partial(_error, *facts))
    if found is None:
        launch.run("check_range", _Check(name, what, least, size, ignored), (indices.array,))
    else:
        range_kernel(indices, least, size, ignored, out=Out(found, 1))


@final
class _Check:
    """A check on the CPU, as a launch."""

    def __init__(self, name: str, what: str, least: int, size: int, ignored: int | None) -> None:
        self.name = name
        self.what = what
        self.least = least
        self.size = size
        self.ignored = ignored

    def __call__(self, indices: Any) -> None:
        if not indices.size or (indices.min() >= self.least and indices.max() < self.size):
            return
        wrong = _wrong(indices, self.least, self.size, self.ignored)
        if wrong.any():
            at = int(wrong.reshape(-1).argmax())
            value = int(indices.reshape(-1)[at])
            raise _out_of_range(self.name, self.what, indices.shape, self.least, self.size, at, value)

    def in_chain(self, indices: Any) -> tuple[Callable[..., None], tuple]:
        """A compiled check of the same, which only says that something is wrong; see ownt.chain_cpu."""
        from ag.ops import ranges_cpu

        return ranges_cpu.bind(indices, self.least, self.size, self.ignored) or (self, (indices,))


def _wrong(array: Any, least: int, size: int, ignored: int | None) -> Any:
    wrong = (array < least) | (array >= size)
    return wrong if ignored is None else wrong & (array != ignored)


def _out_of_range(
    name: str, what: str, shape: tuple[int, ...], least: int, size: int, at: int, value: int
) -> IndexError:
    where = tuple(map(int, devices.cpu.xp.unravel_index(at, shape)))
    return IndexError(f"{name}: expected {what} from {least} to {size - 1}; got {value} at {where}")


@kernel
def range_kernel(indices: Any, least: int, size: int, ignored: int | None, *, out: Out) -> None:
    """out = the larger of itself and a number that says which index is out of range first: where it is, counted down
    from _LAST, times 2^32, plus its value as an unsigned int; 0 if none is. Shapes: indices any -> ()
    """
    if not indices.size:
        return
    xp = devices.module(indices)
    flat = indices.reshape(-1).astype("int64")
    first = (_LAST - xp.arange(flat.size)) << 32
    said = xp.where(_wrong(flat, least, size, ignored), first | (flat.clip(_LOW, _HIGH) & 0xFFFFFFFF), 0).max()
    out.array[...] = xp.maximum(out.array, said)


def _error(name: str, what: str, shape: tuple[int, ...], least: int, size: int, said: int) -> IndexError:
    value = said & 0xFFFFFFFF
    value -= 1 << 32 if value > _HIGH else 0
    return _out_of_range(name, what, shape, least, size, _LAST - (said >> 32), value)
