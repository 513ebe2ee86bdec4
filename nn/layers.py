"""Layers: Linear, Embedding, LayerNorm, RMSNorm, Dropout, activations."""

from __future__ import annotations

from typing import Any

import ag
import ownt
from ag import Node
from nn import init
from nn.module import Module


class Linear(Module):
    """y = x wᵀ + b

    Shapes: x (..., in_features) -> (..., out_features); weight (out_features, in_features), bias (out_features,)
    Weights begin uniform within 1 / sqrt(in_features), or as given.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None, weight: Any = None
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        shape = (out_features, in_features)
        self.weight = ag.param(init.linear_uniform(shape, in_features, dtype) if weight is None else weight)
        self.bias = ag.param(init.linear_uniform((out_features,), in_features, dtype)) if bias else None

    def forward(self, x: Any) -> Node:
        return ag.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Rows of a table.

    Shapes: indices any -> (..., embedding_dim); weight (num_embeddings, embedding_dim)
    Weights begin standard normal, or as given.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: Any = None, weight: Any = None) -> None:
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.weight = ag.param(ownt.randn(num_embeddings, embedding_dim, dtype=dtype) if weight is None else weight)

    def forward(self, indices: Any) -> Node:
        return ag.embedding(indices, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


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


Norm = LayerNorm | RMSNorm


def norm_linear(norm: Norm, linear: Linear, x: Any) -> Node:
    """linear(norm(x)), fused: the norm's result is not kept."""
    return ag.norm_linear(x, norm.weight, norm.bias, linear.weight, linear.bias, norm.kind, norm.eps)


class Dropout(Module):
    """In training, each element zeroed with probability p and the rest scaled by 1 / (1 - p)."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, x: Any) -> Any:
        return ag.dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x: Any) -> Node:
        return ag.relu(x)


class GELU(Module):
    """x P(Z < x) for a standard normal Z."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Node:
        return ag.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Tanh(Module):
    """tanh x"""

    def forward(self, x: Any) -> Node:
        return ag.tanh(x)
