"""unary: functions of one tensor, element by element, each declared in a row with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.op import Op, op
from ag.sample import Sample
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Kernel, Out


def pointwise(name: str, value: Callable[..., Any]) -> Kernel:
    """The kernel out = value(xp, *inputs), xp the array module; overrides are looked for beside `value`."""

    def reference(*inputs: Any, out: Out) -> None:
        out.store(value(devices.module(out.array), *inputs))

    reference.__name__ = name
    reference.__module__ = value.__module__
    return Kernel(reference, elementwise=True)


def mapped(function: Kernel, x: Tensor, *options: Any) -> Tensor:
    """function(x, *options), a new tensor."""
    y = scratch.alike(x)
    function(x, *options, out=Out(y))
    return y


def unary(
    name: str,
    about: str,
    value: Callable[[Any, Any], Any],
    slope: Callable[[Any, Any, Any], Any],
    keeps: str,
    samples: list[Sample],
) -> Op:
    """The op y = value(xp, x) with the gradient dx = slope(xp, g, kept), `keeps` saying whether "x" or "y" is kept.

    Its kernels are called <name> and <name>_vjp, and are its attribute `kernels`.
    """
    forward, backward = pointwise(name, value), pointwise(f"{name}_vjp", slope)

    def function(x: Tensor) -> Any:
        y = mapped(forward, x)
        return y, (y if keeps == "y" else x,)

    def rule(g: Tensor, saved: Any, dx: Any) -> None:
        backward(g, *saved, out=dx.out())

    function.__name__ = name
    function.__doc__ = f"{about}\n\n    Shapes: x any -> y the same\n    Saves:  {keeps}\n"
    made = op(function)
    made.vjp(rule)
    made.kernels = forward, backward
    made.samples = samples
    return made
