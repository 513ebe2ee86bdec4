"""Causal attention of many short and narrow heads on the CPU: one lane of the vector units for each head.

Matrix products of a few numbers cost more in calls than in arithmetic. Here the same step of up to _LANES heads is
done at once: their numbers are brought side by side first, so that every loop runs over heads.
"""

from __future__ import annotations

import numpy

from ownt.compiled_cpu import blocks, compiled, exp, prange

LANES = 64  # heads at a time
LONGEST, WIDEST = 32, 16  # sequences and heads that it is for: beyond, matrix products are faster


def forward_rows(t: int, depth: int) -> int:
    """Rows of workspace, of LANES numbers each, that `attend` takes."""
    return 3 * t * depth + t + depth + 2


def backward_rows(t: int, depth: int) -> int:
    """Rows of workspace, of LANES numbers each, that `attend_back` takes."""
    return 7 * t * depth + 2 * t + 2


@compiled("void(real[:, ::1], real[:, ::1], real[:, ::1], int64, int64, int64, int64, real[:, :, ::1])", parallel=True)
def attend(qkv, y, lse, t, heads, depth, units, work):
    """See attention_kernel; qkv and y as matrices, lse as (units, t), where a unit is one head of one sequence"""
    zero, scale, width = qkv.dtype.type(0), qkv.dtype.type(depth**-0.5), heads * depth
    parts, size, stretch = work.shape[0], t * depth, blocks(units, LANES)
    for part in prange(parts):
        rows = work[part]
        q, k, v = rows[:size], rows[size : 2 * size], rows[2 * size : 3 * size]
        scores, sums = rows[3 * size : 3 * size + t], rows[3 * size + t : 3 * size + t + depth]
        top, total = rows[3 * size + t + depth], rows[3 * size + t + depth + 1]
        for block in range(part * stretch // parts, (part + 1) * stretch // parts):
            first = block * LANES
            lanes = min(LANES, units - first)
            for i in range(t):
                for lane in range(lanes):
                    row = (first + lane) // heads * t + i
                    column = (first + lane) % heads * depth
                    for d in range(depth):
                        q[i * depth + d, lane] = qkv[row, column + d] * scale
                        k[i * depth + d, lane] = qkv[row, width + column + d]
                        v[i * depth + d, lane] = qkv[row, 2 * width + column + d]
            for i in range(t):
                for j in range(i + 1):
                    score = scores[j]
                    for d in range(depth):
                        a, b = q[i * depth + d], k[j * depth + d]
                        if d == 0:
                            for lane in range(lanes):
                                score[lane] = a[lane] * b[lane]
                        else:
                            for lane in range(lanes):
                                score[lane] += a[lane] * b[lane]
                    for lane in range(lanes):
                        top[lane] = score[lane] if j == 0 or score[lane] > top[lane] else top[lane]
                for lane in range(lanes):
                    total[lane] = zero
                for j in range(i + 1):
                    score = scores[j]
                    for lane in range(lanes):
                        power = exp(score[lane] - top[lane])
                        score[lane] = power
                        total[lane] += power
                for d in range(depth):
                    result = sums[d]
                    for lane in range(lanes):
                        result[lane] = zero
                    for j in range(i + 1):
                        p, value = scores[j], v[j * depth + d]
                        for lane in range(lanes):
                            result[lane] += p[lane] * value[lane]
                for lane in range(lanes):
                    row = (first + lane) // heads * t + i
                    column = (first + lane) % heads * depth
                    lse[first + lane, i] = top[lane] + numpy.log(total[lane])
                    for d in range(depth):
                        y[row, column + d] = sums[d, lane] / total[lane]


@compiled(
    "void(real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], int64, int64, int64, int64, int64, "
    "real[:, :, ::1])",
    parallel=True,
)
def attend_back(g, qkv, y, lse, dqkv, beta, t, heads, depth, units, work):
    """See attention_vjp; matrices, lse as (units, t)"""
    zero, scale, width = qkv.dtype.type(0), qkv.dtype.type(depth**-0.5), heads * depth
    parts, size, stretch = work.shape[0], t * depth, blocks(units, LANES)
    for part in prange(parts):
        rows = work[part]
        q, k, v, slope = rows[:size], rows[size : 2 * size], rows[2 * size : 3 * size], rows[3 * size : 4 * size]
        dq, dk, dv = rows[4 * size : 5 * size], rows[5 * size : 6 * size], rows[6 * size : 7 * size]
        tops, inner = rows[7 * size : 7 * size + t], rows[7 * size + t : 7 * size + 2 * t]
        p, dp = rows[7 * size + 2 * t], rows[7 * size + 2 * t + 1]
        for block in range(part * stretch // parts, (part + 1) * stretch // parts):
            first = block * LANES
            lanes = min(LANES, units - first)
            for i in range(t):
                for lane in range(lanes):
                    row = (first + lane) // heads * t + i
                    column = (first + lane) % heads * depth
                    along = zero
                    for d in range(depth):
                        along += g[row, column + d] * y[row, column + d]
                    for d in range(depth):
                        q[i * depth + d, lane] = qkv[row, column + d] * scale
                        k[i * depth + d, lane] = qkv[row, width + column + d]
                        v[i * depth + d, lane] = qkv[row, 2 * width + column + d]
                        slope[i * depth + d, lane] = g[row, column + d]
                    tops[i, lane] = lse[first + lane, i]
                    inner[i, lane] = along
            for row in range(4 * size, 7 * size):
                result = rows[row]
                for lane in range(lanes):
                    result[lane] = zero
            for i in range(t):
                low, along_row = tops[i], inner[i]
                for j in range(i + 1):
                    for d in range(depth):
                        a, b, c, e = q[i * depth + d], k[j * depth + d], slope[i * depth + d], v[j * depth + d]
                        if d == 0:
                            for lane in range(lanes):
                                p[lane] = a[lane] * b[lane]
                                dp[lane] = c[lane] * e[lane]
                        else:
                            for lane in range(lanes):
                                p[lane] += a[lane] * b[lane]
                                dp[lane] += c[lane] * e[lane]
                    for lane in range(lanes):
                        power = exp(p[lane] - low[lane])
                        p[lane] = power
                        dp[lane] = power * (dp[lane] - along_row[lane])
                    for d in range(depth):
                        a, b, c = q[i * depth + d], k[j * depth + d], slope[i * depth + d]
                        to_q, to_k, to_v = dq[i * depth + d], dk[j * depth + d], dv[j * depth + d]
                        for lane in range(lanes):
                            to_q[lane] += dp[lane] * b[lane]
                            to_k[lane] += dp[lane] * a[lane]
                            to_v[lane] += p[lane] * c[lane]
            for i in range(t):
                for lane in range(lanes):
                    row = (first + lane) // heads * t + i
                    column = (first + lane) % heads * depth
                    for d in range(depth):
                        at = i * depth + d
                        if beta:
                            dqkv[row, column + d] += dq[at, lane] * scale
                            dqkv[row, width + column + d] += dk[at, lane]
                            dqkv[row, 2 * width + column + d] += dv[at, lane]
                        else:
                            dqkv[row, column + d] = dq[at, lane] * scale
                            dqkv[row, width + column + d] = dk[at, lane]
                            dqkv[row, 2 * width + column + d] = dv[at, lane]
