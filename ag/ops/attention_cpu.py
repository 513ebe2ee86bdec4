"""Causal attention on the CPU, compiled: tiles of scores in a thread's own workspace, BLAS on heads where they lie.

Heads are stretches of columns in the packed (B, T, 3C), which BLAS reads by its leading dimension: nothing is
transposed or copied. What a tile's triangle leaves out is neither computed nor read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from ag.ops import attention_narrow_cpu as narrow
from ag.ops.attention import attention_kernel, attention_vjp, cached_attention_kernel
from ownt import scratch, threads
from ownt.blas_cpu import NORMAL, TRANSPOSED, address, gemm, hold_blas, release_blas
from ownt.compiled_cpu import OPTIONS, SMALL, compiled, exp, largest, prange
from ownt.kernel import Out

_QUERIES = 64  # of a tile
_FEW = 8  # new positions
_SMALL = 1 << 15  # scores up to which a second thread does not pay
_SMALL_NARROW = 1 << 13  # the same of narrow heads, each of whose scores takes longer
_SIZES = "int64, int64, int64, int64"  # B, T, H, D


@numba.njit(**OPTIONS)
def _softmax(row):
    """row = e^row / sum; returns the logarithm of the sum of e^row"""
    top = largest(row)
    total = row.dtype.type(0)
    for j in range(row.size):
        row[j] = exp(row[j] - top)
        total += row[j]
    scale = row.dtype.type(1) / total
    for j in range(row.size):
        row[j] *= scale
    return top + numpy.log(total)


@numba.njit(**OPTIONS)
def _clear(tile, seen):
    """Zeros where query i, which sees `seen` + i + 1 keys, sees none"""
    for i in range(tile.shape[0]):
        for j in range(seen + i + 1, seen + tile.shape[0]):
            tile[i, j] = tile.dtype.type(0)


@numba.njit(**OPTIONS)
def _scores(qkv, start, first, queries, width, depth, tile):
    """The tile's scaled scores: queries first ... of the head whose queries begin at `start`, and all keys they see"""
    pitch, scale = 3 * width, depth**-0.5
    gemm(
        NORMAL, TRANSPOSED, queries, first + queries, depth, scale, address(qkv, start + first * pitch), pitch,
        address(qkv, start + width), pitch, 0.0, address(tile, 0), tile.shape[1],
    )  # fmt: skip


@compiled(f"void(real[:, ::1], real[:, ::1], real[:, :, ::1], {_SIZES}, real[:, :, ::1])", parallel=True)
def attend(qkv, y, lse, b, t, heads, depth, tiles):
    """See attention_kernel; qkv and y as matrices, `tiles` a workspace for each part of the heads"""
    before = hold_blas()
    width, parts = heads * depth, tiles.shape[0]
    for part in prange(parts):
        for unit in range(part * b * heads // parts, (part + 1) * b * heads // parts):
            batch, head = unit // heads, unit % heads
            start = batch * t * 3 * width + head * depth
            for first in range(0, t, _QUERIES):
                queries = min(_QUERIES, t - first)
                tile = tiles[part, :queries]
                _scores(qkv, start, first, queries, width, depth, tile)
                for i in range(queries):
                    lse[batch, head, first + i] = _softmax(tile[i, : first + i + 1])
                _clear(tile, first)
                gemm(
                    NORMAL, NORMAL, queries, depth, first + queries, 1.0, address(tile, 0), tile.shape[1],
                    address(qkv, start + 2 * width), 3 * width,
                    0.0, address(y, (batch * t + first) * width + head * depth), width,
                )  # fmt: skip
    release_blas(before)


@numba.njit(**OPTIONS)
def _slopes(p, dp, lse, inner, scale):
    """A row of scores p becomes probabilities, a row dp of their gradients becomes the gradient of the scores"""
    for j in range(p.size):
        p[j] = exp(p[j] - lse)
    for j in range(p.size):
        dp[j] = p[j] * (dp[j] - inner) * scale


@compiled(
    "void(real[:, ::1], real[:, ::1], real[:, ::1], real[:, :, ::1], real[:, ::1], int64, "
    f"{_SIZES}, real[:, :, :, ::1])",
    parallel=True,
)
def attend_back(g, qkv, y, lse, dqkv, beta, b, t, heads, depth, tiles):
    """See attention_vjp. From the last tile to the first: the last sees all keys, and is the first to write."""
    before = hold_blas()
    width, parts = heads * depth, tiles.shape[0]
    pitch, scale = 3 * width, g.dtype.type(depth**-0.5)
    for part in prange(parts):
        for unit in range(part * b * heads // parts, (part + 1) * b * heads // parts):
            batch, head = unit // heads, unit % heads
            start = batch * t * pitch + head * depth
            for tile in range((t - 1) // _QUERIES, -1, -1):
                first = tile * _QUERIES
                queries = min(_QUERIES, t - first)
                keys = first + queries
                keep = 1.0 if keys < t else float(beta)
                p, dp = tiles[part, 0, :queries], tiles[part, 1, :queries]
                here = (batch * t + first) * width + head * depth
                ours = start + first * pitch
                _scores(qkv, start, first, queries, width, depth, p)
                gemm(
                    NORMAL, TRANSPOSED, queries, keys, depth, 1.0, address(g, here), width,
                    address(qkv, start + 2 * width), pitch, 0.0, address(dp, 0), dp.shape[1],
                )  # fmt: skip
                for i in range(queries):
                    row, column = batch * t + first + i, head * depth
                    inner = g.dtype.type(0)
                    for c in range(column, column + depth):
                        inner += g[row, c] * y[row, c]
                    seen = first + i + 1
                    _slopes(p[i, :seen], dp[i, :seen], lse[batch, head, first + i], inner, scale)
                _clear(p, first)
                _clear(dp, first)
                gemm(
                    TRANSPOSED, NORMAL, keys, depth, queries, 1.0, address(p, 0), p.shape[1],
                    address(g, here), width, keep, address(dqkv, start + 2 * width), pitch,
                )  # fmt: skip
                gemm(
                    TRANSPOSED, NORMAL, keys, depth, queries, 1.0, address(dp, 0), dp.shape[1],
                    address(qkv, ours), pitch, keep, address(dqkv, start + width), pitch,
                )  # fmt: skip
                gemm(
                    NORMAL, NORMAL, queries, depth, keys, 1.0, address(dp, 0), dp.shape[1],
                    address(qkv, start + width), pitch, float(beta), address(dqkv, ours), pitch,
                )  # fmt: skip
    release_blas(before)


@compiled(
    "void(real[:, :, ::1], int64[::1], real[:, :, ::1], real[:, :, :, ::1], real[:, :, :, ::1], real[:, ::1])",
    parallel=True,
)
def attend_cached(qkv, start, y, keys, values, scores):
    """See cached_attention_kernel; `scores` a workspace for each head"""
    b, t, width = y.shape
    heads, depth = keys.shape[1], keys.shape[3]
    scale = y.dtype.type(depth**-0.5)
    for unit in prange(b * heads):
        batch, head = unit // heads, unit % heads
        first, row = head * depth, scores[unit]
        for i in range(t):
            at = start[0] + i
            q, result = qkv[batch, i, first : first + depth], y[batch, i, first : first + depth]
            key, value = keys[batch, head, at], values[batch, head, at]
            for c in range(depth):
                key[c] = qkv[batch, i, width + first + c]
                value[c] = qkv[batch, i, 2 * width + first + c]
            for j in range(at + 1):
                past = keys[batch, head, j]
                total = y.dtype.type(0)
                for c in range(depth):
                    total += q[c] * past[c]
                row[j] = total * scale
            _softmax(row[: at + 1])
            for c in range(depth):
                result[c] = y.dtype.type(0)
            for j in range(at + 1):
                past, p = values[batch, head, j], row[j]
                for c in range(depth):
                    result[c] += p * past[c]


def _sizes(qkv: Any, heads: int) -> tuple[int, int, int, int]:
    b, t, packed = qkv.shape
    return b, t, heads, packed // 3 // heads


def _is_narrow(t: int, depth: int) -> bool:
    return t <= narrow.LONGEST and depth <= narrow.WIDEST


def _parts(b: int, t: int, heads: int, depth: int) -> tuple[int, bool]:
    """In how many parts the heads of all sequences are shared out, and whether there is enough to do for that."""
    wide = b * heads * t * t > (_SMALL_NARROW if _is_narrow(t, depth) else _SMALL)
    return min(threads.get_num_threads(), b * heads) if wide else 1, wide


def _matrix(array: Any) -> Any:
    return array.reshape(-1, array.shape[-1])


@attention_kernel.on("cpu", "float32", "float64")
def _(qkv: Any, heads: int, *, out: Out, lse: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    if out.beta or not qkv.size or not (qkv.flags.c_contiguous and y.flags.c_contiguous):
        return None
    sizes = b, t, _, depth = _sizes(qkv, heads)
    parts, wide = _parts(*sizes)
    if _is_narrow(t, depth):
        units = b * heads
        arguments = (_matrix(qkv), _matrix(y), lse.array.reshape(units, t), t, heads, depth, units, parts)
        return narrow.attend[y.dtype, wide], arguments
    tiles = scratch.empty((parts, min(_QUERIES, t), t), dtype=y.dtype, kind="workspace")
    return attend[y.dtype, wide], (_matrix(qkv), _matrix(y), lse.array, *sizes, tiles.array)


@attention_vjp.on("cpu", "float32", "float64")
def _(g: Any, qkv: Any, y: Any, lse: Any, heads: int, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    dqkv = out.array
    if not qkv.size or not all(array.flags.c_contiguous for array in (g, qkv, y, dqkv)):
        return None
    sizes = b, t, _, depth = _sizes(qkv, heads)
    parts, wide = _parts(*sizes)
    matrices = (_matrix(g), _matrix(qkv), _matrix(y))
    if _is_narrow(t, depth):
        units = b * heads
        rest = (lse.reshape(units, t), _matrix(dqkv), out.beta, t, heads, depth, units, parts)
        return narrow.attend_back[y.dtype, wide], (*matrices, *rest)
    tiles = scratch.empty((parts, 2, min(_QUERIES, t), t), dtype=dqkv.dtype, kind="workspace")
    arguments = (*matrices, lse, _matrix(dqkv), out.beta, *sizes, tiles.array)
    return attend_back[dqkv.dtype, wide], arguments


@cached_attention_kernel.on("cpu", "float32", "float64")
def _(qkv: Any, start: Any, *, out: Out, keys: Out, values: Out) -> tuple[Callable[..., None], tuple] | None:
    """For few positions; of many, matrix products are faster."""
    y = out.array
    arrays = (qkv, y, keys.array, values.array)
    if qkv.shape[1] > _FEW or start.dtype != numpy.int64 or not all(array.flags.c_contiguous for array in arrays):
        return None
    b, heads, length, _ = keys.array.shape
    scores = scratch.empty((b * heads, length), dtype=y.dtype, kind="workspace")
    arguments = (qkv, start.reshape(1), y, keys.array, values.array, scores.array)
    return attend_cached[y.dtype, keys.array.size > SMALL], arguments
