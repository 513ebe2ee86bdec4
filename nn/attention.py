"""Attention with projections of its own: MultiheadAttention."""

from __future__ import annotations

from typing import Any

import ag
import ownt
from ag import Node
from nn import init
from nn.errors import InputError
from nn.layers import Linear
from nn.module import Module


class MultiheadAttention(Module):
    """Attention of queries to keys and values, each projected first, and a projection of the result.

    Several heads of queries share one of keys and values if `num_kv_heads`, which divides `num_heads`, is less.
    Shapes: query (B, T, embed_dim), key, value (B, S, embed_dim) -> (B, T, embed_dim), or all without B;
            in_proj_weight (embed_dim + 2 num_kv_heads D, embed_dim) for D = embed_dim / num_heads
    The projections into heads begin uniform as `init.xavier_uniform_` draws them, biases at 0.
    Raises: InputError for sizes that do not divide each other, and for `batch_first` False.
    Source: Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245, for the shared heads
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, bias: bool = True, batch_first: bool = True,
        num_kv_heads: int | None = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if min(embed_dim, num_heads, kv_heads) < 1 or embed_dim % num_heads or num_heads % kv_heads:
            raise InputError(
                "MultiheadAttention: expected num_heads that divides embed_dim and num_kv_heads that divides "
                f"num_heads; got {embed_dim}, {num_heads} heads and {kv_heads} of keys and values"
            )
        if not batch_first:
            raise InputError("MultiheadAttention: expected batch_first=True; got False. Transpose inputs to (B, T, C)")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_kv_heads = kv_heads
        self.head_dim = embed_dim // num_heads
        rows = embed_dim + 2 * kv_heads * self.head_dim
        self.in_proj_weight = ag.param(init.xavier_uniform_(ownt.empty(rows, embed_dim, dtype=dtype)))
        self.in_proj_bias = ag.param(ownt.zeros(rows, dtype=dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(self, query: Any, key: Any = None, value: Any = None, mask: Any = None, causal: bool = False) -> Node:
        """The result alone, without the weights of attention. The keys are the queries, the values the keys by default.

        mask: truth values, where False may not be seen, or numbers to add to the scores; broadcasts to
        (B, num_heads, T, S). causal: query i sees keys 0 to i.
        """
        key = query if key is None else key
        value = key if value is None else value
        width, shared = self.embed_dim, self.num_kv_heads * self.head_dim
        y = ag.attention(
            self._heads(query, slice(width)),
            self._heads(key, slice(width, width + shared)),
            self._heads(value, slice(width + shared, None)),
            mask,
            causal,
        )  # (B, H, T, D)
        return self.out_proj(ag.reshape(ag.swapaxes(y, -3, -2), query.shape))

    def _heads(self, x: Any, rows: slice) -> Node:
        """x (B, T, C), projected by some of the rows, as heads (B, H, T, D)"""
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        y = ag.linear(x, self.in_proj_weight[rows], bias)
        return ag.swapaxes(ag.reshape(y, (*y.shape[:-1], y.shape[-1] // self.head_dim, self.head_dim)), -3, -2)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, num_kv_heads={self.num_kv_heads}"
