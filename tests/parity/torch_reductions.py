"""torch's reductions beside sum and mean, and the calls at which they are compared with ours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from ag.sample import Sample, between, normal

try:
    import torch
    import torch.nn.functional as F
except ImportError:  # see torch_functions
    torch = F = None

SHAPES = [(), (1,), (4,), (2, 3), (1, 3), (5, 1), (2, 1, 4), (2, 3, 4), (2, 3, 2, 2)]


def over_axes(name: str, x: Any, axis: Any = None, keepdims: bool = False, **options: Any) -> Any:
    axes = tuple(range(x.ndim)) if axis is None else axis
    if axes == ():  # of a number: to torch, too, there is nothing to reduce
        axes = 0 if name == "logsumexp" else None
    return getattr(torch, name)(x, dim=axes, keepdim=keepdims, **options)


FUNCTIONS = {
    "max": lambda x, axis=None, keepdims=False: over_axes("amax", x, axis, keepdims) if x.ndim else x * 1,
    "min": lambda x, axis=None, keepdims=False: over_axes("amin", x, axis, keepdims) if x.ndim else x * 1,
    "var": lambda x, *rest, **options: over_axes("var", x, *rest, **options),
    "std": lambda x, *rest, **options: over_axes("std", x, *rest, **options),
    "logsumexp": lambda x, axis=None, keepdims=False: over_axes("logsumexp", x, axis, keepdims),
    "log_softmax": lambda x, axis=-1: F.log_softmax(x, axis),
}


def over(shapes: list[tuple[int, ...]], least: int = 1) -> Iterator[Sample]:
    """All sets of axes that leave `least` elements or more to reduce, as numbers from either end."""
    for shape in shapes:
        for count in range(1, len(shape) + 1):
            for axes in combinations(range(len(shape)), count):
                size = 1
                for a in axes:
                    size *= shape[a]
                if size >= least:
                    yield Sample(normal(*shape), axes, bool(count % 2))
        if len(shape) and max(shape) >= least:
            yield Sample(normal(*shape))
            yield from (Sample(normal(*shape), a - len(shape)) for a, size in enumerate(shape) if size >= least)


def cases(values: Any, extreme: list[Any]) -> dict[str, list[Sample]]:
    ties = [Sample(values([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]), axis) for axis in (0, 1)]
    most = [*over(SHAPES[1:]), *ties, Sample(normal(0, 3), 1), Sample(values(extreme))]
    spread = [*over(SHAPES, least=2), *(Sample(normal(3, 4), axis, correction=0) for axis in (0, 1, (0, 1)))]
    logs = [*over(SHAPES[1:]), *ties, Sample(between(-900, 900, 3, 5), 1), Sample(values([[1e4, -1e4, 0.0]]), 1)]
    along = [Sample(normal(*shape), axis) for shape in SHAPES[1:] for axis in range(-len(shape), len(shape))]
    return {
        "max": most,
        "min": most,
        "var": spread,
        "std": spread,
        "logsumexp": logs,
        "log_softmax": [*along, Sample(between(-1e4, 1e4, 5, 7), 0), Sample(normal(0, 3)), Sample(normal(3, 0))],
    }
