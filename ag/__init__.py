"""Gradients: nodes that own one lazily allocated gradient buffer each, and the ops that fill it."""

from ag.debug import AnomalyError, detect_anomaly
from ag.graph import backward
from ag.node import Node, constant, make_tensor, param, zero_grad
from ag.op import Op, composed, methods, op, registry, view_op
from ag.recording import no_grad
from ag.checkpoint import checkpoint  # isort: skip
from ag.gradcheck import gradcheck
from ag.ops.activation import elu, gelu, hardtanh, leaky_relu, mish, relu, sigmoid, silu, softplus
from ag.ops.arithmetic import add, div, mul, neg, pow, sub
from ag.ops.attention import cached_attention, causal_attention
from ag.ops.batch_norm import batch_norm
from ag.ops.conv import conv2d
from ag.ops.cross_attention import attention
from ag.ops.dropout import dropout
from ag.ops.embedding import embedding
from ag.ops.extremes import argmax, argmin, max, min
from ag.ops.gather import argtopk, gather, topk
from ag.ops.group_norm import group_norm
from ag.ops.fused import gelu_linear, norm_linear
from ag.ops.join import chunk, concat, repeat, split, stack
from ag.ops.linear import linear
from ag.ops.linear_loss import linear_cross_entropy
from ag.ops.loss import cross_entropy
from ag.ops.losses import binary_cross_entropy_with_logits, kl_div, l1_loss, mse_loss, smooth_l1_loss
from ag.ops.math import (
    abs,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    cos,
    cosh,
    erf,
    exp,
    expm1,
    log,
    log1p,
    log2,
    rsqrt,
    sign,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from ag.ops.matmul import matmul
from ag.ops.moments import std, var
from ag.ops.nll import nll_loss
from ag.ops.norm import layer_norm, rms_norm
from ag.ops.pad import constant_pad, pad
from ag.ops.pool import avg_pool2d, max_pool2d
from ag.ops.reduce import cumsum, mean, prod, sum
from ag.ops.shape import getitem, index, reshape, transpose
from ag.ops.select import clip, masked_fill, maximum, minimum, tril, triu, where
from ag.ops.softmax import log_softmax, logsumexp, softmax
from ag.ops.views import broadcast_to, flip, squeeze, swapaxes, unsqueeze

__all__ = [
    "AnomalyError",
    "Node",
    "Op",
    "abs",
    "acos",
    "acosh",
    "add",
    "argmax",
    "argmin",
    "argtopk",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "attention",
    "avg_pool2d",
    "backward",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "cached_attention",
    "causal_attention",
    "checkpoint",
    "chunk",
    "clip",
    "composed",
    "concat",
    "constant",
    "constant_pad",
    "conv2d",
    "cos",
    "cosh",
    "cross_entropy",
    "cumsum",
    "detect_anomaly",
    "div",
    "dropout",
    "elu",
    "embedding",
    "erf",
    "exp",
    "expm1",
    "flip",
    "gather",
    "gelu",
    "gelu_linear",
    "getitem",
    "gradcheck",
    "group_norm",
    "hardtanh",
    "index",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_cross_entropy",
    "log",
    "log1p",
    "log2",
    "log_softmax",
    "logsumexp",
    "make_tensor",
    "masked_fill",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "methods",
    "min",
    "minimum",
    "mish",
    "mse_loss",
    "mul",
    "neg",
    "nll_loss",
    "no_grad",
    "norm_linear",
    "op",
    "pad",
    "param",
    "pow",
    "prod",
    "registry",
    "relu",
    "repeat",
    "reshape",
    "rms_norm",
    "rsqrt",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "std",
    "sub",
    "sum",
    "swapaxes",
    "tan",
    "tanh",
    "topk",
    "transpose",
    "tril",
    "triu",
    "unsqueeze",
    "var",
    "view_op",
    "where",
    "zero_grad",
]  # fmt: skip
