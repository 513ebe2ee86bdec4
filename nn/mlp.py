"""MLP: linear layers with an activation between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from nn.activation import ELU, GELU, Hardtanh, LeakyReLU, Mish, ReLU, Sigmoid, SiLU, Softplus, Tanh
from nn.container import Sequential
from nn.errors import InputError
from nn.layers import Linear

ACTIVATIONS = {
    "relu": ReLU,
    "tanh": Tanh,
    "gelu": GELU,
    "sigmoid": Sigmoid,
    "silu": SiLU,
    "mish": Mish,
    "softplus": Softplus,
    "elu": ELU,
    "leaky_relu": LeakyReLU,
    "hardtanh": Hardtanh,
}


class MLP(Sequential):
    """Linear layers of the given widths, an activation after each but the last.

    `MLP([784, 256, 10])` maps (..., 784) to (..., 10).
    """

    def __init__(self, widths: Sequence[int], activation: str = "relu", bias: bool = True, dtype: Any = None) -> None:
        if len(widths) < 2:
            raise InputError(
                f"MLP: expected two widths or more, of the input first and the output last; got {list(widths)}"
            )
        if activation not in ACTIVATIONS:
            raise InputError(f"MLP: expected activation to be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        layers: list[Any] = []
        for inputs, outputs in pairwise(widths):
            layers += [Linear(inputs, outputs, bias, dtype), ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
