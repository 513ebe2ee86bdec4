"""RMSprop: the gradient divided by the root of its running mean square."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nn.optim.base import Optimizer
from nn.optim.rule import rule
from ownt import device as devices
from ownt.kernel import Out


@rule
def rmsprop_kernel(
    g: Any, lr: float, alpha: float, eps: float, decay: float, momentum: float,
    *, out: Out, square_avg: Out, momentum_buffer: Out | None = None, grad_avg: Out | None = None,
) -> None:  # fmt: skip
    """One step of RMSprop, centered where it is given the mean gradient."""
    if decay:
        g = g + decay * out.array
    square_avg.array *= alpha
    square_avg.array += (1 - alpha) * (g * g)
    variance = square_avg.array
    if grad_avg is not None:
        grad_avg.array += (1 - alpha) * (g - grad_avg.array)
        variance = variance - grad_avg.array * grad_avg.array
    g = g / (devices.module(g).sqrt(variance) + eps)
    if momentum_buffer is not None:
        momentum_buffer.array *= momentum
        momentum_buffer.array += g
        g = momentum_buffer.array
    out.array -= lr * g


class RMSprop(Optimizer):
    """p -= lr v, v = momentum v + gradient / (sqrt(s) + eps), s the running mean of the gradient's square

    With `centered`, s is less the square of the gradient's running mean: its variance.

    Source: Tieleman and Hinton, Neural Networks for Machine Learning, lecture 6.5, 2012; Graves, arXiv 1308.0850
    """

    kernel = rmsprop_kernel
    tensors: Mapping[str, str] = {"square_avg": "", "momentum_buffer": "momentum", "grad_avg": "centered"}
    counted = True

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(
            parameters, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered,
            stochastic_rounding=stochastic_rounding,
        )  # fmt: skip

    def _numbers(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[float, ...]:
        return group["lr"], group["alpha"], group["eps"], group["weight_decay"], group["momentum"]
