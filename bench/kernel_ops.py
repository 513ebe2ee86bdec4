"""The ops that bench/kernels.py times, in ag and in PyTorch, behind the same few methods."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import clocks
import numpy
from gpt_sizes import BETAS, EPS, LR, WEIGHT_DECAY, Size

DROPPED = 0.1
MAX_NORM = 1.0  # below what gradients drawn from a normal have: clipping has to scale


@dataclass(frozen=True)
class Repeated:
    """A large array that repeats some numbers, so that the device can fill it."""

    numbers: numpy.ndarray
    shape: tuple[int, ...]


Values = numpy.ndarray | Repeated
Arrays = dict[str, Values]


def repeated(numbers: numpy.ndarray, shape: tuple[int, ...]) -> Values:
    """The numbers in this shape, again and again if it has more."""
    return numbers.reshape(shape) if math.prod(shape) == numbers.size else Repeated(numbers, shape)


class Ours:
    """Ops of ag and nn."""

    def __init__(self, device: str = "cpu", dtype: str = "float32") -> None:
        import ag
        import nn
        import ownt

        self.ag, self.nn, self.ownt, self.device, self.dtype = ag, nn, ownt, device, dtype

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
        nodes = [self.ag.param(self.tensor(array)) for array in arrays.values()]
        for node in nodes:
            node.grad = node.tensor.clone()
        if name == "clip":
            return lambda: self.nn.clip_grad_norm_(nodes, MAX_NORM)
        groups = self.nn.decay_groups(nodes, WEIGHT_DECAY)
        return self.nn.AdamW(groups, lr=LR, betas=BETAS, eps=EPS).step

    def inputs(self, arrays: Arrays, wants: tuple[str, ...]) -> list[Any]:
        tensors = {name: self.tensor(array) for name, array in arrays.items()}
        return [self.ag.param(t) if name in wants else self.ag.constant(t) for name, t in tensors.items()]

    def without_graph(self) -> contextlib.AbstractContextManager[Any]:
        return self.ag.no_grad()

    def tensor(self, array: Values) -> Any:
        """Of the dtype and on the device that are measured; integers stay integers."""
        if isinstance(array, Repeated):
            part = self.tensor(array.numbers)
            whole = self.ownt.empty(math.prod(array.shape), dtype=part.dtype, device=self.device)
            for start in range(0, whole.size, part.size):
                whole[start : start + part.size] = part[: whole.size - start]
            return whole.reshape(array.shape)
        dtype = self.dtype if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else None
        return self.ownt.asarray(array, dtype=dtype, device=self.device)

    def like(self, y: Any, array: Values) -> Any:
        """A gradient of y; that of a loss is float32."""
        return self.tensor(array).astype(y.dtype)

    def backward(self, y: Any, g: Any) -> None:
        self.ag.backward(y, g)

    def forget(self, leaves: list[Any]) -> None:
        self.ag.zero_grad(leaves)

    def array(self, value: Any) -> numpy.ndarray:
        return value.numpy()

    def clock(self) -> Any:
        return clocks.host if self.device == "cpu" else clocks.of_cupy(self.device)


class Torch:
    """The same in PyTorch."""

    def __init__(self, device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        self.torch, self.functional, self.device, self.dtype = torch, torch.nn.functional, device, dtype

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
        parameters = [self.torch.nn.Parameter(self.tensor(array)) for array in arrays.values()]
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
        return [self.tensor(array).requires_grad_(name in wants) for name, array in arrays.items()]

    def without_graph(self) -> contextlib.AbstractContextManager[Any]:
        return self.torch.no_grad()

    def tensor(self, array: Values) -> Any:
        """Of the dtype and on the device that are measured; integers stay integers."""
        if isinstance(array, Repeated):
            part, count = self.tensor(array.numbers), math.prod(array.shape)
            return part.repeat(-(-count // part.numel()))[:count].reshape(array.shape)
        dtype = getattr(self.torch, self.dtype) if array.dtype.kind == "f" else None
        return self.torch.from_numpy(array).to(self.device, dtype)

    def like(self, y: Any, array: Values) -> Any:
        return self.tensor(array).to(y.dtype)

    def backward(self, y: Any, g: Any) -> None:
        y.backward(g)

    def forget(self, leaves: list[Any]) -> None:
        for leaf in leaves:
            leaf.grad = None

    def array(self, value: Any) -> numpy.ndarray:
        return value.detach().float().cpu().numpy()

    def clock(self) -> Any:
        return clocks.host if self.device == "cpu" else clocks.of_torch()
