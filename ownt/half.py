"""Half precision: what reads or writes float16 or bfloat16 computes in float32.

A kernel without an override for such a dtype gets its inputs as float32, adds up and rounds in float32, and each of
its results is rounded once. Elementwise kernels go piece by piece; for all others whole copies are workspace, so that
the ledger counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, final

from ownt import device as devices
from ownt import scratch
from ownt.dtype import HALF, float32
from ownt.layout import by_strides
from ownt.tensor import Tensor, wrap

if TYPE_CHECKING:
    from ownt.kernel import Kernel, Out

Pairs = list[tuple[Any, Any]]  # arrays of half precision, each with its copy in float32


def is_half(value: Any) -> bool:
    """Whether a value is an array of half precision, or a tuple with one in it."""
    if type(value) is tuple:
        return any(map(is_half, value))
    return devices.is_array(value) and value.dtype in HALF


@final
class _Copies:
    """Workspaces in float32 of arrays of half precision, one of each: what a kernel reads and writes over stays one."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Any, Tensor]] = {}  # by the array's id, which is held, so that it stays its own

    def of(self, value: Any) -> Any:
        """A value with copies in place of arrays of half precision."""
        if type(value) is tuple:
            return tuple(map(self.of, value))
        return self.tensor(value).array if is_half(value) else value

    def tensor(self, array: Any) -> Tensor:
        """The copy of an array, its numbers still to come."""
        if id(array) not in self.made:
            self.made[id(array)] = array, _wide_tensor(array)
        return self.made[id(array)][1]

    def pairs(self) -> Pairs:
        return [(array, copy.array) for array, copy in self.made.values()]


def bind(kernel: Kernel, arrays: list[Any], outs: dict[str, Out | None]) -> tuple[Callable[..., None], tuple]:
    """What to call with which arguments, as an override's."""
    copies = _Copies()
    read = [copies.of(value) for value in arrays]
    before = copies.pairs()
    written, after = dict(outs), []
    for name, out in outs.items():
        if out is None or out.array.dtype not in HALF:
            continue
        is_read = id(out.array) in copies.made
        copy = copies.tensor(out.array)
        written[name] = type(out)(copy, out.beta)
        after.append((out.array, copy.array))
        if out.beta and not is_read:
            before.append(after[-1])
    function, bound = kernel.bind(*read, **written)
    return _converted, (before, after, function, *bound)


def _converted(before: Pairs, after: Pairs, function: Callable[..., None], *bound: Any) -> None:
    for half, wide in before:
        _assign(wide, half)
    function(*bound)
    for half, wide in after:
        _assign(half, wide)


def _assign(target: Any, source: Any) -> None:
    """target = source, on its device's stream. (float16 overflows, and who scales losses finds out by that.)"""
    with devices.of(target).quiet():
        target[...] = source


def _wide_tensor(array: Any) -> Tensor:
    """An uninitialised workspace in float32 of an array's shape, whose axes follow each other in memory as its do."""
    order, back = by_strides(array)
    made = scratch.workspace(tuple([array.shape[axis] for axis in order]), array, float32)
    return made.transpose(back)


def elementwise(reference: Callable[..., None]) -> Callable[..., None]:
    """A reference that is called with small pieces, which then are float32."""
    return partial(_in_float32, reference)


def _in_float32(reference: Callable[..., None], *arrays: Any, **outs: Out | None) -> None:
    read = [array.astype(float32) if is_half(array) else array for array in arrays]
    written = {name: out and wide_out(out) for name, out in outs.items()}
    reference(*read, **written)
    for name, out in outs.items():
        if out is not None and written[name] is not out:
            out.array[...] = written[name].array  # type: ignore[union-attr]


def wide_out(out: Out) -> Out:
    """A destination of half precision as one in float32, of its own: what is there, if that counts."""
    if out.array.dtype not in HALF:
        return out
    made = out.array.astype(float32) if out.beta else devices.module(out.array).empty(out.array.shape, float32)
    return type(out)(wrap(made, out.tensor.block), out.beta)
