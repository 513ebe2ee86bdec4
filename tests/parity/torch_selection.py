"""torch's views and choices of elements, and the calls at which they are compared with ours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from ag.sample import Sample, integers, normal

try:
    import torch
except ImportError:  # see torch_functions
    torch = None

SHAPES = [(), (1,), (4,), (0,), (2, 3), (1, 3), (0, 3), (2, 1, 4), (1, 1, 1), (3, 2, 2, 1)]


def squeeze(x: Any, axis: Any = None) -> Any:
    return x.squeeze() if axis is None else x.squeeze(axis)


def flip(x: Any, axis: Any = None) -> Any:
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return torch.flip(x, axes)


FUNCTIONS = {
    "swapaxes": lambda x, a, b: torch.swapaxes(x, a, b),
    "squeeze": squeeze,
    "unsqueeze": lambda x, axis: torch.unsqueeze(x, axis),
    "flip": flip,
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "maximum": lambda a, b: torch.maximum(a, torch.as_tensor(b, dtype=a.dtype)),
    "minimum": lambda a, b: torch.minimum(a, torch.as_tensor(b, dtype=a.dtype)),
    "where": lambda mask, a, b: torch.where(mask != 0, a, b),
    "masked_fill": lambda x, mask, value: x.masked_fill(mask != 0, value),
    "clip": lambda x, low=None, high=None: torch.clip(x, low, high),
}


def axis_pairs() -> Iterator[Sample]:
    for shape in SHAPES[1:]:
        axes = range(-len(shape), len(shape))
        yield from (Sample(normal(*shape), a, b) for a, b in permutations(axes, 2))


def single_axes(extra: int, every: bool) -> Iterator[Sample]:
    """Each axis of each shape, of those that have one more; only of size 1 unless `every`."""
    for shape in SHAPES:
        count = len(shape) + extra
        for axis in range(-count, count):
            if every or shape[axis] == 1:
                yield Sample(normal(*shape), axis)


def squeezes() -> Iterator[Sample]:
    yield from (Sample(normal(*shape)) for shape in [*SHAPES, (1, 0, 1), (5, 1, 1, 2), (1, 7), (7, 1), (2, 2), (3,)])
    yield from single_axes(0, every=False)
    yield from (Sample(normal(1, 3, 1, 2), axis) for axis in [(0, 2), (-2, 0), (2,), (-4,)])


def broadcasts() -> Iterator[Sample]:
    pairs = [((), ()), ((1,), (4,)), ((4,), (4,)), ((2, 1), (2, 3)), ((1, 1), (2, 2)), ((2, 3), (2, 3)), ((0,), (0,))]
    for lead in [(), (1,), (3,), (2, 1), (0,)]:
        yield from (Sample(normal(*shape), lead + full) for shape, full in pairs)


def pairs(values: Any, extreme: list[Any]) -> Iterator[Sample]:
    """Operands that broadcast, equal ones, extreme ones, and numbers."""
    for shape in SHAPES:
        yield Sample(normal(*shape), normal(*shape))
        yield Sample(normal(*shape), normal(*[1 if i % 2 else n for i, n in enumerate(shape)]))
        yield Sample(normal(*shape), 0.25)
    yield Sample(values([1.0, 2.0, -3.0, 0.0]), values([1.0, 1.0, -3.0, 0.0]))
    yield Sample(values(extreme), values(extreme[::-1]))


def choices(fill: bool) -> Iterator[Sample]:
    for shape in SHAPES:
        for mask in (shape, [1] * len(shape), shape[1:]):
            rest = (0.5,) if fill else (normal(*shape), normal(*shape[1:]))
            sample = (normal(*shape), integers(2, *mask), *rest) if fill else (integers(2, *mask), *rest)
            yield Sample(*sample)
    if not fill:
        yield from [Sample(integers(2, 4), normal(4), 1.5), Sample(integers(2, 3, 1), -1.0, normal(1, 4))]


def clips(values: Any, extreme: list[Any]) -> Iterator[Sample]:
    for shape in SHAPES:
        yield from (Sample(normal(*shape), *bounds) for bounds in [(-0.5, 0.5), (0.0,), (-1.0, 9.0), (None, 0.25)])
    yield Sample(values([-1.0, 0.0, 1.0, 2.0]), 0.0, 1.0)
    yield Sample(values(extreme), -2.0, 2.0)


def cases(values: Any, extreme: list[Any]) -> dict[str, list[Sample]]:
    return {
        "swapaxes": list(axis_pairs()),
        "squeeze": list(squeezes()),
        "unsqueeze": list(single_axes(1, every=True)),
        "flip": [*single_axes(0, every=True), *(Sample(normal(*shape)) for shape in SHAPES)],
        "broadcast_to": list(broadcasts()),
        "maximum": list(pairs(values, extreme)),
        "minimum": list(pairs(values, extreme)),
        "where": list(choices(fill=False)),
        "masked_fill": list(choices(fill=True)),
        "clip": list(clips(values, extreme)),
    }
