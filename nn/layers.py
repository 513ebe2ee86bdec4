"""Layers: Linear, Embedding, Dropout, Identity, Flatten."""

from __future__ import annotations

import math
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

    def forward(self, x: Any, residual: Any = None) -> Node:
        """`residual` (..., out_features) is added, in one op."""
        return ag.linear(x, self.weight, self.bias, residual)

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


class Dropout(Module):
    """In training, each element zeroed with probability p and the rest scaled by 1 / (1 - p)."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, x: Any) -> Any:
        return ag.dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Identity(Module):
    """x itself, to stand where another layer may; what that one would be given when it is made is not used."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Axes start_dim ... end_dim as one, in the same order: a view where the strides allow it.

    Shapes: x (..., a, b, c, ...) -> (..., a b c, ...)
    Raises: ValueError for axes that x does not have, or in the wrong order.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Node:
        shape = x.shape
        start, end = (dim + len(shape) if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < len(shape):
            raise ValueError(
                f"Flatten: expected start_dim up to end_dim among {len(shape)} axes; "
                f"got {self.start_dim} and {self.end_dim} for shape {shape}"
            )
        return ag.reshape(x, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
