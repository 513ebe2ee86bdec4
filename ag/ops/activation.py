"""Functions of one tensor, element by element: exp, log, sqrt, tanh, relu, gelu."""

from __future__ import annotations

import math
from typing import Any

from ag.op import Op, op
from ag.sample import Sample, between, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Kernel, Out, kernel

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
SQRT_HALF = math.sqrt(0.5)
CUBIC = 0.044715


def mapped(function: Kernel, x: Tensor) -> Tensor:
    """function(x), a new tensor."""
    y = scratch.empty(x.shape, like=x)
    function(x, out=Out(y))
    return y


@kernel(elementwise=True)
def exp_kernel(x: Any, *, out: Out) -> None:
    out.store(devices.module(x).exp(x))


@kernel(elementwise=True)
def exp_vjp(g: Any, y: Any, *, out: Out) -> None:
    out.store(g * y)


@kernel(elementwise=True)
def log_kernel(x: Any, *, out: Out) -> None:
    out.store(devices.module(x).log(x))


@kernel(elementwise=True)
def log_vjp(g: Any, x: Any, *, out: Out) -> None:
    out.store(g / x)


@kernel(elementwise=True)
def sqrt_kernel(x: Any, *, out: Out) -> None:
    out.store(devices.module(x).sqrt(x))


@kernel(elementwise=True)
def sqrt_vjp(g: Any, y: Any, *, out: Out) -> None:
    out.store(0.5 * g / y)


@kernel(elementwise=True)
def tanh_kernel(x: Any, *, out: Out) -> None:
    out.store(devices.module(x).tanh(x))


@kernel(elementwise=True)
def tanh_vjp(g: Any, y: Any, *, out: Out) -> None:
    out.store(g * (1 - y * y))


@kernel(elementwise=True)
def relu_kernel(x: Any, *, out: Out) -> None:
    out.store(devices.module(x).maximum(x, 0))


@kernel(elementwise=True)
def relu_vjp(g: Any, y: Any, *, out: Out) -> None:
    out.store(devices.module(out.array).where(y <= 0, 0, g))  # NaN passes the gradient on


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


def gelu_kernels(name: str, approximate: str) -> tuple[Kernel, Kernel]:
    """Kernel and gradient kernel of a GELU. Raises: ValueError for an unknown approximation."""
    if approximate not in GELU:
        raise ValueError(f"{name}: expected approximate to be one of {', '.join(GELU)}; got {approximate!r}")
    return GELU[approximate]


def unary(name: str, about: str, forward: Kernel, vjp: Kernel, keeps: str) -> Op:
    """The op y = forward(x), whose gradient is vjp(g, kept): `keeps` says whether "x" or the result, "y", is kept."""

    def function(x: Tensor) -> Any:
        y = mapped(forward, x)
        return y, (y if keeps == "y" else x,)

    def rule(g: Tensor, saved: Any, dx: Any) -> None:
        vjp(g, *saved, out=dx.out())

    function.__name__ = name
    function.__doc__ = f"{about}\n\n    Shapes: x any -> y the same\n    Saves:  {keeps}\n"
    made = op(function)
    made.vjp(rule)
    return made


exp = unary("exp", "y = e^x", exp_kernel, exp_vjp, keeps="y")
log = unary("log", "y = ln x; -inf at 0 and NaN below, which `ag.detect_anomaly` finds", log_kernel, log_vjp, keeps="x")
sqrt = unary("sqrt", "y = the square root of x; NaN below 0", sqrt_kernel, sqrt_vjp, keeps="y")
tanh = unary("tanh", "y = tanh x", tanh_kernel, tanh_vjp, keeps="y")
relu = unary("relu", "y = max(x, 0), with slope 0 at 0", relu_kernel, relu_vjp, keeps="y")


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


_anywhere = [Sample(normal(3, 4)), Sample(normal()), Sample(normal(0, 2)), Sample(between(-9, 9, 40))]
exp.samples = [Sample(normal(3, 4)), Sample(normal()), Sample(between(-5, 5, 20))]
tanh.samples = _anywhere
log.samples = sqrt.samples = [Sample(between(0.1, 3, 3, 4)), Sample(between(0.1, 3)), Sample(between(1, 2, 0))]
relu.samples = [Sample(between(0.1, 2, 3, 4)), Sample(between(-2, -0.1, 5)), Sample(between(0.5, 1))]
gelu.samples = _anywhere + [Sample(sample.args[0], approximate="tanh") for sample in _anywhere]
