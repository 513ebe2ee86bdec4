"""Gradients: nodes that own one lazily allocated gradient buffer each, and the ops that fill it."""

from ag.debug import AnomalyError, detect_anomaly
from ag.graph import backward
from ag.node import Node, constant, make_tensor, param, zero_grad
from ag.op import Op, no_grad, op, registry, view_op
from ag.checkpoint import checkpoint  # isort: skip
from ag.gradcheck import gradcheck
from ag.ops.activation import elu, gelu, hardtanh, leaky_relu, mish, relu, sigmoid, silu, softplus
from ag.ops.arithmetic import add, div, mul, neg, pow, sub
from ag.ops.attention import cached_attention, causal_attention
from ag.ops.dropout import dropout
from ag.ops.embedding import embedding
from ag.ops.extremes import argmax, argmin, max, min
from ag.ops.fused import gelu_linear, norm_linear
from ag.ops.linear import linear
from ag.ops.loss import cross_entropy, linear_cross_entropy
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
from ag.ops.norm import layer_norm, rms_norm
from ag.ops.reduce import mean, sum
from ag.ops.shape import concat, getitem, index, reshape, transpose
from ag.ops.select import clip, masked_fill, maximum, minimum, where
from ag.ops.softmax import log_softmax, logsumexp, softmax
from ag.ops.views import broadcast_to, flip, squeeze, swapaxes, unsqueeze

__all__ = [
    "AnomalyError", "Node", "Op", "abs", "acos", "acosh", "add", "argmax", "argmin", "asin", "asinh", "atan", "atanh",
    "backward", "broadcast_to", "cached_attention", "causal_attention", "checkpoint", "clip", "concat", "constant",
    "cos", "cosh", "cross_entropy", "detect_anomaly", "div", "dropout", "elu", "embedding", "erf", "exp", "expm1",
    "flip", "gelu", "gelu_linear", "getitem", "gradcheck", "hardtanh", "index", "layer_norm", "leaky_relu", "linear",
    "linear_cross_entropy", "log", "log1p", "log2", "log_softmax", "logsumexp", "make_tensor", "masked_fill",
    "matmul", "max", "maximum", "mean", "min", "minimum", "mish", "mul", "neg", "no_grad", "norm_linear", "op",
    "param", "pow", "registry", "relu", "reshape", "rms_norm", "rsqrt", "sigmoid", "sign", "silu", "sin", "sinh",
    "softmax", "softplus", "sqrt", "squeeze", "std", "sub", "sum", "swapaxes", "tan", "tanh", "transpose",
    "unsqueeze", "var", "view_op", "where", "zero_grad",
]  # fmt: skip
