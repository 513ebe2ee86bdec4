"""Causal self-attention over packed queries, keys and values, and its step-by-step form for generation.

Scores are worked through in tiles; what stays for the gradient is the input, the result and one number a
row, never a (T, T) matrix.
Source: Dao et al., "FlashAttention", arXiv 2205.14135, for the gradient from row statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ag.op import Indices, op
from ag.sample import Sample, normal
from ownt import Tensor, launch, scratch
from ownt import device as devices
from ownt.dtype import wide
from ownt.kernel import Out, kernel

_TILE = 1 << 18  # scores of a tile: a megabyte in float32
_QUERIES = 64  # queries of a tile, at least: enough for a good matrix product


def _heads(packed: Any, heads: int) -> tuple[Any, Any, Any]:
    """Views (B, H, T, D) of the queries, keys and values in (B, T, 3C)."""
    b, t, width = packed.shape
    parts = packed.reshape(b, t, 3, heads, width // 3 // heads).transpose(2, 0, 3, 1, 4)
    return parts[0], parts[1], parts[2]


def tiles(b: int, heads: int, t: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """(batch, query) tiles: many short sequences at once, or a stretch of one long sequence's queries."""
    queries = max(1, min(t, max(_QUERIES, _TILE // max(heads * keys, 1))))
    batch = max(1, _TILE // max(heads * keys * queries, 1))
    for i in range(0, b, batch):
        for q in range(0, t, queries):
            yield slice(i, i + batch), slice(q, min(q + queries, t))


def _causal_tiles(q: Any) -> Iterator[tuple[slice, slice]]:
    b, heads, t, _ = q.shape
    return tiles(b, heads, t, t)


def product(a: Any, b: Any) -> Any:
    """a b for a stack of small matrices: on one thread, which is faster where each product is small."""
    with devices.of(a).one_thread():
        return a @ b


def _scores(q: Any, k: Any, scale: float, rows: slice) -> Any:
    """Scaled scores of queries `rows` against keys 0 ... rows.stop - 1, -inf where a key is later."""
    xp = devices.module(q)
    scores = product(q[:, :, rows] * scale, k[:, :, : rows.stop].swapaxes(-1, -2))
    later = xp.arange(rows.stop) > xp.arange(rows.start, rows.stop)[:, None]
    scores[..., later] = -xp.inf
    return scores


@kernel
def attention_kernel(qkv: Any, heads: int, *, out: Out, lse: Out) -> None:
    """Shapes: qkv (B, T, 3C) -> out (B, T, C), lse (B, H, T), the logarithm of each row's sum of exponentials"""
    xp = devices.module(qkv)
    q, k, v = _heads(qkv, heads)
    scale = q.shape[-1] ** -0.5
    y = out.view((*out.array.shape[:2], heads, q.shape[-1]))
    for batch, rows in _causal_tiles(q):
        p = _scores(q[batch], k[batch], scale, rows)
        top = p.max(-1, keepdims=True)
        p -= top
        xp.exp(p, out=p)
        total = p.sum(-1, keepdims=True)
        lse[batch, :, rows].store((top + xp.log(total))[..., 0])
        p /= total
        y[batch, rows].store(product(p, v[batch, :, : rows.stop]).swapaxes(1, 2))


@kernel
def attention_vjp(g: Any, qkv: Any, y: Any, lse: Any, heads: int, *, out: Out) -> None:
    """Shapes: g, y (B, T, C), qkv (B, T, 3C), lse (B, H, T) -> out (B, T, 3C)"""
    if not out.beta:
        out.store(0)  # what follows adds, tile by tile
    xp = devices.module(qkv)
    q, k, v = _heads(qkv, heads)
    dq, dk, dv = _heads(out.array, heads)
    scale = q.shape[-1] ** -0.5
    g, y = (a.reshape(*a.shape[:2], heads, q.shape[-1]).swapaxes(1, 2) for a in (g, y))  # (B, H, T, D)
    inner = (g * y).sum(-1, keepdims=True)
    for batch, rows in _causal_tiles(q):
        keys = slice(0, rows.stop)
        p = _scores(q[batch], k[batch], scale, rows)
        p -= lse[batch, :, rows, None]
        xp.exp(p, out=p)
        dv[batch, :, keys] += product(p.swapaxes(-1, -2), g[batch, :, rows])
        dp = product(g[batch, :, rows], v[batch, :, keys].swapaxes(-1, -2))
        dp -= inner[batch, :, rows]
        dp *= p
        dp *= scale
        dq[batch, :, rows] += product(dp, k[batch, :, keys])
        dk[batch, :, keys] += product(dp.swapaxes(-1, -2), q[batch, :, rows])


@kernel
def cached_attention_kernel(qkv: Any, start: Any, *, out: Out, keys: Out, values: Out) -> None:
    """Shapes: qkv (B, T, 3C), start () -> out (B, T, C), keys, values (B, H, S, D), of which start + T are filled"""
    start = int(start)
    heads, stop = keys.array.shape[1], start + qkv.shape[1]
    q, k, v = _heads(qkv, heads)
    past_keys, past_values = keys.array, values.array
    past_keys[:, :, start:stop], past_values[:, :, start:stop] = k, v
    xp = devices.module(qkv)
    scores = product(q * q.shape[-1] ** -0.5, past_keys[:, :, :stop].swapaxes(-1, -2))
    scores[..., xp.arange(stop) > xp.arange(start, stop)[:, None]] = -xp.inf
    p = xp.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    out.view((*out.array.shape[:2], heads, q.shape[-1])).store(product(p, past_values[:, :, :stop]).swapaxes(1, 2))


def check(name: str, qkv: Tensor, heads: int) -> int:
    """The width C. Raises: ValueError naming the op unless qkv is (B, T, 3C) and the heads divide C."""
    if qkv.ndim != 3 or heads < 1 or qkv.shape[-1] % (3 * heads):
        raise ValueError(
            f"{name}: expected qkv (B, T, 3C) with C divisible by the number of heads; got {qkv.shape} "
            f"and {heads} heads. Pack queries, keys and values along the last axis"
        )
    return qkv.shape[-1] // 3


@op
def causal_attention(qkv: Tensor, heads: int) -> Any:
    """y = softmax(q kᵀ / sqrt(D)) v for each head, each position seeing itself and those before

    Shapes: qkv (B, T, 3C), queries, keys and values each (H, D) along the last axis -> y (B, T, C)
    Saves:  qkv, y, one number a row and head
    Source: Vaswani et al., arXiv 1706.03762
    """
    width = check("causal_attention", qkv, heads)
    b, t, _ = qkv.shape
    y = scratch.empty((b, t, width), like=qkv)
    lse = scratch.empty((b, heads, t), like=qkv, dtype=wide(qkv.dtype))
    attention_kernel(qkv, heads, out=Out(y), lse=Out(lse))
    return y, (qkv, y, lse, heads)


@causal_attention.vjp
def _(g: Tensor, saved: Any, dqkv: Any) -> None:
    attention_vjp(g, *saved, out=dqkv.out())


@op
def cached_attention(qkv: Tensor, keys: Tensor, values: Tensor, start: Indices) -> Any:
    """Causal attention of T new positions to all before them, whose keys and values are kept; no gradient

    Writes the new keys and values at `start` into `keys` and `values`. On a GPU the result is NaN if they lack room.
    Shapes: qkv (B, T, 3C), keys, values (B, H, S, D), start () an integer, start + T <= S -> y (B, T, C)
    """
    width = check("cached_attention", qkv, keys.shape[1])
    b, t, _ = qkv.shape
    if keys.shape != values.shape or keys.shape[0] != b or start.ndim:
        raise ValueError(
            "cached_attention: expected keys and values (B, H, S, D) and one number where to start; "
            f"got {keys.shape}, {values.shape} and {start.shape} for qkv {qkv.shape}"
        )
    if devices.of(start.array).kernels == devices.cpu.kernels:  # elsewhere, a look would wait for all that was launched
        launch.run("check_room", _check_room, (start.array, t, keys.shape))
    y = scratch.empty((b, t, width), like=qkv)
    cached_attention_kernel(qkv, start, out=Out(y), keys=Out(keys, 1), values=Out(values, 1))
    return y, ()


def _check_room(start: Any, count: int, shape: tuple[int, ...]) -> None:
    if not 0 <= start <= shape[2] - count:
        raise ValueError(
            f"cached_attention: expected keys and values (B, H, S, D) with room for {count} positions at {start}; "
            f"got {shape}"
        )


causal_attention.samples = [
    Sample(normal(2, 5, 12), 2),
    Sample(normal(1, 1, 6), 1),
    Sample(normal(1, 7, 18), 3),
    Sample(normal(3, 4, 3), 1),
    Sample(normal(1, 70, 6), 2),
]
cached_attention.samples = [
    Sample(normal(2, 3, 12), normal(2, 2, 8, 2), normal(2, 2, 8, 2), 4),
    Sample(normal(1, 1, 6), normal(1, 1, 1, 2), normal(1, 1, 1, 2), 0),
]
