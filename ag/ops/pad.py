"""pad: margins around a tensor, or, with negative widths, less of it."""

from __future__ import annotations

from typing import Any

import ag
from ag import kernels
from ag.node import Node
from ag.op import composed, op
from ag.ops import arithmetic
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt.kernel import Out

MODES = ("constant", "reflect", "replicate", "circular")
Widths = tuple[tuple[int, int], ...]  # (before, after) of each axis


@op(integers=True)
def constant_pad(x: Tensor, widths: Widths, value: float = 0) -> Any:
    """y = x with margins of one value, `widths` (before, after) of each axis; negative widths cut off

    Shapes: x any -> y its sizes with the widths added
    Saves:  the widths
    """
    left = [size + min(a, 0) + min(b, 0) for size, (a, b) in zip(x.shape, widths, strict=False)]
    if len(widths) != x.ndim or min(left, default=0) < 0:
        raise ValueError(
            f"constant_pad: expected (before, after) for each axis, cutting off no more than there is; "
            f"got {widths} for shape {x.shape}"
        )
    arithmetic.check_number("constant_pad", value, x)
    y = scratch.empty(tuple(size + a + b for size, (a, b) in zip(x.shape, widths, strict=True)), like=x)
    kernels.fill(value, out=Out(y))
    inside, kept = _overlap(x.shape, widths)
    kernels.copy(x[kept], out=Out(y[inside]))
    return y, (x.shape, widths)


@constant_pad.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    inside, kept = _overlap(*saved)
    kernels.copy(g[inside], out=dx.out(zero=True)[kept])


def _overlap(shape: tuple[int, ...], widths: Widths) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the elements that stay lie in the result, and in x."""
    inside, kept = [], []
    for size, (before, after) in zip(shape, widths, strict=True):
        first, last = max(-before, 0), size - max(-after, 0)
        kept.append(slice(first, last))
        inside.append(slice(first + before, last + before))
    return tuple(inside), tuple(kept)


@composed
def pad(x: Any, widths: tuple[int, ...], mode: str = "constant", value: float = 0) -> Node:
    """x with margins: of one value or, by mode, "reflect", "replicate" or "circular", of its own elements

    widths: (before, after) of the last axis, then of the one before it, and so on; negative ones cut off.
    Shapes: x any -> its sizes with the widths added
    Raises: ValueError for widths that do not fit
    """
    pairs = _pairs(x.shape, tuple(widths), mode)
    if mode == "constant":
        return constant_pad(x, pairs, value)
    for axis, (size, (before, after)) in enumerate(zip(x.shape, pairs, strict=True)):
        if before or after:
            places = [_source(i, size, before, after, mode) for i in range(-before, size + after)]
            x = ag.index(x, ((slice(None),) * axis + (places,)))
    return x


def _pairs(shape: tuple[int, ...], widths: tuple[int, ...], mode: str) -> Widths:
    """(before, after) of each axis, the first one first."""
    if mode not in MODES:
        raise ValueError(f"pad: expected mode to be one of {', '.join(MODES)}; got {mode!r}")
    if len(widths) % 2 or len(widths) > 2 * len(shape):
        raise ValueError(
            f"pad: expected two widths an axis, the last axis first, for at most {len(shape)} axes; got {widths}"
        )
    given = tuple(zip(widths[::2], widths[1::2], strict=True))[::-1]
    pairs = ((0, 0),) * (len(shape) - len(given)) + given
    for size, pair in zip(shape, pairs, strict=True):
        left = size + min(pair[0], 0) + min(pair[1], 0)
        most = {"reflect": size - 1, "circular": left, "replicate": max(pair) if size else 0}.get(mode, max(pair))
        if left < 0 or max(pair) > max(most, 0):
            raise ValueError(
                f"pad: expected widths that cut off no more than there is and, unless the mode is constant, add no "
                f"more than there is to take; got {widths} for shape {shape} in mode {mode}"
            )
    return pairs


def _source(i: int, size: int, before: int, after: int, mode: str) -> int:
    """The place along an axis of `size` from which place i, which may lie outside, is filled."""
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    if mode == "reflect":
        return -i if i < 0 else 2 * (size - 1) - i if i >= size else i
    first = max(-before, 0)  # what is cut off does not come round again
    return first + (i - first) % (size + min(before, 0) + min(after, 0))


constant_pad.samples = [
    Sample(normal(2, 3), ((0, 0), (1, 2))),
    Sample(normal(2, 3), ((1, 0), (2, 1)), 1.5),
    Sample(normal(4, 3), ((-1, 2), (1, -2))),
    Sample(normal(3), ((-2, -1),)),
    Sample(normal(), ()),
]
