"""Activations on the CPU, compiled. Where NaN has to come through, comparisons are written so that it does."""

from __future__ import annotations

from typing import Any

import numba
import numpy

from ag.ops import activation
from ownt.compiled_cpu import OPTIONS, exp
from ownt.elementwise_cpu import elementwise

f = numpy.float32
_relu, _relu_vjp = activation.relu.kernels
_sigmoid, _sigmoid_vjp = activation.sigmoid.kernels
_silu, _silu_vjp = activation.silu.kernels


@numba.njit(**OPTIONS)
def logistic(x: Any) -> Any:
    """1 / (1 + e^-x)"""
    return f(1) / (f(1) + exp(-x))


@numba.njit(**OPTIONS)
def normal_pdf(x: Any) -> Any:
    """The density of a standard normal Z at x"""
    return f(0.3989422804) * exp(f(-0.5) * x * x)


@numba.njit(**OPTIONS)
def normal_cdf(x: Any) -> Any:
    """P(Z < x), by 26.2.17 of Abramowitz and Stegun: 7.5e-8 off at most"""
    t = f(1) / (f(1) + f(0.2316419) * abs(x))
    p = f(1.330274429)
    p = p * t - f(1.821255978)
    p = p * t + f(1.781477937)
    p = p * t - f(0.356563782)
    p = p * t + f(0.319381530)
    tail = normal_pdf(x) * p * t
    return tail + f(x >= f(0)) * (f(1) - f(2) * tail)  # with a choice in its place loops are not always vectorised


@numba.njit(**OPTIONS)
def tanh_share(x: Any) -> Any:
    """GELU by tanh is x times this: (1 + tanh u) / 2 is the logistic function of 2u"""
    return logistic(f(1.5957691216) * (x + f(0.044715) * x * x * x))


@elementwise(_relu)
def _(x: Any) -> Any:
    return f(0) if x <= f(0) else x


@elementwise(_relu_vjp)
def _(g: Any, y: Any) -> Any:
    return f(0) if y <= f(0) else g


@elementwise(_sigmoid)
def _(x: Any) -> Any:
    return logistic(x)


@elementwise(_sigmoid_vjp)
def _(g: Any, y: Any) -> Any:
    return g * y * (f(1) - y)


@elementwise(_silu)
def _(x: Any) -> Any:
    return x * logistic(x)


@elementwise(_silu_vjp)
def _(g: Any, x: Any) -> Any:
    s = logistic(x)
    return g * s * (f(1) + x * (f(1) - s))


@elementwise(activation.leaky_relu_kernel)
def _(x: Any, negative_slope: Any) -> Any:
    return x if x > f(0) else x * negative_slope


@elementwise(activation.gelu_kernel)
def _(x: Any) -> Any:
    return x * normal_cdf(x)


@elementwise(activation.gelu_vjp)
def _(g: Any, x: Any) -> Any:
    return g * (normal_cdf(x) + x * normal_pdf(x))


@elementwise(activation.gelu_tanh_kernel)
def _(x: Any) -> Any:
    return x * tanh_share(x)


@elementwise(activation.gelu_tanh_vjp)
def _(g: Any, x: Any) -> Any:
    s = tanh_share(x)
    return g * (s + x * s * (f(1) - s) * f(1.5957691216) * (f(1) + f(0.134145) * x * x))
