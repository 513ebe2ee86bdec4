"""Causal attention of short and narrow heads on the CPU: one lane of the vector units for each query or key.

Matrix products of a few numbers cost more in calls than in arithmetic. Here a vector holds the scores of one key with
as many queries as there are lanes, so that maxima, sums and products go along lanes, none across them.
"""

from __future__ import annotations

import numpy

from ownt.compiled_cpu import compiled, prange
from ownt.lanes_cpu import each, fill, from_lane, gather, lanes, larger, load, scatter, store
from ownt.lanes_math_cpu import exp, log

LONGEST, WIDEST = 32, 16  # sequences and heads that it is for: beyond, matrix products are faster
_MOST = 16  # lanes that there may be


def forward_size(t: int, depth: int) -> int:
    """Numbers of workspace that `attend` takes for each part."""
    return (depth + t) * _MOST


def backward_size(t: int, depth: int) -> int:
    """Numbers of workspace that `attend_back` takes for each part."""
    return (2 * depth + 2 * t + -(-t // _MOST) + 1) * _MOST


@compiled("void(real[:, ::1], real[:, ::1], real[:, ::1], int64, int64, int64, int64, real[:, ::1])", parallel=True)
def attend(qkv, y, lse, t, heads, depth, units, work):
    """See attention_kernel; qkv and y as matrices, lse as (units, t), where a unit is one head of one sequence"""
    width, pitch, parts = heads * depth, 3 * heads * depth, work.shape[0]
    for part in prange(parts):
        rows = work[part]
        n = lanes(rows)
        none, lowest, scale = fill(rows, 0), fill(rows, -numpy.inf), fill(rows, depth**-0.5)
        scores = depth * n  # where they lie; queries come first
        for unit in range(part * units // parts, (part + 1) * units // parts):
            above, left = unit // heads * t, unit % heads * depth
            qs = above * pitch + left
            ks, vs = qs + width, qs + 2 * width
            for first in range(0, t, n):
                last = min(first + n, t)
                count = last - first
                for d in range(depth):
                    store(rows, d * n, gather(qkv, qs + first * pitch + d, pitch, count) * scale)
                top, total = lowest, none
                for j in range(last):
                    score = none
                    for d in range(depth):
                        score = score + load(rows, d * n) * each(qkv, ks + j * pitch + d)
                    score = from_lane(j - first, score, lowest)
                    top = larger(score, top)
                    store(rows, scores + j * n, score)
                for j in range(last):
                    power = exp(load(rows, scores + j * n) - top)
                    total = total + power
                    store(rows, scores + j * n, power)
                for d in range(depth):
                    value = none
                    for j in range(last):
                        value = value + load(rows, scores + j * n) * each(qkv, vs + j * pitch + d)
                    scatter(y, (above + first) * width + left + d, width, count, value / total)
                scatter(lse, unit * t + first, 1, count, top + log(total))


@compiled(
    "void(real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], int64, int64, int64, int64, int64, "
    "real[:, ::1])",
    parallel=True,
)
def attend_back(g, qkv, y, lse, dqkv, beta, t, heads, depth, units, work):
    """See attention_vjp; matrices, lse as (units, t). First a lane for each query, then one for each key."""
    width, pitch, parts = heads * depth, 3 * heads * depth, work.shape[0]
    for part in prange(parts):
        rows = work[part]
        n = lanes(rows)
        none, scale = fill(rows, 0), fill(rows, depth**-0.5)
        others, slopes, powers, inners = depth * n, 2 * depth * n, (2 * depth + t) * n, (2 * depth + 2 * t) * n
        for unit in range(part * units // parts, (part + 1) * units // parts):
            above, left = unit // heads * t, unit % heads * depth
            qs, gs = above * pitch + left, above * width + left
            ks, vs = qs + width, qs + 2 * width
            for first in range(0, t, n):
                last = min(first + n, t)
                count = last - first
                inner = none
                for d in range(depth):
                    slope = gather(g, gs + first * width + d, width, count)
                    store(rows, d * n, gather(qkv, qs + first * pitch + d, pitch, count) * scale)
                    store(rows, others + d * n, slope)
                    inner = inner + slope * gather(y, gs + first * width + d, width, count)
                store(rows, inners + first, inner)
                low = gather(lse, unit * t + first, 1, count)
                for j in range(last):
                    score, slope = none, none
                    for d in range(depth):
                        score = score + load(rows, d * n) * each(qkv, ks + j * pitch + d)
                        slope = slope + load(rows, others + d * n) * each(qkv, vs + j * pitch + d)
                    power = from_lane(j - first, exp(score - low), none)
                    store(rows, slopes + j * n, power * (slope - inner))
                for d in range(depth):
                    at = qs + first * pitch + d
                    value = none
                    for j in range(last):
                        value = value + load(rows, slopes + j * n) * each(qkv, ks + j * pitch + d)
                    value = value * scale
                    if beta:
                        value = value + gather(dqkv, at, pitch, count)
                    scatter(dqkv, at, pitch, count, value)
            for first in range(0, t, n):
                count = min(n, t - first)
                for d in range(depth):
                    store(rows, d * n, gather(qkv, ks + first * pitch + d, pitch, count) * scale)
                    store(rows, others + d * n, gather(qkv, vs + first * pitch + d, pitch, count))
                for i in range(first, t):
                    score, slope = none, none
                    for d in range(depth):
                        score = score + load(rows, d * n) * each(qkv, qs + i * pitch + d)
                        slope = slope + load(rows, others + d * n) * each(g, gs + i * width + d)
                    power = from_lane(i + 1 - first, none, exp(score - each(lse, unit * t + i)))
                    store(rows, powers + i * n, power)
                    store(rows, slopes + i * n, power * (slope - each(rows, inners + i)))
                for d in range(depth):
                    at = ks + first * pitch + d
                    key, value = none, none
                    for i in range(first, t):
                        key = key + load(rows, slopes + i * n) * each(qkv, qs + i * pitch + d)
                        value = value + load(rows, powers + i * n) * each(g, gs + i * width + d)
                    key = key * scale
                    if beta:
                        key = key + gather(dqkv, at, pitch, count)
                        value = value + gather(dqkv, at + width, pitch, count)
                    scatter(dqkv, at, pitch, count, key)
                    scatter(dqkv, at + width, pitch, count, value)
