"""Causal attention of short and narrow heads on the CPU: one lane of the vector units for each query or key.

Matrix products of a few numbers cost more in calls than in arithmetic. Here a vector holds the scores of one key with
as many queries as there are lanes, so that maxima, sums and products go along lanes, none across them.
"""

from __future__ import annotations

import numpy

from ownt.compiled_cpu import compiled, prange
from ownt.lanes_columns_cpu import load_columns, store_columns, transpose, workspace
from ownt.lanes_cpu import each, fill, from_lane, lanes, larger, load, load_some, store, store_some
from ownt.lanes_math_cpu import exp, log

LONGEST, WIDEST = 32, 16  # sequences and heads that it is for: beyond, matrix products are faster
_LANES = (8, 16)  # that there may be
_FORWARD = max((WIDEST + LONGEST) * n for n in _LANES)  # numbers of workspace
_BACKWARD = max((3 * WIDEST + 2 * n + LONGEST // n * 2 * (WIDEST + n)) * n for n in _LANES)


@compiled("void(real[:, ::1], real[:, ::1], real[:, ::1], int64, int64, int64, int64, int64)", parallel=True)
def attend(qkv, y, lse, t, heads, depth, units, parts):
    """See attention_kernel; qkv and y as matrices, lse as (units, t), where a unit is one head of one sequence"""
    width, pitch = heads * depth, 3 * heads * depth
    for part in prange(parts):
        rows = workspace(qkv, _FORWARD)
        n = lanes(rows)
        none, lowest, scale = fill(rows, 0), fill(rows, -numpy.inf), fill(rows, depth**-0.5)
        scores = depth * n  # where they lie; queries, and then results, come first
        for unit in range(part * units // parts, (part + 1) * units // parts):
            above, left = unit // heads * t, unit % heads * depth
            qs = above * pitch + left
            ks, vs = qs + width, qs + 2 * width
            for first in range(0, t, n):
                last = min(first + n, t)
                count = last - first
                load_columns(rows, 0, qkv, qs + first * pitch, pitch, count, depth)
                top, total = lowest, none
                for j in range(last):
                    score = none
                    for d in range(depth):
                        score = score + load(rows, d * n) * each(qkv, ks + j * pitch + d)
                    score = from_lane(j - first, score * scale, lowest)
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
                    store(rows, d * n, value / total)
                store_columns(y, (above + first) * width + left, width, count, depth, 0, rows, 0)
                store_some(lse, unit * t + first, count, top + log(total))


@compiled(
    "void(real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], int64, int64, int64, int64, int64, "
    "int64)",
    parallel=True,
)
def attend_back(g, qkv, y, lse, dqkv, beta, t, heads, depth, units, parts):
    """See attention_vjp; matrices, lse as (units, t). A lane for each query; for gradients of keys one for each key."""
    width, pitch = heads * depth, 3 * heads * depth
    for part in prange(parts):
        rows = workspace(qkv, _BACKWARD)
        n = lanes(rows)
        none, scale = fill(rows, 0), fill(rows, depth**-0.5)
        blocks, pair = -(-t // n), 2 * depth * n  # of keys; their gradients and those of values
        others, results, sums = depth * n, 2 * depth * n, 3 * depth * n  # where what lies, queries first
        slopes = sums + blocks * pair
        powers = slopes + blocks * n * n
        turned = powers + blocks * n * n
        for unit in range(part * units // parts, (part + 1) * units // parts):
            above, left = unit // heads * t, unit % heads * depth
            qs, gs = above * pitch + left, above * width + left
            ks, vs = qs + width, qs + 2 * width
            for at in range(sums, slopes, n):
                store(rows, at, none)
            for first in range(0, t, n):
                last = min(first + n, t)
                count = last - first
                load_columns(rows, 0, qkv, qs + first * pitch, pitch, count, depth)
                load_columns(rows, others, g, gs + first * width, width, count, depth)
                load_columns(rows, results, y, gs + first * width, width, count, depth)
                inner = none
                for d in range(depth):
                    inner = inner + load(rows, others + d * n) * load(rows, results + d * n)
                low = load_some(lse, unit * t + first, count)
                for j in range(last):
                    score, slope = none, none
                    for d in range(depth):
                        score = score + load(rows, d * n) * each(qkv, ks + j * pitch + d)
                        slope = slope + load(rows, others + d * n) * each(qkv, vs + j * pitch + d)
                    power = from_lane(j - first, exp(score * scale - low), none)
                    store(rows, powers + j * n, power)
                    store(rows, slopes + j * n, power * (slope - inner))
                for d in range(depth):
                    value = none
                    for j in range(last):
                        value = value + load(rows, slopes + j * n) * each(qkv, ks + j * pitch + d)
                    store(rows, results + d * n, value * scale)
                store_columns(dqkv, qs + first * pitch, pitch, count, depth, beta, rows, results)
                for block in range(first // n + 1):
                    transpose(rows, turned, n, rows, slopes + block * n * n, n)
                    transpose(rows, turned + n * n, n, rows, powers + block * n * n, n)
                    for d in range(depth):
                        at = sums + block * pair + d * n
                        key, value = load(rows, at), load(rows, at + depth * n)
                        for i in range(count):
                            key = key + load(rows, turned + i * n) * each(qkv, qs + (first + i) * pitch + d)
                            value = value + load(rows, turned + (n + i) * n) * each(g, gs + (first + i) * width + d)
                        store(rows, at, key)
                        store(rows, at + depth * n, value)
            for block in range(blocks):
                first, at = block * n, sums + block * pair
                count = min(n, t - first)
                for d in range(depth):
                    store(rows, at + d * n, load(rows, at + d * n) * scale)
                store_columns(dqkv, ks + first * pitch, pitch, count, depth, beta, rows, at)
                store_columns(dqkv, vs + first * pitch, pitch, count, depth, beta, rows, at + depth * n)
