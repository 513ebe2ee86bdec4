"""The ops of ag as functions of torch tensors, and what comparing the two takes.

Each function has the parameters of the op whose name it is listed under, so that one call serves both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

import ownt
from ag.sample import Sample, Spec
from ownt import Tensor

try:
    import torch
    import torch.nn.functional as F
except ImportError:  # without torch there is a table to look at, and nothing to call
    torch = F = None

compared: Counter[str] = Counter()  # comparisons made, by op


def reduced(function, x, axis, keepdims):
    if axis == ():  # to torch these are all axes, to NumPy and to us none
        return x.clone()
    return function(x, dim=axis, keepdim=keepdims)


def getitem(x, key):
    """torch has no negative steps: such an axis is sliced forwards and flipped."""
    named = sum(part is not None and part is not ... for part in key)
    parts, axis = [], 0
    for part in key:
        if isinstance(part, slice) and (part.step or 1) < 0:
            shown = range(x.shape[axis])[part]
            forwards = slice(shown[-1], shown[0] + 1, -part.step) if shown else slice(0, 0)
            x = x[(slice(None),) * axis + (forwards,)].flip(axis)
            part = slice(None)
        parts.append(part)
        axis += x.ndim - named if part is ... else part is not None
    return x[tuple(parts)]


def index(x, key):
    return x[tuple(torch.as_tensor(part) if isinstance(part, (list, np.ndarray)) else part for part in key)]


def norm_linear(x, gain, shift, w, b=None, norm="layer", eps=1e-5):
    if norm == "layer":
        return F.linear(F.layer_norm(x, x.shape[-1:], gain, shift, eps), w, b)
    return F.linear(F.rms_norm(x, x.shape[-1:], gain, eps), w, b)


def cross_entropy(logits, targets, ignore_index=-100, reduction="mean"):
    if logits.ndim > 1:
        logits = logits.movedim(-1, 1)
    return F.cross_entropy(logits, targets, ignore_index=ignore_index, reduction=reduction)


def heads_of(qkv, heads):
    """Queries, keys and values, (B, H, T, D) each."""
    b, t, width = qkv.shape
    return qkv.reshape(b, t, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)


def causal_attention(qkv, heads):
    y = F.scaled_dot_product_attention(*heads_of(qkv, heads), is_causal=True)
    return y.transpose(1, 2).reshape(*qkv.shape[:2], qkv.shape[2] // 3)


TABLE = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda x: -x,
    "pow": lambda a, b: a**b,
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "sqrt": lambda x: x.sqrt(),
    "tanh": lambda x: x.tanh(),
    "relu": lambda x: F.relu(x),
    "gelu": lambda x, approximate="none": F.gelu(x, approximate=approximate),
    "softmax": lambda x, axis=-1: F.softmax(x, axis),
    "sum": lambda x, axis=None, keepdims=False: reduced(torch.sum, x, axis, keepdims),
    "mean": lambda x, axis=None, keepdims=False: reduced(torch.mean, x, axis, keepdims),
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes=None: x.permute(tuple(reversed(range(x.ndim))) if axes is None else axes),
    "getitem": getitem,
    "index": index,
    "concat": lambda *parts, axis=0: torch.cat(parts, axis),
    "matmul": lambda a, b: torch.matmul(a, b),
    "linear": lambda x, w, b=None: F.linear(x, w, b),
    "layer_norm": lambda x, gain=None, shift=None, eps=1e-5: F.layer_norm(x, x.shape[-1:], gain, shift, eps),
    "rms_norm": lambda x, gain=None, eps=1e-5: F.rms_norm(x, x.shape[-1:], gain, eps),
    "norm_linear": norm_linear,
    "gelu_linear": lambda x, w, b=None, approximate="none": F.linear(F.gelu(x, approximate=approximate), w, b),
    "embedding": lambda indices, w: F.embedding(indices, w),
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": lambda x, w, targets, **options: cross_entropy(F.linear(x, w), targets, **options),
    "causal_attention": causal_attention,
}

LEFT_OUT = {
    "dropout": "torch draws other random numbers",
    "cached_attention": "it has no gradient; its value has a test of its own",
}


@dataclass(frozen=True)
class Values:
    """A tensor of given numbers, floats or integers, among the arguments of a Sample."""

    numbers: Any

    def make(self, dtype: str) -> Tensor:
        array = np.array(self.numbers)
        return ownt.Tensor(array.astype(dtype) if array.dtype.kind == "f" else array)

    def __str__(self) -> str:
        return f"values{np.shape(self.numbers)}"


def arguments(sample: Sample, dtype: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call: tensors for Specs and Values; a list of tensors, as for concat, is spread."""
    args = sample.args[0] if isinstance(sample.args[0], list) else sample.args
    return [arg.make(dtype) if isinstance(arg, (Spec, Values)) else arg for arg in args], sample.options


def in_columns(array: Any) -> Tensor:
    """A tensor of these values that is stored in the other order, and is not contiguous."""
    tensor = ownt.empty(array.shape[::-1], dtype=array.dtype).T
    return tensor.copy_(array)


def as_torch(value: Any, requires_grad: bool = False) -> Any:
    """A torch tensor with a copy of a Tensor's or an array's values; anything else as it is."""
    if not isinstance(value, (Tensor, np.ndarray)):
        return value
    made = torch.from_numpy(np.array(value, order="C"))
    return made.requires_grad_(requires_grad and made.is_floating_point())


def run_torch(name: str, args: list[Any], options: dict[str, Any], g: Any = None) -> tuple[Any, list[Any], Any]:
    """The op in torch: its value, the gradient of each argument (None if it has none) and the upstream gradient.

    That gradient is random unless given.
    """
    tensors = [as_torch(arg, requires_grad=True) for arg in args]
    y = TABLE[name](*tensors, **options)
    g = ownt.randn(tuple(y.shape), dtype=str(y.dtype).removeprefix("torch.")) if g is None else g
    y.backward(as_torch(g))
    gradients = [t.grad.numpy() if getattr(t, "grad", None) is not None else None for t in tensors]
    return y.detach().numpy(), gradients, g


TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def assert_same(actual: Any, expected: Any, what: str, rtol: float | None = None) -> None:
    """The same shape and dtype, NaN and Inf in the same places, and the same numbers up to rounding.

    Rounding is relative to each number and, as sums cancel, to 1 or, if less, the largest of them.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), what
    rtol = rtol or TOLERANCE[str(expected.dtype)]
    finite = np.abs(expected[np.isfinite(expected)])
    atol = rtol * min(1.0, finite.max(initial=0))
    np.testing.assert_allclose(actual, expected, rtol, atol, err_msg=what)
    compared[what.split()[0]] += 1
