"""Functions of mathematics, element by element: powers and logarithms, circular and hyperbolic functions, erf.

Outside their domains they are NaN or Inf, as everywhere in the field; `ag.detect_anomaly` finds where.
"""

from __future__ import annotations

import math
from typing import Any

from ag.ops.unary import unary
from ag.sample import Sample, between, normal
from ownt import device as devices

LN_2 = math.log(2)
TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)

_anywhere = [Sample(normal(3, 4)), Sample(normal()), Sample(normal(0, 2)), Sample(between(-4, 4, 20))]
_positive = [Sample(between(0.1, 3, 3, 4)), Sample(between(0.1, 3)), Sample(between(1, 2, 0))]
_off_zero = [Sample(between(0.1, 2, 3, 4)), Sample(between(-2, -0.1, 5)), Sample(between(0.5, 1))]
_within_one = [Sample(between(-0.9, 0.9, 3, 4)), Sample(between(-0.5, 0.5)), Sample(between(0, 0.5, 0))]
_above_one = [Sample(between(1.2, 3, 3, 4)), Sample(between(1.2, 3)), Sample(between(2, 3, 0))]


def signs(xp: Any, x: Any) -> Any:
    """-1, 0 or 1, and 0 of NaN, as PyTorch has it"""
    return xp.where(x > 0, 1, xp.where(x < 0, -1, 0)).astype(x.dtype)


exp = unary("exp", "y = e^x", lambda xp, x: xp.exp(x), lambda xp, g, y: g * y, "y", _anywhere)
expm1 = unary("expm1", "y = e^x - 1", lambda xp, x: xp.expm1(x), lambda xp, g, y: g * (y + 1), "y", _anywhere)
log = unary("log", "y = ln x", lambda xp, x: xp.log(x), lambda xp, g, x: g / x, "x", _positive)
log1p = unary("log1p", "y = ln(1 + x)", lambda xp, x: xp.log1p(x), lambda xp, g, x: g / (x + 1), "x", _positive)
log2 = unary("log2", "y = log x to base 2", lambda xp, x: xp.log2(x), lambda xp, g, x: g / (x * LN_2), "x", _positive)
sqrt = unary("sqrt", "y = x^(1/2)", lambda xp, x: xp.sqrt(x), lambda xp, g, y: 0.5 * g / y, "y", _positive)
rsqrt = unary(
    "rsqrt", "y = x^(-1/2)", lambda xp, x: 1 / xp.sqrt(x), lambda xp, g, y: -0.5 * g * y * y * y, "y", _positive
)
abs = unary(
    "abs", "y = |x|, with slope 0 at 0", lambda xp, x: xp.abs(x), lambda xp, g, x: g * signs(xp, x), "x", _off_zero
)
sign = unary("sign", "y = -1, 0 or 1; 0 of NaN", lambda xp, x: signs(xp, x), lambda xp, g, x: 0, "x", _off_zero)

sin = unary("sin", "y = sin x", lambda xp, x: xp.sin(x), lambda xp, g, x: g * xp.cos(x), "x", _anywhere)
cos = unary("cos", "y = cos x", lambda xp, x: xp.cos(x), lambda xp, g, x: -g * xp.sin(x), "x", _anywhere)
tan = unary("tan", "y = tan x", lambda xp, x: xp.tan(x), lambda xp, g, y: g * (1 + y * y), "y", _within_one)
asin = unary("asin", "sin y = x", lambda xp, x: xp.arcsin(x), lambda xp, g, x: g / xp.sqrt(1 - x * x), "x", _within_one)
acos = unary(
    "acos", "cos y = x", lambda xp, x: xp.arccos(x), lambda xp, g, x: -g / xp.sqrt(1 - x * x), "x", _within_one
)
atan = unary("atan", "tan y = x", lambda xp, x: xp.arctan(x), lambda xp, g, x: g / (1 + x * x), "x", _anywhere)

sinh = unary("sinh", "y = sinh x", lambda xp, x: xp.sinh(x), lambda xp, g, x: g * xp.cosh(x), "x", _anywhere)
cosh = unary("cosh", "y = cosh x", lambda xp, x: xp.cosh(x), lambda xp, g, x: g * xp.sinh(x), "x", _anywhere)
tanh = unary("tanh", "y = tanh x", lambda xp, x: xp.tanh(x), lambda xp, g, y: g * (1 - y * y), "y", _anywhere)
asinh = unary(
    "asinh", "sinh y = x", lambda xp, x: xp.arcsinh(x), lambda xp, g, x: g / xp.sqrt(x * x + 1), "x", _anywhere
)
acosh = unary(
    "acosh", "cosh y = x", lambda xp, x: xp.arccosh(x), lambda xp, g, x: g / xp.sqrt(x * x - 1), "x", _above_one
)
atanh = unary("atanh", "tanh y = x", lambda xp, x: xp.arctanh(x), lambda xp, g, x: g / (1 - x * x), "x", _within_one)

erf = unary(
    "erf",
    "y = 2/sqrt(pi) times the integral of e^(-t²) from 0 to x",
    lambda xp, x: devices.special(x).erf(x),
    lambda xp, g, x: g * TWO_OVER_SQRT_PI * xp.exp(-x * x),
    "x",
    _anywhere,
)
