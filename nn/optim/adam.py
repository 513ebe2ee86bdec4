"""Adam, and AdamW, whose decay is apart from the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nn.optim.base import Optimizer
from nn.optim.rule import rule
from ownt import device as devices
from ownt.kernel import Out


@rule
def adam_kernel(
    g: Any, lr: float, beta1: float, beta2: float, eps: float, decay: float, mean_weight: float, square_weight: float,
    decoupled: bool, *, out: Out, exp_avg: Out, exp_avg_sq: Out,
) -> None:  # fmt: skip
    """One step of Adam; with `decoupled` the decay shrinks the weights themselves, as AdamW does.

    mean_weight, square_weight: the sums of the weights of all gradients so far in the two running means, below 1
    """
    if decay and decoupled:
        out.array *= 1 - lr * decay
    elif decay:
        g = g + decay * out.array
    exp_avg.array *= beta1
    exp_avg.array += (1 - beta1) * g
    exp_avg_sq.array *= beta2
    exp_avg_sq.array += (1 - beta2) * (g * g)
    root = devices.module(g).sqrt(exp_avg_sq.array / square_weight)
    out.array -= lr * (exp_avg.array / mean_weight) / (root + eps)


class Adam(Optimizer):
    """p -= lr m / (sqrt(v) + eps), m and v the bias-corrected running means of the gradient and of its square

    Source: Kingma and Ba, arXiv 1412.6980
    """

    kernel = adam_kernel
    tensors: Mapping[str, str] = {"exp_avg": "", "exp_avg_sq": ""}
    counted = True
    fixed: Mapping[str, Any] = {"maximize": False, "amsgrad": False, "decoupled_weight_decay": False}

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        stochastic_rounding: bool = False,
    ) -> None:
        numbers = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, stochastic_rounding=stochastic_rounding, **numbers)

    def _numbers(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[float, ...]:
        weights = (1 - beta ** state["step"] for beta in group["betas"])
        return group["lr"], *group["betas"], group["eps"], group["weight_decay"], *weights

    def _flags(self, group: Mapping[str, Any]) -> tuple[bool, ...]:
        return (self.fixed["decoupled_weight_decay"],)


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights themselves and not the gradient

    Source: Loshchilov and Hutter, arXiv 1711.05101
    """

    fixed: Mapping[str, Any] = {**Adam.fixed, "decoupled_weight_decay": True}

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, stochastic_rounding=stochastic_rounding)
