"""Rows of products, norms, layers and losses; see `opinfo_rows`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from opinfo import SUMS, LeftOut, Row

import ag

PROBABILITIES = "probabilities for targets"
SEVERAL_TARGETS = "several targets a row"
RANDOM = "random zeros"
ROW_OF_ONE = "torch's gradient of a row of one number is not 0"
BROADCAST_HEADS = "batches of heads that broadcast"


def over_last_axes(norm: Any) -> Any:
    """A norm over some last axes is one over the last axis of tensors in which they are one."""

    def call(x: Any, shape: Any, *parameters: Any, eps: Any = 1e-5) -> Any:
        size = math.prod(shape)
        flat = x.reshape(*x.shape[: x.ndim - len(shape)], size)
        return norm(flat, *(p if p is None else p.reshape(size) for p in parameters), eps=eps).reshape(x.shape)

    return call


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
    if training and 0 < p < 1:
        raise LeftOut(RANDOM)
    return ag.dropout(x, p, training)


def classes_last(loss: Any) -> Any:
    """A loss of classes, which to torch are the second axis of two or more."""

    def call(x: Any, targets: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
        if targets.dtype.kind == "f":
            raise LeftOut(PROBABILITIES)
        order = (0, *range(2, x.ndim), 1) if x.ndim > 1 else None
        return loss(ag.transpose(x, order), targets, ignore_index, reduction, weight=weight)

    return call


def linear_cross_entropy(x: Any, w: Any, targets: Any, ignore_index: int = -100, reduction: str = "mean") -> Any:
    if targets.dtype.kind == "f":
        raise LeftOut(PROBABILITIES)
    if w.ndim > 2:
        raise LeftOut(SEVERAL_TARGETS)
    return ag.linear_cross_entropy(x, w, targets, ignore_index, reduction)


def attention(
    q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, scale: Any = None,
    enable_gqa: bool = False,
) -> Any:  # fmt: skip
    if dropout_p:
        raise LeftOut(RANDOM)
    if q.ndim != k.ndim:
        raise LeftOut(BROADCAST_HEADS)
    return ag.attention(q, k, v, attn_mask, is_causal, scale)


ROWS = [
    Row("matmul", "matmul", rounding=SUMS),
    Row("matmul", "__rmatmul__", lambda x, other: other @ x, rounding=SUMS),
    Row("matmul", "mm"),
    Row("matmul", "bmm"),
    Row("matmul", "mv"),
    Row("matmul", "dot"),
    Row("linear", "nn.functional.linear"),
    Row("embedding", "nn.functional.embedding", lambda w, indices: ag.embedding(indices, w)),
    Row("dropout", "nn.functional.dropout", dropout, left_out=(RANDOM,)),
    Row("layer_norm", "nn.functional.layer_norm", over_last_axes(ag.layer_norm), rounding=ROW_OF_ONE),
    Row(
        "rms_norm", "nn.functional.rms_norm",
        lambda x, shape, gain=None, eps=None: over_last_axes(ag.rms_norm)(
            x, shape, gain, eps=np.finfo(x.dtype).eps if eps is None else eps
        ),
        legal={"Expected normalized_shape to be at least 1-dimensional": "no shape is given: it is the last axis"},
    ),
    Row(
        "group_norm", "nn.functional.group_norm",
        lambda x, groups, weight=None, bias=None, eps=1e-5: ag.group_norm(x, groups, weight, bias, eps),
    ),
    Row("cross_entropy", "nn.functional.cross_entropy", classes_last(ag.cross_entropy), left_out=(PROBABILITIES,)),
    Row(
        "linear_cross_entropy", "nn.functional.linear_cross_entropy", linear_cross_entropy,
        left_out=(PROBABILITIES, SEVERAL_TARGETS, "option linear_bias", "option weight", "option linear_bias, weight"),
    ),
    Row(
        "attention", "nn.functional.scaled_dot_product_attention", attention,
        left_out=(RANDOM, BROADCAST_HEADS), rounding=SUMS,
    ),
]  # fmt: skip
ROWS += [
    Row("nll_loss", "nn.functional.nll_loss", classes_last(ag.nll_loss)),
    *(
        Row(name, f"nn.functional.{name}")
        for name in ("binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "smooth_l1_loss", "kl_div")
    ),
]
