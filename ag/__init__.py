"""Gradients: nodes that own one lazily allocated gradient buffer each, and the ops that fill it."""

from ag.debug import AnomalyError, detect_anomaly
from ag.graph import backward
from ag.node import Node, constant, make_tensor, param, zero_grad
from ag.op import Op, no_grad, op, registry, view_op
from ag.checkpoint import checkpoint  # isort: skip
from ag.gradcheck import gradcheck
from ag.ops.activation import exp, gelu, log, relu, sqrt, tanh
from ag.ops.arithmetic import add, div, mul, neg, pow, sub
from ag.ops.attention import cached_attention, causal_attention
from ag.ops.dropout import dropout
from ag.ops.embedding import embedding
from ag.ops.fused import gelu_linear, norm_linear
from ag.ops.linear import linear
from ag.ops.loss import cross_entropy, linear_cross_entropy
from ag.ops.matmul import matmul
from ag.ops.norm import layer_norm, rms_norm
from ag.ops.reduce import mean, sum
from ag.ops.shape import concat, getitem, index, reshape, transpose
from ag.ops.softmax import softmax

__all__ = [
    "AnomalyError", "Node", "Op", "add", "backward", "cached_attention", "causal_attention", "checkpoint", "concat",
    "constant", "cross_entropy", "detect_anomaly", "div", "dropout", "embedding", "exp", "gelu", "gelu_linear",
    "getitem", "gradcheck", "index", "layer_norm", "linear", "linear_cross_entropy", "log", "make_tensor", "matmul",
    "mean", "mul", "neg", "no_grad", "norm_linear", "op", "param", "pow", "registry", "relu", "reshape", "rms_norm",
    "softmax", "sqrt", "sub", "sum", "tanh", "transpose", "view_op", "zero_grad",
]  # fmt: skip
