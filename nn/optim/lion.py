"""Lion: steps of one length, in the direction of the signs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nn.optim.base import Optimizer
from nn.optim.rule import rule
from ownt import device as devices
from ownt.kernel import Out


@rule
def lion_kernel(g: Any, lr: float, beta1: float, beta2: float, decay: float, *, out: Out, exp_avg: Out) -> None:
    """One step of Lion."""
    if decay:
        out.array *= 1 - lr * decay
    out.array -= lr * devices.module(g).sign(beta1 * exp_avg.array + (1 - beta1) * g)
    exp_avg.array *= beta2
    exp_avg.array += (1 - beta2) * g


class Lion(Optimizer):
    """p -= lr (sign(beta1 m + (1 - beta1) gradient) + weight_decay p);  m = beta2 m + (1 - beta2) gradient

    Source: Chen et al., arXiv 2302.06675
    """

    kernel = lion_kernel
    tensors: Mapping[str, str] = {"exp_avg": ""}

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        stochastic_rounding: bool = False,
    ) -> None:
        numbers = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(parameters, stochastic_rounding=stochastic_rounding, **numbers)

    def _numbers(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[float, ...]:
        return group["lr"], *group["betas"], group["weight_decay"]
