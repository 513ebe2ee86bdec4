"""What each op should compute, written again in NumPy and SciPy: an implementation that shares nothing with ours.

Takes and returns float64 arrays. `DIFFERENT` names ops whose results cannot be a formula, with the reason.
"""

from __future__ import annotations

import numpy as np
import scipy.special


def layer_norm(x, gain=None, shift=None, eps=1e-5):
    y = (x - np.mean(x, -1, keepdims=True)) / np.sqrt(np.var(x, -1, keepdims=True) + eps)
    return y * (1 if gain is None else gain) + (0 if shift is None else shift)


def rms_norm(x, gain=None, eps=1e-5):
    return x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + eps) * (1 if gain is None else gain)


def gelu(x, approximate="none"):
    if approximate == "none":
        return x * scipy.special.ndtr(x)
    return x * scipy.special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def linear(x, w, b=None):
    return np.einsum("...i,oi->...o", x, w) + (0 if b is None else b)


def norm_linear(x, gain, shift, w, b=None, norm="layer", eps=1e-5):
    return linear(layer_norm(x, gain, shift, eps) if norm == "layer" else rms_norm(x, gain, eps), w, b)


def cross_entropy(logits, targets, ignore_index=-100, reduction="mean"):
    losses = -np.take_along_axis(
        scipy.special.log_softmax(logits, -1), np.where(targets == ignore_index, 0, targets)[..., None], -1
    )[..., 0]
    losses = np.where(targets == ignore_index, 0.0, losses)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / np.sum(targets != ignore_index)}[reduction]


def causal_attention(qkv, heads):
    """One query at a time."""
    b, t, width = qkv.shape
    q, k, v = (part.reshape(b, t, heads, -1) for part in np.split(qkv, 3, -1))
    y = np.empty_like(q)
    for i in range(t):
        weights = scipy.special.softmax(np.einsum("bhd,bshd->bhs", q[:, i], k[:, : i + 1]) / np.sqrt(q.shape[-1]), -1)
        y[:, i] = np.einsum("bhs,bshd->bhd", weights, v[:, : i + 1])
    return y.reshape(b, t, width // 3)


def cached_attention(qkv, keys, values, start):
    """Causal attention over a sequence that begins with what is cached, whose own queries do not matter."""
    b, _, width = qkv.shape
    past = [kept[:, :, :start].swapaxes(1, 2).reshape(b, start, width // 3) for kept in (keys, values)]
    whole = np.concatenate([np.concatenate([np.zeros_like(past[0]), *past], -1), qkv], 1)
    return causal_attention(whole, keys.shape[1])[:, start:]


NUMPYS = ("exp", "expm1", "log", "log1p", "log2", "sqrt", "sign", "sin", "cos", "tan", "sinh", "cosh", "tanh")
FORMULAS = {
    "add": lambda a, b: np.add(a, b),
    "sub": lambda a, b: np.subtract(a, b),
    "mul": lambda a, b: np.multiply(a, b),
    "div": lambda a, b: np.divide(a, b),
    "neg": lambda x: np.negative(x),
    "pow": lambda a, b: np.power(np.asarray(a, "float64"), b),
    **{name: getattr(np, name) for name in NUMPYS},
    **{f"a{name}": getattr(np, f"arc{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "rsqrt": lambda x: np.power(x, -0.5),
    "abs": lambda x: np.where(x < 0, -x, x),
    "erf": lambda x: 2 * scipy.special.ndtr(x * np.sqrt(2)) - 1,
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
    "elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * (np.exp(x) - 1)),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: np.minimum(np.maximum(x, min_val), max_val),
    "sigmoid": scipy.special.expit,
    "silu": lambda x: x * scipy.special.expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "gelu": gelu,
    "sum": lambda x, axis=None, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims),
    "mean": lambda x, axis=None, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    "reshape": lambda x, shape: np.reshape(x, shape),
    "transpose": lambda x, axes=None: np.transpose(x, axes),
    "getitem": lambda x, key: x[key],
    "index": lambda x, key: x[key],
    "max": lambda x, axis=None, keepdims=False: np.max(x, axis=axis, keepdims=keepdims),
    "min": lambda x, axis=None, keepdims=False: np.min(x, axis=axis, keepdims=keepdims),
    "argmax": lambda x, axis=None, keepdims=False: np.argmax(x, axis=axis, keepdims=keepdims),
    "argmin": lambda x, axis=None, keepdims=False: np.argmin(x, axis=axis, keepdims=keepdims),
    "var": lambda x, axis=None, keepdims=False, correction=1: np.var(x, axis=axis, keepdims=keepdims, ddof=correction),
    "std": lambda x, axis=None, keepdims=False, correction=1: np.std(x, axis=axis, keepdims=keepdims, ddof=correction),
    "log_softmax": lambda x, axis=-1: scipy.special.log_softmax(x, axis),
    "logsumexp": lambda x, axis=None, keepdims=False: scipy.special.logsumexp(x, axis=axis, keepdims=keepdims),
    "swapaxes": lambda x, a, b: np.swapaxes(x, a, b),
    "squeeze": lambda x, axis=None: np.squeeze(x, axis),
    "unsqueeze": lambda x, axis: np.expand_dims(x, axis),
    "flip": lambda x, axis=None: np.flip(x, axis),
    "broadcast_to": lambda x, shape: np.broadcast_to(x, shape),
    "maximum": lambda a, b: np.where(a > b, a, b),
    "minimum": lambda a, b: np.where(a < b, a, b),
    "where": lambda condition, a, b: np.where(condition, a, b),
    "masked_fill": lambda x, mask, value: np.where(mask, value, x),
    "clip": lambda x, low=None, high=None: np.minimum(np.maximum(x, low or -np.inf), high or np.inf),
    "concat": lambda *parts, axis=0: np.concatenate(parts, axis),
    "matmul": lambda a, b: np.matmul(a, b),
    "linear": linear,
    "softmax": lambda x, axis=-1: scipy.special.softmax(x, axis),
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "embedding": lambda indices, w: np.take(w, indices, axis=0),
    "causal_attention": causal_attention,
    "cached_attention": cached_attention,
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": lambda x, w, targets, **options: cross_entropy(linear(x, w), targets, **options),
    "norm_linear": norm_linear,
    "gelu_linear": lambda x, w, b=None, approximate="none": linear(gelu(x, approximate), w, b),
}
DIFFERENT = {"dropout": "random; its own test checks the statistics and the gradient"}
