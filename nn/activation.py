"""Activations as modules, each a function of one tensor."""

from __future__ import annotations

from typing import Any

import ag
from ag import Node
from nn.module import Module
from nn.one_op import OneOp


class ReLU(OneOp):
    """max(x, 0)"""

    op = ag.relu


class Sigmoid(OneOp):
    """1 / (1 + e^-x)"""

    op = ag.sigmoid


class Tanh(OneOp):
    """tanh x"""

    op = ag.tanh


class SiLU(OneOp):
    """x sigmoid(x)"""

    op = ag.silu


class Mish(OneOp):
    """x tanh(softplus(x))"""

    op = ag.mish


class Softplus(OneOp):
    """ln(1 + e^(beta x)) / beta, and x itself where beta x is above the threshold."""

    op = ag.softplus
    options = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold


class GELU(OneOp):
    """x P(Z < x) for a standard normal Z; with approximate="tanh" as GPT-2 computes it."""

    op = ag.gelu
    options = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate


class LeakyReLU(OneOp):
    """x where x is above 0, else negative_slope x."""

    op = ag.leaky_relu
    options = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope


class ELU(OneOp):
    """x where x is above 0, else alpha (e^x - 1)."""

    op = ag.elu
    options = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha


class Hardtanh(OneOp):
    """x kept within min_val ... max_val."""

    op = ag.hardtanh
    options = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = min_val
        self.max_val = max_val


class _AlongAxis(Module):
    """A function along one axis, the last unless `dim` says another."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """e^x / sum(e^x) along axis `dim`."""

    def forward(self, x: Any) -> Node:
        return ag.softmax(x, self.dim)


class LogSoftmax(_AlongAxis):
    """x - log(sum(e^x)) along axis `dim`."""

    def forward(self, x: Any) -> Node:
        return ag.log_softmax(x, self.dim)
