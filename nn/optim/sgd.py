"""SGD: stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nn.optim.base import Optimizer
from nn.optim.rule import rule
from ownt.kernel import Out


@rule
def sgd_kernel(
    g: Any, lr: float, momentum: float, dampening: float, decay: float, nesterov: bool,
    *, out: Out, momentum_buffer: Out | None = None,
) -> None:  # fmt: skip
    """out -= lr v, v = momentum v + (1 - dampening) (g + decay out)"""
    if decay:
        g = g + decay * out.array
    if momentum_buffer is not None:
        velocity = momentum_buffer.array
        velocity *= momentum
        velocity += (1 - dampening) * g if dampening else g
        g = g + momentum * velocity if nesterov else velocity
    out.array -= lr * g


class SGD(Optimizer):
    """v = momentum v + (1 - dampening) (gradient + weight_decay p);  p -= lr v

    The first v is undampened. With `nesterov`, p -= lr (gradient + weight_decay p + momentum v).

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013
    """

    kernel = sgd_kernel
    tensors: Mapping[str, str] = {"momentum_buffer": "momentum"}

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(
            parameters, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
            stochastic_rounding=stochastic_rounding,
        )  # fmt: skip

    def _numbers(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[float, ...]:
        dampening = group["dampening"] if "momentum_buffer" in state else 0.0
        return group["lr"], group["momentum"], dampening, group["weight_decay"]

    def _flags(self, group: Mapping[str, Any]) -> tuple[bool, ...]:
        return (group["nesterov"],)
