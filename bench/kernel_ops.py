"""The ops that bench/kernels.py times, in ag and in PyTorch, behind the same few methods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy
from gpt_sizes import BETAS, EPS, LR, WEIGHT_DECAY, Size

DROPPED = 0.1
MAX_NORM = 1.0  # below what gradients drawn from a normal have: clipping has to scale

Arrays = dict[str, numpy.ndarray]


class Ours:
    """Ops of ag and nn."""

    def __init__(self) -> None:
        import ag
        import nn
        import ownt

        self.ag, self.nn, self.ownt = ag, nn, ownt

    def op(self, name: str, size: Size) -> Callable[..., Any]:
        ag = self.ag
        return {
            "gelu": lambda x: ag.gelu(x, approximate="tanh"),
            "gelu_linear": lambda x, w, b: ag.gelu_linear(x, w, b, approximate="tanh"),
            "causal_attention": lambda qkv: ag.causal_attention(qkv, size.heads),
            "dropout": lambda x: ag.dropout(x, DROPPED),
            "sum_rows": lambda x: ag.sum(x, axis=0),
        }.get(name) or getattr(ag, name)

    def update(self, name: str, arrays: Arrays) -> Callable[[], Any]:
        nodes = [self.ag.param(array) for array in arrays.values()]
        for node in nodes:
            node.grad = node.tensor.clone()
        if name == "clip":
            return lambda: self.nn.clip_grad_norm_(nodes, MAX_NORM)
        groups = self.nn.decay_groups(nodes, WEIGHT_DECAY)
        return self.nn.AdamW(groups, lr=LR, betas=BETAS, eps=EPS).step

    def inputs(self, arrays: Arrays, wants: tuple[str, ...]) -> list[Any]:
        return [self.ag.param(a) if name in wants else self.ag.constant(a) for name, a in arrays.items()]

    def without_graph(self) -> contextlib.AbstractContextManager[Any]:
        return self.ag.no_grad()

    def tensor(self, array: numpy.ndarray) -> Any:
        return self.ownt.asarray(array)

    def backward(self, y: Any, g: Any) -> None:
        self.ag.backward(y, g)

    def forget(self, leaves: list[Any]) -> None:
        self.ag.zero_grad(leaves)

    def norm(self, value: Any) -> float:
        return float(numpy.linalg.norm(value.numpy()))


class Torch:
    """The same in PyTorch."""

    def __init__(self) -> None:
        import torch

        self.torch, self.functional = torch, torch.nn.functional

    def op(self, name: str, size: Size) -> Callable[..., Any]:
        torch, f = self.torch, self.functional
        return {
            "gelu": lambda x: f.gelu(x, approximate="tanh"),
            "relu": f.relu,
            "layer_norm": lambda x, gain, shift: f.layer_norm(x, gain.shape, gain, shift),
            "rms_norm": lambda x, gain: f.rms_norm(x, gain.shape, gain, 1e-5),
            "linear": f.linear,
            "norm_linear": lambda x, gain, shift, w, b: f.linear(f.layer_norm(x, gain.shape, gain, shift), w, b),
            "gelu_linear": lambda x, w, b: f.linear(f.gelu(x, approximate="tanh"), w, b),
            "causal_attention": lambda qkv: self._attention(qkv, size.heads),
            "softmax": lambda x: f.softmax(x, -1),
            "cross_entropy": f.cross_entropy,
            "linear_cross_entropy": lambda x, w, targets: f.cross_entropy(f.linear(x, w), targets),
            "embedding": f.embedding,
            "add": torch.add,
            "dropout": lambda x: f.dropout(x, DROPPED),
            "sum_rows": lambda x: x.sum(0),
        }[name]

    def _attention(self, qkv: Any, heads: int) -> Any:
        b, t, c = qkv.shape
        parts = qkv.view(b, t, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = self.functional.scaled_dot_product_attention(*parts, is_causal=True)
        return y.transpose(1, 2).reshape(b, t, c // 3)

    def update(self, name: str, arrays: Arrays) -> Callable[[], Any]:
        parameters = [self.torch.nn.Parameter(self.torch.from_numpy(array)) for array in arrays.values()]
        for parameter in parameters:
            parameter.grad = parameter.detach().clone()
        if name == "clip":
            return lambda: self.torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return self.torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS, fused=True).step

    def inputs(self, arrays: Arrays, wants: tuple[str, ...]) -> list[Any]:
        return [self.torch.from_numpy(array).requires_grad_(name in wants) for name, array in arrays.items()]

    def without_graph(self) -> contextlib.AbstractContextManager[Any]:
        return self.torch.no_grad()

    def tensor(self, array: numpy.ndarray) -> Any:
        return self.torch.from_numpy(array)

    def backward(self, y: Any, g: Any) -> None:
        y.backward(g)

    def forget(self, leaves: list[Any]) -> None:
        for leaf in leaves:
            leaf.grad = None

    def norm(self, value: Any) -> float:
        return value.detach().norm().item()
