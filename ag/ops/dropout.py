"""dropout from counter-based random bits: no mask is kept, the gradient draws the same bits again."""

from __future__ import annotations

from typing import Any

from ag.op import op
from ag.sample import Sample, normal
from ownt import Tensor, random, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel, pieces


@kernel
def dropout_kernel(x: Any, p: float, position: Any, *, out: Out) -> None:
    """out = x / (1 - p) where the element's random number is at least p, else 0; position: see Generator.take."""
    if not p:
        out.store(x)
        return
    xp = devices.module(x)
    key, offset = map(int, position)
    factor = 1 / (1 - p) if p < 1 else 0.0
    for part, first in pieces(x.shape):
        shape = x[part].shape
        kept = random.uniform(xp, key, offset + first, x[part].size, digits=24).reshape(shape) >= p
        out[part].store(xp.where(kept, x[part] * factor, 0))


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
    draw = p, random.generator.take(x.size if p else 0)
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
