"""Activations, element by element: relu and its kin, sigmoid and its kin, gelu."""

from __future__ import annotations

import math
from typing import Any

from ag.op import op
from ag.ops.unary import mapped, pointwise, unary
from ag.sample import Sample, between, normal
from ownt import Tensor
from ownt import device as devices
from ownt.kernel import Kernel, Out, kernel

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
SQRT_HALF = math.sqrt(0.5)
CUBIC = 0.044715

_anywhere = [Sample(normal(3, 4)), Sample(normal()), Sample(normal(0, 2)), Sample(between(-9, 9, 40))]
_off_zero = [Sample(between(0.1, 2, 3, 4)), Sample(between(-2, -0.1, 5)), Sample(between(0.5, 0.9))]


def logistic(xp: Any, x: Any) -> Any:
    """1 / (1 + e^-x), by powers of e^-|x|, which never overflow"""
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


def softplus_of(xp: Any, x: Any, threshold: float = 20.0) -> Any:
    """ln(1 + e^x), likewise; x itself above the threshold"""
    return xp.where(x > threshold, x, xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))))


def silu_slope(xp: Any, g: Any, x: Any) -> Any:
    """The gradient of x sigmoid(x)"""
    s = logistic(xp, x)
    return g * s * (1 + x * (1 - s))


def mish_slope(xp: Any, g: Any, x: Any) -> Any:
    """The gradient of x tanh(softplus(x))"""
    t = xp.tanh(softplus_of(xp, x))
    return g * (t + x * (1 - t * t) * logistic(xp, x))


relu = unary(
    "relu",
    "y = max(x, 0), with slope 0 at 0",
    lambda xp, x: xp.maximum(x, 0),
    lambda xp, g, y: xp.where(y <= 0, 0, g),  # NaN passes the gradient on
    "y",
    _off_zero,
)
sigmoid = unary("sigmoid", "y = 1 / (1 + e^-x)", logistic, lambda xp, g, y: g * y * (1 - y), "y", _anywhere)
silu = unary("silu", "y = x sigmoid(x)", lambda xp, x: x * logistic(xp, x), silu_slope, "x", _anywhere)
mish = unary(
    "mish", "y = x tanh(softplus(x))", lambda xp, x: x * xp.tanh(softplus_of(xp, x)), mish_slope, "x", _anywhere
)

leaky_relu_kernel = pointwise("leaky_relu", lambda xp, x, slope: xp.where(x > 0, x, slope * x))
leaky_relu_vjp = pointwise("leaky_relu_vjp", lambda xp, g, x, slope: xp.where(x > 0, g, slope * g))
elu_kernel = pointwise("elu", lambda xp, x, alpha: xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))))
elu_vjp = pointwise("elu_vjp", lambda xp, g, x, alpha: xp.where(x > 0, g, g * alpha * xp.exp(xp.minimum(x, 0))))
softplus_kernel = pointwise("softplus", lambda xp, x, beta, threshold: softplus_of(xp, beta * x, threshold) / beta)
softplus_vjp = pointwise(
    "softplus_vjp", lambda xp, g, x, beta, threshold: xp.where(beta * x > threshold, g, g * logistic(xp, beta * x))
)
hardtanh_kernel = pointwise("hardtanh", lambda xp, x, low, high: xp.clip(x, low, high))
hardtanh_vjp = pointwise("hardtanh_vjp", lambda xp, g, x, low, high: xp.where((x <= low) | (x >= high), 0, g))


@op
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Any:
    """y = x where x is above 0, else negative_slope x; at 0 the slope is negative_slope

    Shapes: x any -> y the same
    Saves:  x
    """
    return mapped(leaky_relu_kernel, x, negative_slope), (x, negative_slope)


@leaky_relu.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    leaky_relu_vjp(g, *saved, out=dx.out())


@op
def elu(x: Tensor, alpha: float = 1.0) -> Any:
    """y = x where x is above 0, else alpha (e^x - 1)

    Shapes: x any -> y the same
    Saves:  x
    Source: Clevert, Unterthiner and Hochreiter, arXiv 1511.07289
    """
    return mapped(elu_kernel, x, alpha), (x, alpha)


@elu.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    elu_vjp(g, *saved, out=dx.out())


@op
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """y = ln(1 + e^(beta x)) / beta, and x itself where beta x is above the threshold

    Shapes: x any -> y the same
    Saves:  x
    """
    if not beta > 0:
        raise ValueError(f"softplus: expected beta above 0; got {beta}")
    return mapped(softplus_kernel, x, beta, threshold), (x, beta, threshold)


@softplus.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    softplus_vjp(g, *saved, out=dx.out())


@op
def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """y = x kept within min_val ... max_val, with slope 0 at both ends

    Shapes: x any -> y the same
    Saves:  x
    """
    if not min_val <= max_val:
        raise ValueError(f"hardtanh: expected min_val no larger than max_val; got {min_val} and {max_val}")
    return mapped(hardtanh_kernel, x, min_val, max_val), (x, min_val, max_val)


@hardtanh.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    hardtanh_vjp(g, *saved, out=dx.out())


@kernel(elementwise=True)
def gelu_kernel(x: Any, *, out: Out) -> None:
    out.store(0.5 * x * (1 + devices.special(x).erf(x * SQRT_HALF)))


@kernel(elementwise=True)
def gelu_vjp(g: Any, x: Any, *, out: Out) -> None:
    density = devices.module(x).exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    out.store(g * (0.5 * (1 + devices.special(x).erf(x * SQRT_HALF)) + x * density))


@kernel(elementwise=True)
def gelu_tanh_kernel(x: Any, *, out: Out) -> None:
    out.store(0.5 * x * (1 + devices.module(x).tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x))))


@kernel(elementwise=True)
def gelu_tanh_vjp(g: Any, x: Any, *, out: Out) -> None:
    square = x * x
    t = devices.module(x).tanh(SQRT_2_OVER_PI * x * (1 + CUBIC * square))
    slope = 0.5 * x * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * CUBIC * square)
    out.store(g * (0.5 * (1 + t) + slope))


GELU = {"none": (gelu_kernel, gelu_vjp), "tanh": (gelu_tanh_kernel, gelu_tanh_vjp)}


@kernel(elementwise=True)
def gelu_and_vjp(g: Any, x: Any, approximate: str, *, out: Out, hidden: Out) -> None:
    """out = g gelu'(x) and hidden = gelu(x), which have most of their terms in common."""
    forward, backward = GELU[approximate]
    forward.reference(x, out=hidden)
    backward.reference(g, x, out=out)


def gelu_kernels(name: str, approximate: str) -> tuple[Kernel, Kernel]:
    """Kernel and gradient kernel of a GELU. Raises: ValueError for an unknown approximation."""
    if approximate not in GELU:
        raise ValueError(f"{name}: expected approximate to be one of {', '.join(GELU)}; got {approximate!r}")
    return GELU[approximate]


@op
def gelu(x: Tensor, approximate: str = "none") -> Any:
    """y = x P(Z < x) for a standard normal Z; with approximate="tanh" as GPT-2 computes it

    Shapes: x any -> y the same
    Saves:  x
    Source: Hendrycks and Gimpel, arXiv 1606.08415
    """
    forward, _ = gelu_kernels("gelu", approximate)
    return mapped(forward, x), (x, approximate)


@gelu.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    x, approximate = saved
    GELU[approximate][1](g, x, out=dx.out())


leaky_relu.samples = _off_zero + [Sample(sample.args[0], negative_slope=0.3) for sample in _off_zero]
elu.samples = _off_zero + [Sample(sample.args[0], alpha=0.5) for sample in _off_zero]
softplus.samples = [*_anywhere, Sample(normal(9), beta=0.3), Sample(between(-9, 9, 9), 2.0, 5.0)]
hardtanh.samples = [
    *_off_zero[2:],
    Sample(between(-0.9, 0.9, 9)),
    Sample(between(-3, -1.1, 4)),
    Sample(normal(4), -9.0, 9.0),
]
gelu.samples = _anywhere + [Sample(sample.args[0], approximate="tanh") for sample in _anywhere]
