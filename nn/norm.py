"""Norms: LayerNorm, RMSNorm, GroupNorm, and a norm fused with the Linear after it."""

from __future__ import annotations

from typing import Any

import ag
import ownt
from ag import Node
from nn.errors import InputError
from nn.layers import Linear
from nn.module import Module


class LayerNorm(Module):
    """Each row to mean 0 and variance 1, then scaled by `weight` and shifted by `bias`.

    Shapes: x (..., width) -> the same; weight, bias (width,)
    """

    kind = "layer"

    def __init__(self, width: int, eps: float = 1e-5, bias: bool = True, dtype: Any = None) -> None:
        self.width = width
        self.eps = eps
        self.weight = ag.param(ownt.ones(width, dtype=dtype))
        self.bias = ag.param(ownt.zeros(width, dtype=dtype)) if bias else None

    def forward(self, x: Any) -> Node:
        return ag.layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.width}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Each row to mean square 1, then scaled by `weight` if it has a gain.

    Shapes: x (..., width) -> the same; weight (width,)
    """

    kind = "rms"
    bias = None

    def __init__(self, width: int, eps: float = 1e-5, gain: bool = True, dtype: Any = None) -> None:
        self.width = width
        self.eps = eps
        self.weight = ag.param(ownt.ones(width, dtype=dtype)) if gain else None

    def forward(self, x: Any) -> Node:
        return ag.rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.width}, eps={self.eps}, gain={self.weight is not None}"


class GroupNorm(Module):
    """Each group of channels of each example to mean 0 and variance 1; if affine, each channel scaled and shifted.

    Shapes: x (N, num_channels, ...) -> the same; weight, bias (num_channels,)
    Raises: InputError unless num_groups divides num_channels.
    Source: Wu and He, arXiv 1803.08494
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = None
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise InputError(
                f"GroupNorm: expected num_groups that divides num_channels; got {num_groups} and {num_channels}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.weight = ag.param(ownt.ones(num_channels, dtype=dtype)) if affine else None
        self.bias = ag.param(ownt.zeros(num_channels, dtype=dtype)) if affine else None

    def forward(self, x: Any) -> Node:
        return ag.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


Norm = LayerNorm | RMSNorm


def norm_linear(norm: Norm, linear: Linear, x: Any) -> Node:
    """linear(norm(x)), fused: the norm's result is not kept."""
    return ag.norm_linear(x, norm.weight, norm.bias, linear.weight, linear.bias, norm.kind, norm.eps)
