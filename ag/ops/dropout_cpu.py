"""dropout on the CPU, compiled: the same bits as the reference's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from ag.ops.dropout import DIGITS, dropout_kernel, kept
from ownt import random
from ownt.compiled_cpu import OPTIONS, PIECE, SMALL, blocks, compiled, flat, prange
from ownt.kernel import Out

_GAMMA = numpy.uint64(random._GAMMA)
_UNUSED = numpy.uint64(64 - DIGITS)


@numba.njit(**OPTIONS)
def bits(key, i):
    """Output number i of the stream of a key; see ownt.random.bits"""
    z = numpy.uint64(i + 1) * _GAMMA + key
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return z ^ (z >> numpy.uint64(31))


@compiled("void(real[::1], uint64[::1], uint64, real, real[::1], int64)", parallel=True)
def drop(x, position, least, factor, y, beta):
    """y = factor x where the number drawn is `least` or more, else 0

    Two neighbours share an output, which each computes: only that vectorises, and takes 0.4 times as long.
    """
    key, offset = position[0], numpy.int64(position[1])
    for part in prange(blocks(x.size, PIECE)):
        first = part * PIECE  # which is even
        a, b = x[first : first + PIECE], y[first : first + PIECE]
        start = offset + first // 2
        for i in range(a.size):
            drawn = bits(key, start + (i >> 1)) << numpy.uint64((i & 1) << 5) >> _UNUSED
            value = a[i] * factor if drawn >= least else a.dtype.type(0)
            b[i] = value + (b[i] if beta else a.dtype.type(0))


@dropout_kernel.on("cpu", "float32", "float64")
def _(x: Any, p: float, position: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    vectors = flat(x, out.array)
    if vectors is None or not 0 < p < 1:
        return None
    least, factor = kept(p)
    return drop[x.dtype, x.size > SMALL], (vectors[0], position, least, factor, vectors[1], out.beta)
