"""Activations on the CPU, compiled. Where NaN has to come through, comparisons are written so that it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from ag.ops import activation
from ownt.compiled_cpu import OPTIONS, PIECE, SMALL, blocks, compiled, exp, flat, prange
from ownt.elementwise_cpu import elementwise
from ownt.kernel import Out

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


@numba.njit(**OPTIONS)
def tanh_slope(x: Any, share: Any) -> Any:
    return share + x * share * (f(1) - share) * f(1.5957691216) * (f(1) + f(0.134145) * x * x)


@elementwise(activation.gelu_tanh_vjp)
def _(g: Any, x: Any) -> Any:
    return g * tanh_slope(x, tanh_share(x))


@numba.njit(**OPTIONS)
def tanh_both(g: Any, x: Any, out: Any, beta: Any, hidden: Any) -> None:
    for i in range(x.size):
        share = tanh_share(x[i])
        hidden[i] = x[i] * share
        out[i] = g[i] * tanh_slope(x[i], share) + (out[i] if beta else f(0))


@numba.njit(**OPTIONS)
def exact_both(g: Any, x: Any, out: Any, beta: Any, hidden: Any) -> None:
    for i in range(x.size):
        share = normal_cdf(x[i])
        hidden[i] = x[i] * share
        out[i] = g[i] * (share + x[i] * normal_pdf(x[i])) + (out[i] if beta else f(0))


@compiled("void(real[::1], real[::1], boolean, real[::1], int64, real[::1])", parallel=True)
def gelu_and_slopes(g: Any, x: Any, by_tanh: Any, out: Any, beta: Any, hidden: Any) -> None:
    """See gelu_and_vjp."""
    for block in prange(blocks(x.size, PIECE)):
        start, stop = block * PIECE, (block + 1) * PIECE
        if by_tanh:
            tanh_both(g[start:stop], x[start:stop], out[start:stop], beta, hidden[start:stop])
        else:
            exact_both(g[start:stop], x[start:stop], out[start:stop], beta, hidden[start:stop])


@activation.gelu_and_vjp.on("cpu", "float32")
def _(g: Any, x: Any, approximate: str, *, out: Out, hidden: Out) -> tuple[Callable[..., None], tuple] | None:
    arrays = flat(g, x, out.array, hidden.array)
    if arrays is None or hidden.beta:
        return None
    return gelu_and_slopes[x.dtype, x.size > SMALL], (
        *arrays[:2], approximate == "tanh", arrays[2], out.beta, arrays[3],
    )  # fmt: skip
