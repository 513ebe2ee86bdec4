"""torch's joining, padding, gathering and running products, and the calls at which they are compared with ours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from ag.sample import Sample, between, integers, normal

try:
    import torch
    import torch.nn.functional as F
except ImportError:  # see torch_functions
    torch = F = None

SHAPES = [(), (1,), (4,), (0,), (2, 3), (1, 3), (0, 3), (2, 1, 4), (3, 2, 2, 1)]


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """torch takes one axis at a time."""
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for a in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(a, keepdim=keepdims)
    return x.clone() if not axes else x


def constant_pad(x: Any, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> Any:
    flat = [width for pair in reversed(widths) for width in pair]
    return F.pad(x, flat, value=value) if flat else x.clone()


FUNCTIONS = {
    "prod": prod,
    "cumsum": lambda x, axis: torch.cumsum(x, axis),
    "stack": lambda *parts, axis=0: torch.stack(parts, axis),
    "repeat": lambda x, repeats: x.repeat(repeats),
    "constant_pad": constant_pad,
    "gather": lambda x, axis, index: torch.gather(x, axis, index),
    "tril": lambda x, diagonal=0: torch.tril(x, diagonal),
    "triu": lambda x, diagonal=0: torch.triu(x, diagonal),
}


def products(values: Any) -> Iterator[Sample]:
    for shape in SHAPES:
        axes = [None, *range(-len(shape), len(shape)), *([(0, -1)] if len(shape) > 1 else [])]
        yield from (Sample(normal(*shape), axis, bool(len(shape) % 2)) for axis in axes)
    zeros = [[1.0, 0.0, 3.0], [0.0, 2.0, 0.0], [4.0, 5.0, 6.0]]
    yield from (Sample(values(zeros), axis) for axis in (0, 1, None))
    yield from [Sample(values([1e12, 1e-12, 3.0, -1.0])), Sample(between(-1, 1, 40, 3), 0)]


def running(values: Any, extreme: list[Any]) -> Iterator[Sample]:
    for shape in [*SHAPES[1:], (7, 40), (3, 1, 1), (1, 5, 2), (2, 2, 2)]:
        yield from (Sample(normal(*shape), axis) for axis in range(-len(shape), len(shape)))
    yield from [Sample(values(extreme), 0), Sample(values([1e30, -1e30, 2.0]), 0)]


def stacks() -> Iterator[Sample]:
    for shape in SHAPES:
        for axis, count in product(range(-len(shape) - 1, len(shape) + 1), (1, 3)):
            yield Sample([normal(*shape)] * count, axis=axis)


def repeats() -> Iterator[Sample]:
    for shape in SHAPES:
        for lead, each in product([(), (2,), (3, 1)], (1, 2, 0)):
            yield Sample(normal(*shape), (*lead, *(each + i % 2 for i in range(len(shape)))))


def pads() -> Iterator[Sample]:
    for shape in [*SHAPES[1:], (5, 4), (3, 3, 3)]:
        for first, last in [((0, 0), (1, 2)), ((2, 0), (0, 1)), ((1, 1), (1, 1)), ((0, 0), (0, 0))]:
            yield Sample(normal(*shape), (first, *[(0, 0)] * (len(shape) - 2), last)[-len(shape) :], 0.5)
    for cut in [(-1, 0), (0, -2), (-1, -1), (2, -1), (-3, 1)]:
        yield Sample(normal(4, 5), ((0, 1), cut))


def gathers() -> Iterator[Sample]:
    for shape in [(1,), (4,), (2, 3), (1, 3), (5, 1), (2, 3, 4), (2, 1, 2, 3)]:
        for axis, taken in product(range(-len(shape), len(shape)), (0, 1, 5)):
            sizes = [taken if a == axis % len(shape) else max(1, size - taken % 2) for a, size in enumerate(shape)]
            yield Sample(normal(*shape), axis, integers(shape[axis], *sizes))


def triangles(values: Any) -> Iterator[Sample]:
    for shape in [(1, 1), (3, 3), (2, 5), (5, 2), (0, 3), (3, 0), (2, 3, 4), (2, 1, 3, 3)]:
        yield from (Sample(normal(*shape), diagonal) for diagonal in (-9, -1, 0, 2, 9))
    yield Sample(values([[1.0, float("nan")], [float("inf"), 2.0]]))


def cases(values: Any, extreme: list[Any]) -> dict[str, list[Sample]]:
    return {
        "prod": list(products(values)),
        "cumsum": list(running(values, extreme)),
        "stack": list(stacks()),
        "repeat": list(repeats()),
        "constant_pad": list(pads()),
        "gather": list(gathers()),
        "tril": list(triangles(values)),
        "triu": list(triangles(values)),
    }
