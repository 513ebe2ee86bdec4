"""dropout from counter-based random bits: no mask is kept, the gradient draws the same bits again."""

from __future__ import annotations

import math
from typing import Any

from ag.op import op
from ag.sample import Sample, normal
from ownt import Tensor, random, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel, pieces

DIGITS = 24  # bits of a number drawn, so that a float32 holds it; an output of the generator gives two


@kernel
def dropout_kernel(x: Any, p: float, position: Any, *, out: Out) -> None:
    """out = x / (1 - p) where the element's random number is at least p, else 0; position: see Generator.take."""
    if not p:
        out.store(x)
        return
    xp = devices.module(x)
    key, offset = map(int, position)
    least, factor = kept(p)
    for part, first in pieces(x.shape):
        shape = x[part].shape
        numbers = _numbers(xp, key, offset, first, x[part].size).reshape(shape)
        out[part].store(xp.where(numbers >= least, x[part] * factor, 0))


def kept(p: float) -> tuple[int, float]:
    """(the least number of DIGITS bits with which an element is kept, the factor it is then scaled by)"""
    return math.ceil(p * (1 << DIGITS)), 1 / (1 - p) if p < 1 else 0.0


def _numbers(xp: Any, key: int, offset: int, first: int, count: int) -> Any:
    """Numbers first ... first + count - 1 of those from `offset` on: of each output its highest bits, then others."""
    skipped = first % 2
    drawn = random.bits(xp, key, offset + first // 2, (skipped + count + 1) // 2)
    low = (drawn >> xp.uint64(32 - DIGITS)) & xp.uint64((1 << DIGITS) - 1)
    return xp.stack((drawn >> xp.uint64(64 - DIGITS), low), 1).reshape(-1)[skipped : skipped + count]


@op
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Any:
    """y = x with each element zeroed with probability p, the rest scaled by 1 / (1 - p); a copy if not training

    Shapes: x any -> y the same
    Saves:  where in the random stream it drew
    Source: Srivastava et al., JMLR 15, 2014
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected a probability p from 0 to 1; got {p}")
    if not training:
        p = 0.0
    draw = p, random.generator.take((x.size + 1) // 2 if p else 0)
    y = scratch.empty(x.shape, like=x)
    dropout_kernel(x, *draw, out=Out(y))
    return y, draw


@dropout.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    dropout_kernel(g, *saved, out=dx.out())


dropout.samples = [
    Sample(normal(3, 4), 0.5),
    Sample(normal(20), p=0.1),
    Sample(normal(5), 0.5, training=False),
    Sample(normal(3), 1.0),
]
