"""torch's functions of images, and the calls at which they are compared with ours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import inf, nan
from typing import Any

from ag.sample import Sample, normal

try:
    import torch
    import torch.nn.functional as F
except ImportError:  # see torch_functions
    torch = F = None


def batch_norm(
    x, gain=None, shift=None, residual=None, running=None, training=True, momentum=0.1, eps=1e-5, relu=False
):  # fmt: skip
    y = F.batch_norm(x, *(running or (None, None)), gain, shift, training, momentum, eps)
    y = y if residual is None else y + residual
    return F.relu(y) if relu else y


FUNCTIONS = {
    "conv2d": lambda x, w, b=None, *options, **named: F.conv2d(x, w, b, *options, **named),
    "batch_norm": batch_norm,
    "max_pool2d": lambda x, *options, **named: F.max_pool2d(x, *options, **named),
    "avg_pool2d": lambda x, size, stride=None, padding=0, count_include_pad=True: F.avg_pool2d(
        x, size, stride, padding, count_include_pad=count_include_pad
    ),
}


def convolutions(values: Any) -> Iterator[Sample]:
    for c, o in [(1, 1), (3, 5), (17, 33)]:
        yield Sample(normal(2, c, 5, 4), normal(o, c, 3, 3), normal(o), padding=1)
        yield Sample(normal(1, c, 6, 7), normal(o, c, 1, 1), normal(o))
    for stride, padding, dilation in product([1, (2, 3)], [0, (1, 2)], [1, (2, 1)]):
        x, w = normal(2, 4, 7, 6), normal(6, 2, 3, 2)
        yield Sample(x, w, normal(6), stride, padding, dilation, 2)
        yield Sample(x, normal(2, 4, 2, 3), None, stride, padding, dilation)
    yield Sample(normal(1, 3, 1, 1), normal(2, 3, 1, 1), normal(2))
    yield Sample(normal(1, 3, 4, 5), normal(2, 3, 4, 5), normal(2))  # a window as large as the image
    yield Sample(normal(1, 2, 1, 1), normal(3, 2, 3, 3), normal(3), padding=1)
    yield Sample(normal(2, 3, 5, 5), normal(4, 3, 1, 1), None, 3)  # pixels that no window sees
    yield Sample(normal(0, 3, 4, 4), normal(2, 3, 3, 3), normal(2))
    yield Sample(normal(3, 5, 4, 4), normal(5, 1, 3, 3), normal(5), 1, 1, 1, 5)
    yield Sample(values([[[[1.0, nan, 2], [inf, 0, 3], [4, 5, -inf]]]]), normal(2, 1, 2, 2), normal(2))


def batch_norms(values: Any) -> Iterator[Sample]:
    for shape, relu in product([(5, 3), (4, 2, 3), (3, 4, 2, 5), (2, 17, 3, 3), (1, 2, 3, 2)], [False, True]):
        parameters = normal(shape[1]), normal(shape[1])
        yield Sample(normal(*shape), *parameters, relu=relu)
        yield Sample(normal(*shape), *parameters, normal(*shape), relu=relu)
        yield Sample(normal(*shape), None, None, normal(*shape), relu=relu, eps=0.5)
    yield Sample(normal(6, 3), normal(3))
    yield Sample(normal(6, 3), None, normal(3))
    yield Sample(values([[0.0, 3.0], [0.0, 3.0]]), normal(2), normal(2), eps=1.0)  # channels of one number
    yield Sample(values([[nan, 1.0, 2.0], [0.0, inf, 5.0]]), normal(3), normal(3))


def windows() -> Iterator[tuple[Any, ...]]:
    """Images, and a window's size, stride and padding."""
    for shape in [(2, 3, 7, 6), (1, 1, 4, 9), (3, 17, 4, 4)]:
        for options in [(2,), (3, 2, 1), ((2, 3), (1, 2)), (2, 1, 1), ((4, 2), (3, 4), (2, 0)), (1,), (4, 5)]:
            yield normal(*shape), *options


def largest(values: Any) -> Iterator[Sample]:
    yield from (Sample(*call) for call in windows())
    for dilation in (2, (1, 3)):
        yield Sample(normal(2, 3, 8, 9), (3, 2), 2, 0, dilation)
        yield Sample(normal(2, 3, 8, 9), (3, 2), (1, 3), 1, dilation)
    ties = [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [-0.0, 0.0, 0.0]]]]
    strange = [[[[1.0, 1.0, inf], [-inf, -inf, 2.0], [-inf, -inf, nan]]]]  # one NaN: of two torch takes the last
    yield from (Sample(values(numbers), size, 1, 1) for numbers, size in product([ties, strange], (2, 3)))
    yield from [Sample(normal(1, 1, 17, 17), 17), Sample(normal(1, 2, 1, 1), 1), Sample(normal(0, 2, 4, 4), 2)]


def means(values: Any) -> Iterator[Sample]:
    for x, *options in windows():
        yield Sample(x, *options)
        yield Sample(x, *options, count_include_pad=False)
    yield Sample(values([[[[nan, 1.0, inf], [-inf, 3.0, 2.0]]]]), 2, 1)
    yield from [Sample(normal(1, 2, 1, 1), 1), Sample(normal(0, 2, 4, 4), 2)]


def cases(values: Any) -> dict[str, list[Sample]]:
    return {
        "conv2d": list(convolutions(values)),
        "batch_norm": list(batch_norms(values)),
        "max_pool2d": list(largest(values)),
        "avg_pool2d": list(means(values)),
    }
