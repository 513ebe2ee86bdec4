"""Which OpInfos of PyTorch's belong to which op of ours, and how their calls are made of ours: arithmetic, reductions.

Rows of views and joins are in `opinfo_shapes`, of layers and losses in `opinfo_layers`, of images in `opinfo_images`.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np
import opinfo_images
import opinfo_layers
import opinfo_shapes
from opinfo import AXIS_OF_NUMBER, SUMS, TWO_DTYPES, LeftOut, Row, axes

import ag

POINTWISE = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "exp", "expm1", "log", "log1p",
    "log2", "neg", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip
FUNCTIONALS = ("gelu", "leaky_relu", "mish", "relu", "silu")
EITHER_SIDE = "a number may stand on either side"
NUMBER_FIRST = "a number before the tensor, whose method torch has none for"
NUMBER_AXIS = "a number is an operand, to torch an axis"
TWO_NUMBERS = "a condition between two numbers"
NAN = "NaN, where torch's gradient depends on the place and the dtype"
VALUE = "a tensor for the value"


def over(name: str) -> Any:
    """A reduction over axes, which are all of them if none is named."""

    def call(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        return getattr(ag, name)(x, axes(x, dim), keepdim)

    return call


def spread(name: str) -> Any:
    def call(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: Any = None) -> Any:
        return getattr(ag, name)(x, axes(x, dim), keepdim, int(unbiased) if correction is None else correction)

    return call


def along(name: str) -> Any:
    return lambda x, dim: getattr(ag, name)(x, axes(x, dim))


def chosen(value: str, place: str) -> Any:
    """The extreme along an axis and its place."""
    return lambda x, dim, keepdim=False: [over(value)(x, dim, keepdim), over(place)(x, dim, keepdim)]


def without_nan(function: Any) -> Any:
    """An op on numbers that are not NaN."""

    @wraps(getattr(function, "forward", function))
    def call(x: Any, **options: Any) -> Any:
        if np.isnan(x.detach().numpy()).any():
            raise LeftOut(NAN)
        return function(x, **options)

    return call


def reversed_sub(x: Any, other: Any) -> Any:
    if not isinstance(x, ag.Node):
        raise LeftOut(NUMBER_FIRST)
    return other - x


def where(x: Any, condition: Any, other: Any) -> Any:
    if not (isinstance(x, ag.Node) or isinstance(other, ag.Node)):
        raise LeftOut(TWO_NUMBERS)
    if isinstance(x, ag.Node) and isinstance(other, ag.Node) and x.dtype != other.dtype:
        raise LeftOut(TWO_DTYPES)
    return ag.where(condition, x, other)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    if isinstance(value, ag.Node):
        raise LeftOut(VALUE)
    return ag.masked_fill(x, mask, value)


ARITHMETIC = [
    Row("add", "add", left_out=("option alpha",)),
    Row("add", "__radd__", lambda x, other: other + x, legal={"descriptor '__radd__'": EITHER_SIDE}),
    Row("sub", "sub", left_out=("option alpha",)),
    Row("sub", "__rsub__", reversed_sub, left_out=(NUMBER_FIRST,)),
    Row(
        "sub",
        "rsub",
        lambda x, other: ag.sub(other, x),
        left_out=("option alpha",),
        legal={"rsub() received": EITHER_SIDE},
    ),
    Row("mul", "mul"),
    Row("mul", "__rmul__", lambda x, other: other * x, legal={"descriptor '__rmul__'": EITHER_SIDE}),
    Row("div", "div.no_rounding_mode"),
    Row("div", "true_divide"),
    Row("div", "__rdiv__", lambda x, other: other / x, legal={"'int' object": EITHER_SIDE}),
    Row("div", "reciprocal", lambda x: 1 / x),
    Row("pow", "pow", rounding=SUMS),
    Row("pow", "__rpow__", lambda x, other: other**x),
    Row("pow", "square", lambda x: x**2),
    Row("maximum", "maximum", legal={"maximum(): argument": EITHER_SIDE}),
    Row("maximum", "max.binary", legal={"max() received": EITHER_SIDE, "Dimension out of range": NUMBER_AXIS}),
    Row("minimum", "minimum", legal={"minimum(): argument": EITHER_SIDE}),
    Row("minimum", "min.binary", legal={"min() received": EITHER_SIDE, "Dimension out of range": NUMBER_AXIS}),
    Row("where", "where", where, left_out=(TWO_NUMBERS,)),
    Row("masked_fill", "masked_fill", masked_fill, left_out=(VALUE,)),
    Row("elu", "nn.functional.elu", without_nan(ag.elu), left_out=(NAN,)),
    Row("hardtanh", "nn.functional.hardtanh", without_nan(ag.hardtanh), left_out=(NAN,)),
    Row("hardtanh", "nn.functional.relu6", without_nan(lambda x: ag.hardtanh(x, 0, 6)), left_out=(NAN,)),
    Row("softplus", "nn.functional.logsigmoid", lambda x: -ag.softplus(-x)),
]
REDUCTIONS = [
    *(
        Row(name, name, over(name), left_out=(AXIS_OF_NUMBER,))
        for name in ("sum", "mean", "logsumexp", "argmax", "argmin")
    ),
    Row("prod", "prod", over("prod"), left_out=(AXIS_OF_NUMBER, "option dtype")),
    Row("cumsum", "cumsum", along("cumsum"), left_out=(AXIS_OF_NUMBER, "option dtype")),
    Row("max", "amax", over("max"), left_out=(AXIS_OF_NUMBER,)),
    Row("max", "max.reduction_no_dim", ag.max),
    Row("max", "max.reduction_with_dim", chosen("max", "argmax"), left_out=(AXIS_OF_NUMBER,)),
    Row("min", "amin", over("min"), left_out=(AXIS_OF_NUMBER,)),
    Row("min", "min.reduction_no_dim", ag.min),
    Row("min", "min.reduction_with_dim", chosen("min", "argmin"), left_out=(AXIS_OF_NUMBER,)),
    *(Row(name, name, spread(name)) for name in ("var", "std")),
    *(
        Row(name, f"{name}.unbiased", lambda x, unbiased, name=name: spread(name)(x, None, unbiased))
        for name in ("var", "std")
    ),
    *(Row(name, name, along(name), left_out=(AXIS_OF_NUMBER,)) for name in ("softmax", "log_softmax")),
    Row("softmax", "nn.functional.softmin", lambda x, dim: along("softmax")(-x, dim), left_out=(AXIS_OF_NUMBER,)),
]

ROWS = [
    *(Row(name, name) for name in POINTWISE),
    *(Row(name, f"nn.functional.{name}") for name in FUNCTIONALS),
    *ARITHMETIC,
    *REDUCTIONS,
    *opinfo_shapes.ROWS,
    *opinfo_layers.ROWS,
    *opinfo_images.ROWS,
]
EXCUSED = {
    "clip": "in every sample the bounds are tensors, ours are numbers",
    "gelu_linear": "two ops in one; PyTorch has none",
    "norm_linear": "two ops in one; PyTorch has none",
    "causal_attention": "takes queries, keys and values packed; in attention's samples their lengths differ",
    "cached_attention": "a step of generation, no gradient; PyTorch has none",
    "argtopk": "the second result of topk",
}
