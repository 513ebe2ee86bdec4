"""The ops of ag as functions of torch tensors, and the calls that are compared.

Each function has the parameters of the op under whose name it is listed, so that one call serves both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import torch_images as images
import torch_indexing as indexing
import torch_layouts as layouts
import torch_losses as more_losses
import torch_pointwise as pointwise
import torch_reductions as more_reductions
import torch_selection as selection

import ag
import ownt
from ag.sample import Sample, between, integers, normal
from ownt import Tensor

try:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)  # the tensors are small: threads that wait for work would only slow both sides
except ImportError:  # without torch there is a table to look at, and nothing to call
    torch = F = None


def as_torch(value: Any, requires_grad: bool = False) -> Any:
    """A torch tensor with a copy of the values of a Tensor, an array or a constant; anything else as it is."""
    if isinstance(value, ag.Node):
        return as_torch(value.tensor)
    if not isinstance(value, (Tensor, np.ndarray)):
        return value
    made = torch.from_numpy(np.array(value, order="C"))
    return made.requires_grad_(requires_grad and made.is_floating_point())


def reduced(function, x, axis, keepdims):
    if axis == ():  # to torch these are all axes, to NumPy and to us none
        return x.clone()
    return function(x, dim=axis, keepdim=keepdims)


def norm_linear(x, gain, shift, w, b=None, norm="layer", eps=1e-5):
    if norm == "layer":
        return F.linear(F.layer_norm(x, x.shape[-1:], gain, shift, eps), w, b)
    return F.linear(F.rms_norm(x, x.shape[-1:], gain, eps), w, b)


def heads_of(qkv, heads):
    """Queries, keys and values, (B, H, T, D) each."""
    b, t, width = qkv.shape
    return qkv.reshape(b, t, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)


def causal_attention(qkv, heads):
    y = F.scaled_dot_product_attention(*heads_of(qkv, heads), is_causal=True)
    return y.transpose(1, 2).reshape(*qkv.shape[:2], qkv.shape[2] // 3)


TABLE = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: (a if isinstance(a, torch.Tensor) else torch.full_like(b, a)) / b,  # number / b is another op
    "neg": lambda x: -x,
    "pow": lambda a, b: a**b,
    "relu": lambda x: F.relu(x),
    "gelu": lambda x, approximate="none": F.gelu(x, approximate=approximate),
    **pointwise.FUNCTIONS,
    **selection.FUNCTIONS,
    **more_reductions.FUNCTIONS,
    **layouts.FUNCTIONS,
    **more_losses.FUNCTIONS,
    "softmax": lambda x, axis=-1: F.softmax(x, axis),
    "sum": lambda x, axis=None, keepdims=False: reduced(torch.sum, x, axis, keepdims),
    "mean": lambda x, axis=None, keepdims=False: reduced(torch.mean, x, axis, keepdims),
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes=None: x.permute(tuple(reversed(range(x.ndim))) if axes is None else axes),
    **indexing.FUNCTIONS,
    **images.FUNCTIONS,
    "concat": lambda *parts, axis=0: torch.cat(parts, axis),
    "matmul": lambda a, b: torch.matmul(a, b),
    "linear": lambda x, w, b=None, residual=None: F.linear(x, w, b) + (0 if residual is None else residual),
    "layer_norm": lambda x, gain=None, shift=None, eps=1e-5: F.layer_norm(x, x.shape[-1:], gain, shift, eps),
    "rms_norm": lambda x, gain=None, eps=1e-5: F.rms_norm(x, x.shape[-1:], gain, eps),
    "norm_linear": norm_linear,
    "gelu_linear": lambda x, w, b=None, approximate="none", residual=None: (
        F.linear(F.gelu(x, approximate=approximate), w, b) + (0 if residual is None else residual)
    ),
    "embedding": lambda indices, w: F.embedding(indices, w),
    "causal_attention": causal_attention,
}

LEFT_OUT = {
    "dropout": "torch draws other random numbers",
    **dict.fromkeys(("cached_attention", "argmax", "argmin", "argtopk"), "no gradient; it has a test of its own"),
}


@dataclass(frozen=True)
class Values:
    """A tensor of given numbers, floats or integers, among the arguments of a Sample."""

    numbers: Any

    def make(self, dtype: str) -> Tensor:
        array = np.array(self.numbers)
        return ownt.Tensor(array.astype(dtype) if array.dtype.kind == "f" else array)

    def __str__(self) -> str:
        return f"values{np.shape(self.numbers)}"


INF, NAN = math.inf, math.nan
SHAPES = [(), (1,), (5,), (0,), (3, 1), (1, 4), (0, 3), (3, 0), (2, 3, 4), (1, 1, 1), (2, 0, 3), (2, 1, 3, 2)]
LEADS = [(), (1,), (3,), (2, 3), (0,), (2, 0), (2, 1, 3)]  # of shapes whose last axis has a meaning
EXTREME = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, -1e-30, 1e4, -1e4, 1e30, -1e30, INF, -INF, NAN]
BASES = [0.0, 0.5, 1.0, 2.0, -1.0, -2.5, 3.0, INF, NAN]
POWERS = [0.0, 1.0, 2.0, 0.5, -1.0, -0.5, 3.0, -2.0]
ROWS = [[1e4, -1e4, 0.5], [3.0, 3, 3], [0.0, 0, 0], [1e-4, 2e-4, 0], [NAN, 1, 2], [INF, 1, 2]]
LOGITS = [*ROWS, [1e4, 1e4, 1e4], [-INF, 1, 2], [1, -INF, -INF], [-1e4, -1e4, -1e4 + 1]]
RESHAPES = [(12,), (3, 4), (2, 6), (2, 3, 2), (1, 12, 1), (4, -1), (-1, 2, 2)]
EMPTY_OR_SINGLE = [((), (1, 1)), ((1,), ()), ((4, 0), (0,)), ((0,), (2, 0, 3)), ((0, 2), (-1, 1)), ((1, 1), (-1,))]


def broadcasts() -> Iterator[tuple[tuple, tuple]]:
    """Pairs of shapes that broadcast: with axes dropped at the left, or of size 1, on either side."""
    for shape in [(2, 3, 4), (0, 3), (3, 1)]:
        for dropped in range(len(shape) + 1):
            for ones in product([False, True], repeat=len(shape) - dropped):
                other = tuple(1 if one else size for one, size in zip(ones, shape[dropped:]))
                yield (shape, other) if dropped % 2 else (other, shape)
    yield from [((2, 1, 4), (3, 1)), ((1, 0), (3, 1))]


def positive(*shape: int) -> Any:
    return between(0.1, 3, *shape)


def binary(make: Any = normal, left: Any = EXTREME, right: Any = EXTREME) -> Iterator[Sample]:
    """Samples of two tensors that broadcast, of all pairs of extreme numbers, and of numbers beside a tensor."""
    yield from (Sample(make(*a), normal(*b)) for a, b in broadcasts())
    yield Sample(*(Values(column) for column in np.transpose(list(product(left, right)))))
    yield from (Sample(Values(left), power) for power in (0, 1, 2, 0.5, -1, -2.0, -0.5))
    yield from (Sample(number, Values(right)) for number in (0, 1, 2.5, 0.0, -2))


def unary(*rest: Any, make: Any = normal, extreme: Any = EXTREME) -> list[Sample]:
    shapes = [*SHAPES, *product([0, 1, 2, 5], repeat=2), (300,), (2, 200, 100)]
    return [Sample(x, *rest) for x in (*(make(*shape) for shape in shapes), between(1, 99, 9), Values(extreme))]


def reductions() -> Iterator[Sample]:
    for shape in SHAPES:
        axes = [None, *(some for count in range(len(shape) + 1) for some in combinations(range(len(shape)), count))]
        yield from (Sample(normal(*shape), axis=axis, keepdims=bool(len(shape) % 2)) for axis in axes)
        yield from (Sample(normal(*shape), -axis - 1, True) for axis in range(len(shape)))
    yield from [Sample(normal(3, 40_000), 0), Sample(normal(400, 300)), Sample(Values(EXTREME))]


def matmuls() -> Iterator[Sample]:
    for a, b in product([(), (2,), (1,), (3, 2), (3, 1), (0,)], repeat=2):
        if not (a and b) or len({a[-1], b[-1]} - {1}) < 2:
            yield Sample(normal(*a, 3, 4), normal(*b, 4, 5))
    for stack in [(2,), (3, 2), (0,)]:
        yield from [Sample(normal(4), normal(*stack, 4, 5)), Sample(normal(*stack, 3, 4), normal(4))]
    for m, k, n in [(1, 4, 1), (3, 1, 5), (1, 1, 5), (0, 4, 0), (3, 0, 1), (70, 30, 50)]:
        yield Sample(normal(m, k), normal(k, n))
    yield from [Sample(normal(0), normal(0)), Sample(normal(1), normal(1)), Sample(Values(ROWS), normal(3, 2))]


def affine(*middle: Any, rows: Any = ROWS, **options: Any) -> Iterator[Sample]:
    """Samples of x (..., I), w (O, I) and b (O,), with what `middle` makes of I between x and w."""
    for lead, (i, o) in product(LEADS, [(4, 5), (1, 3), (3, 1), (2, 2)]):
        yield Sample(normal(*lead, i), *[make and make(i) for make in middle], normal(o, i), normal(o), **options)
    yield Sample(Values(rows), *[make and make(3) for make in middle], normal(2, 3), None, **options)


def norms(parameters: int) -> Iterator[Sample]:
    for lead, width in product(LEADS, [1, 2, 64]):
        eps = {"eps": 1.0} if width < 3 else {}  # else torch's rounding, times 1 / sqrt(eps), is in what should be 0
        yield Sample(normal(*lead, width), *[normal(width)] * parameters, **eps)
    yield from [Sample(Values(ROWS), *[normal(3)] * parameters), Sample(normal(700, 64), *[normal(64)] * parameters)]
    yield Sample(Values([[100.0, 101, 103, 104]]), *[normal(4)] * parameters)  # with more, torch's float32 is off


def losses(*middle: Any, last: int = 5) -> Iterator[Sample]:
    """Samples of a loss of 5 classes of x (..., last), with `middle` between x and the targets."""
    for reduction in ["mean", "sum", "none"]:
        for lead in LEADS:
            x = (normal(*lead, last), *middle)
            yield Sample(*x, integers(5, *lead), reduction=reduction)
            yield Sample(*x, integers(5, *lead), ignore_index=2, reduction=reduction)
        yield Sample(normal(4, last), *middle, Values([-100, 0, -100, 4]), reduction=reduction)
        yield Sample(normal(3, last), *middle, Values([-100] * 3), reduction=reduction)


CASES = {  # beside the samples of the ops themselves
    "add": list(binary()),
    "sub": list(binary()),
    "mul": list(binary()),
    "div": list(binary()),
    "neg": unary(),
    "pow": list(binary(positive, BASES, POWERS)),
    "relu": unary(),
    **selection.cases(Values, EXTREME),
    **more_reductions.cases(Values, EXTREME),
    **layouts.cases(Values, EXTREME),
    **more_losses.cases(Values, EXTREME),
    **{name: unary(*options, **numbers) for name, (options, numbers) in pointwise.cases(EXTREME).items()},
    "gelu": [*unary("none", extreme=[-1e30, 1e30, 0, 1e4, NAN]), *unary("tanh")],  # torch's float32 gelu(inf) is NaN
    "softmax": [
        *(Sample(normal(*shape), axis) for shape in SHAPES for axis in range(-len(shape), len(shape))),
        *(Sample(Values(LOGITS)), Sample(between(-1e4, 1e4, 5, 7), 0)),
    ],
    "sum": list(reductions()),
    "mean": list(reductions()),
    "reshape": [
        *(Sample(normal(*old), new) for old, new in product(RESHAPES[:5], RESHAPES)),
        *(Sample(normal(*old), new) for old, new in EMPTY_OR_SINGLE),
    ],
    "transpose": [
        *(Sample(normal(1, 2, 3, 4), axes) for axes in permutations(range(4))),
        *(Sample(normal(2, 3, 4), axes) for axes in [(-1, -2, -3), (0, -1, 1), (-2, 2, 0)]),
        *(Sample(normal(*shape)) for shape in SHAPES),
    ],
    **indexing.CASES,
    **images.cases(Values),
    "concat": [
        *(Sample([normal(2, n, 3) for n in sizes], axis=axis) for sizes in [(1, 2), (0, 3), (2,)] for axis in (1, -2)),
        *(Sample([normal(*shape)] * 2, axis=axis) for shape in SHAPES for axis in range(-len(shape), len(shape))),
    ],
    "matmul": list(matmuls()),
    "linear": list(affine()),
    "gelu_linear": [*affine(rows=ROWS[:-1]), *affine(approximate="tanh")],
    "norm_linear": [*affine(normal, normal, eps=1.0), *affine(normal, None, norm="rms")][::2],
    "layer_norm": [*norms(0), *norms(1), *norms(2)],
    "rms_norm": [*norms(0), *norms(1)],
    "embedding": [
        *(Sample(integers(high, *shape), normal(6, 3)) for shape in SHAPES for high in (1, 6)),
        *(Sample(Values(given), normal(9, width)) for given in ([8, 0, 8, 8], [[3, 3], [3, 0]]) for width in (1, 2, 0)),
        Sample(integers(4, 300), normal(1000, 5)),
    ],
    "cross_entropy": [
        *losses(),
        *more_losses.smoothed(),
        *(Sample(Values(LOGITS), Values([0, 1, 2, 0, 1, 2, 0, 1, 0, 2]), reduction=r) for r in ("none", "sum")),
        *(Sample(Values(LOGITS), Values([0] * 9 + [-100])), Sample(between(-1e4, 1e4, 6, 5), integers(5, 6))),
    ],
    "linear_cross_entropy": [
        *losses(normal(5, 6), last=6),
        *more_losses.smoothed_linear(),
        *(
            Sample(between(-99, 99, 9, 3), normal(4, 3), integers(4, 9)),
            Sample(Values(ROWS), normal(2, 3), Values([0] * 6)),
        ),
    ],
    "causal_attention": [
        *(Sample(normal(b, t, 3 * h * d), h) for b, t, h, d in product([0, 1, 3], [0, 1, 2, 9], [1, 4], [1, 3])),
        *(Sample(normal(b, t, 12), 2) for b, t in [(2, 64), (1, 65), (2, 130), (2, 600)]),
        *(Sample(between(-5, 5, 2, 5, 12), 2), Sample(Values([[[1.0, 2, 3], [0, 1, 1], [NAN, 1, INF]]]), 1)),
    ],
}
