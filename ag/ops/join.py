"""Joining and cutting: concat, stack, repeat; split, which is slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ag import kernels
from ag.node import Node
from ag.op import composed, op
from ag.ops import reduce
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt.kernel import Out


@op(integers=True)
def concat(*parts: Tensor, axis: int = 0) -> Any:
    """y = the parts joined along an existing axis

    Shapes: parts equal but along `axis` -> y their sizes there added up
    Saves:  the axis, the sizes along it
    """
    if not parts:
        raise ValueError("concat: expected one tensor or more; got none")
    (axis,) = reduce.normal_axes("concat", axis, parts[0].ndim)
    rest = [part.shape[:axis] + part.shape[axis + 1 :] for part in parts]
    if any(shape != rest[0] or part.ndim != parts[0].ndim for shape, part in zip(rest, parts, strict=True)):
        shapes = " and ".join(str(part.shape) for part in parts)
        raise ValueError(f"concat: expected shapes equal but along axis {axis}; got {shapes}")
    sizes = tuple(part.shape[axis] for part in parts)
    y = scratch.empty((*parts[0].shape[:axis], sum(sizes), *parts[0].shape[axis + 1 :]), like=parts[0])
    for part, key in zip(parts, _stretches(sizes, axis), strict=True):
        kernels.copy(part, out=Out(y[key]))
    return y, (axis, sizes)


@concat.vjp
def _(g: Tensor, saved: Any, *slots: Any) -> None:
    axis, sizes = saved
    for slot, key in zip(slots, _stretches(sizes, axis), strict=True):
        if slot:
            slot.lend(g[key])


def _stretches(sizes: tuple[int, ...], axis: int) -> list[tuple[slice, ...]]:
    """The key of each part within the whole."""
    keys, start = [], 0
    for size in sizes:
        keys.append((*(slice(None),) * axis, slice(start, start + size)))
        start += size
    return keys


@op(integers=True)
def stack(*parts: Tensor, axis: int = 0) -> Any:
    """y = the parts joined along a new axis, which then is axis number `axis`

    Shapes: parts all the same -> y with their number put in
    Saves:  the axis
    """
    if not parts or any(part.shape != parts[0].shape for part in parts):
        shapes = " and ".join(str(part.shape) for part in parts) or "none"
        raise ValueError(f"stack: expected one tensor or more, all of one shape; got {shapes}")
    (axis,) = reduce.normal_axes("stack", axis, parts[0].ndim + 1)
    y = scratch.empty((*parts[0].shape[:axis], len(parts), *parts[0].shape[axis:]), like=parts[0])
    for i, part in enumerate(parts):
        kernels.copy(part, out=Out(y[(slice(None),) * axis + (i, ...)]))
    return y, (axis,)


@stack.vjp
def _(g: Tensor, saved: Any, *slots: Any) -> None:
    (axis,) = saved
    for i, slot in enumerate(slots):
        if slot:
            slot.lend(g[(slice(None),) * axis + (i, ...)])


@op(integers=True)
def repeat(x: Tensor, repeats: tuple[int, ...]) -> Any:
    """y = x, so many times along each axis, whole after whole; more numbers than axes make new axes at the left

    Shapes: x any -> y its sizes times `repeats`
    Saves:  shapes
    """
    repeats = (repeats,) if isinstance(repeats, int) else tuple(repeats)
    if len(repeats) < x.ndim or any(count < 0 for count in repeats):
        raise ValueError(f"repeat: expected {x.ndim} counts of 0 or more, or more counts; got {repeats}")
    sizes = (1,) * (len(repeats) - x.ndim) + x.shape
    y = scratch.empty(tuple(count * size for count, size in zip(repeats, sizes, strict=True)), like=x)
    one = _interleaved((1,) * len(sizes), sizes)
    many = _interleaved(repeats, sizes)
    kernels.copy(x.view(one), out=Out(y.view(many)))
    return y, (one, many)


@repeat.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    one, many = saved
    kernels.sum_to(g.view(many), out=dx.out().view(one))


def _interleaved(counts: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(number for pair in zip(counts, sizes, strict=True) for number in pair)


@composed
def split(x: Any, sizes: int | Sequence[int], axis: int = 0) -> list[Node]:
    """x cut along an axis into views of the given sizes, or of one size, the last then maybe smaller

    Shapes: x any -> views of x, whose sizes along the axis add up to its own
    Raises: ValueError if they do not
    """
    (axis,) = reduce.normal_axes("split", axis, x.ndim)
    whole = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1:
            raise ValueError(f"split: expected a size of 1 or more; got {sizes}")
        sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)] or [0]
    if sum(sizes) != whole or any(size < 0 for size in sizes):
        raise ValueError(f"split: expected sizes that add up to {whole}, that of axis {axis}; got {list(sizes)}")
    return [x[key] for key in _stretches(tuple(sizes), axis)]


@composed
def chunk(x: Any, chunks: int, axis: int = 0) -> list[Node]:
    """x cut along an axis into at most so many views, all of one size but maybe the last

    Shapes: x any -> views of x, whose sizes along the axis add up to its own
    """
    (axis,) = reduce.normal_axes("chunk", axis, x.ndim)
    if chunks < 1:
        raise ValueError(f"chunk: expected 1 chunk or more; got {chunks}")
    return split(x, max(1, -(-x.shape[axis] // chunks)), axis)


concat.samples = [
    Sample([normal(2, 3), normal(4, 3)]),
    Sample([normal(2, 3), normal(2, 1), normal(2, 2)], axis=-1),
    Sample([normal(3)], axis=0),
    Sample([normal(0, 2), normal(1, 2)]),
]
stack.samples = [
    Sample([normal(2, 3), normal(2, 3)]),
    Sample([normal(2, 3)] * 3, axis=-1),
    Sample([normal(2, 3), normal(2, 3)], axis=1),
    Sample([normal(), normal()]),
    Sample([normal(0, 2)], axis=2),
]
repeat.samples = [
    Sample(normal(3), (2,)),
    Sample(normal(3, 2), (2, 3)),
    Sample(normal(3), (2, 1, 4)),
    Sample(normal(), (3,)),
    Sample(normal(2, 3), (1, 0)),
]
