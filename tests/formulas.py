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


def linear(x, w, b=None, residual=None):
    return np.einsum("...i,oi->...o", x, w) + (0 if b is None else b) + (0 if residual is None else residual)


def norm_linear(x, gain, shift, w, b=None, norm="layer", eps=1e-5):
    return linear(layer_norm(x, gain, shift, eps) if norm == "layer" else rms_norm(x, gain, eps), w, b)


def cross_entropy(logits, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0, weight=None):
    """Against a distribution over the classes: all on the target, or smoothed."""
    classes = logits.shape[-1]
    weight = np.ones(classes) if weight is None else weight
    wanted = (1 - label_smoothing) * (np.arange(classes) == targets[..., None]) + label_smoothing / classes
    losses = -np.sum(wanted * weight * scipy.special.log_softmax(logits, -1), -1)
    return over_rows(losses, targets, weight, ignore_index, reduction)


def nll_loss(x, targets, ignore_index=-100, reduction="mean", weight=None):
    weight = np.ones(x.shape[-1]) if weight is None else weight
    losses = -np.sum(weight * x * (np.arange(x.shape[-1]) == targets[..., None]), -1)
    return over_rows(losses, targets, weight, ignore_index, reduction)


def over_rows(losses, targets, weight, ignore_index, reduction):
    kept = targets != ignore_index
    losses = np.where(kept, losses, 0.0)
    count = sum(weight[target] for target in np.asarray(targets)[kept])
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / count}[reduction]


def reduced(losses, reduction):
    losses = np.asarray(losses)
    rows = losses.shape[0] if losses.ndim else 1
    factors = {"none": 1, "sum": 1, "mean": 1 / max(losses.size, 1), "batchmean": 1 / rows}
    return (losses if reduction == "none" else np.sum(losses)) * factors[reduction]


def smooth_l1_loss(x, targets, reduction="mean", beta=1.0):
    """Huber's loss over beta."""
    losses = scipy.special.huber(beta, x - targets) / beta if beta else np.abs(x - targets)
    return reduced(losses, reduction)


def binary_cross_entropy_with_logits(x, targets, reduction="mean", weight=1.0, pos_weight=1.0):
    right, wrong = scipy.special.log_expit(x), scipy.special.log_expit(-x)
    pos_weight, weight = 1.0 if pos_weight is None else pos_weight, 1.0 if weight is None else weight
    return reduced(-weight * (pos_weight * targets * right + (1 - targets) * wrong), reduction)


def kl_div(x, targets, reduction="mean", log_target=False):
    targets = np.exp(targets) if log_target else targets
    return reduced(scipy.special.xlogy(targets, targets) - targets * x, reduction)


def group_norm(x, groups, gain=None, shift=None, eps=1e-5):
    by_channel = (-1, *(1,) * (x.ndim - 2))
    parts = [(part - part.mean()) / np.sqrt(part.var() + eps) for row in x for part in np.split(row, groups)]
    y = np.stack(parts).reshape(x.shape) if parts else x
    return y * (1 if gain is None else gain.reshape(by_channel)) + (0 if shift is None else shift.reshape(by_channel))


def windows(x, size, stride=None, padding=0, dilation=1, value=0.0):
    """Every window on padded images, (N, C, OH, OW, KH, KW)."""
    stride = size if stride is None else stride
    pairs = [(n, n) if isinstance(n, int) else n for n in (size, stride, padding, dilation)]
    (tall, broad), (down, across), (high, wide), (apart, aside) = pairs
    x = np.pad(x, [(0, 0), (0, 0), (high, high), (wide, wide)], constant_values=value)
    reach = apart * (tall - 1) + 1, aside * (broad - 1) + 1
    return np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))[:, :, ::down, ::across, ::apart, ::aside]


def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    pairs = zip(np.split(windows(x, w.shape[2:], stride, padding, dilation), groups, 1), np.split(w, groups))
    y = np.concatenate([np.tensordot(seen, part, ((1, 4, 5), (1, 2, 3))) for seen, part in pairs], -1)
    return np.moveaxis(y + (0 if b is None else b), -1, 1)


def batch_norm(
    x, gain=None, shift=None, residual=None, running=None, training=True, momentum=0.1, eps=1e-5, relu=False
):
    rows = np.moveaxis(x, 1, -1)
    flat = rows.reshape(-1, x.shape[1])
    mean, variance = (flat.mean(0), flat.var(0)) if training else [np.asarray(part) for part in running]
    rows = (rows - mean) / np.sqrt(variance + eps) * (1 if gain is None else gain) + (0 if shift is None else shift)
    y = np.moveaxis(rows, -1, 1) + (0 if residual is None else residual)
    return np.where(y > 0, y, 0) if relu else y


def avg_pool2d(x, size, stride=None, padding=0, count_include_pad=True):
    counted = windows(np.ones_like(x), size, stride, padding, value=float(count_include_pad))
    return windows(x, size, stride, padding).sum((4, 5)) / counted.sum((4, 5))


def attention(q, k, v, mask=None, causal=False, scale=None):
    """One query at a time."""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    shared = q.shape[-3] // k.shape[-3] if q.ndim > 2 else 1
    if mask is not None:
        mask = mask if mask.dtype.kind == "f" else np.where(mask, 0, -np.inf)
        mask = np.broadcast_to(mask, (*y.shape[:-1], k.shape[-2]))
    for place in np.ndindex(y.shape[:-1]):
        keys = place[:-1] if q.ndim < 3 else (*place[:-2], place[-2] // shared)
        scores = k[keys] @ q[place] * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores += 0 if mask is None else mask[place]
        scores = scores[: place[-1] + 1] if causal else scores
        if np.any(scores > -np.inf):
            y[place] = scipy.special.softmax(scores) @ v[keys][: len(scores)]
    return y


def constant_pad(x, widths, value=0.0):
    """Padded, then cut."""
    wide = np.pad(x, [(max(a, 0), max(b, 0)) for a, b in widths], constant_values=value) if widths else x
    return wide[tuple(slice(-min(a, 0), size + min(b, 0)) for (a, b), size in zip(widths, wide.shape))]


def gather(x, axis, index):
    taken = tuple(slice(None) if a == axis % x.ndim else slice(size) for a, size in enumerate(index.shape))
    return np.take_along_axis(x[taken], index, axis)


def argtopk(x, k, axis=-1, largest=True):
    order = np.argsort(-x if largest else x, axis)
    return np.take(order, range(k), axis)


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
    "softplus": lambda x, beta=1.0, threshold=20.0: np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "gelu": gelu,
    "prod": lambda x, axis=None, keepdims=False: np.prod(x, axis=axis, keepdims=keepdims),
    "cumsum": lambda x, axis: np.cumsum(x, axis),
    "stack": lambda *parts, axis=0: np.stack(parts, axis),
    "repeat": lambda x, repeats: np.tile(x, repeats),
    "constant_pad": constant_pad,
    "gather": gather,
    "argtopk": argtopk,
    "tril": lambda x, diagonal=0: x * np.tri(*x.shape[-2:], diagonal),
    "triu": lambda x, diagonal=0: x * (1 - np.tri(*x.shape[-2:], diagonal - 1)),
    "group_norm": group_norm,
    "conv2d": conv2d,
    "batch_norm": batch_norm,
    "max_pool2d": lambda x, *rest, **options: windows(x, *rest, **options, value=-np.inf).max((4, 5)),
    "avg_pool2d": avg_pool2d,
    "attention": attention,
    "nll_loss": nll_loss,
    "mse_loss": lambda x, targets, reduction="mean": reduced(np.square(x - targets), reduction),
    "l1_loss": lambda x, targets, reduction="mean": reduced(np.abs(x - targets), reduction),
    "smooth_l1_loss": smooth_l1_loss,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "kl_div": kl_div,
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
    "gelu_linear": lambda x, w, b=None, approximate="none", residual=None: linear(gelu(x, approximate), w, b, residual),
}
DIFFERENT = {"dropout": "random; its own test checks the statistics and the gradient"}
