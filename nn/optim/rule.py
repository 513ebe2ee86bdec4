"""`rule`, which makes a kernel of an optimizer's update; half precision takes float32, in state and arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, final

from ownt import device as devices
from ownt import random
from ownt.dtype import bfloat16
from ownt.half import wide_out
from ownt.kernel import Kernel, Out, in_pieces, kernel

MASTER = "master"  # the state in which weights of half precision are kept in float32


def rule(update: Callable[..., None]) -> Kernel:
    """The kernel of `update(g, *numbers, *flags, out, **state)`, an optimizer's, for many parameters at once.

    `kernel(grads, numbers, position, *flags, out=[...], half=[...] or None, ...)`: each row of `numbers` begins with a
    factor by which the gradient, converted to the dtype that is computed in, is multiplied first. For weights of half
    precision, `half`, `out` is their float32 master: it follows them where somebody else wrote to them, and they are
    written from it. Weights of bfloat16 may instead be `out` themselves, and `position` where in the random stream
    (see Generator.take) the numbers begin by which they are rounded up or down, one for each weight.
    The update reads what it writes: its destinations have beta 1, which says that what is there counts.
    """

    def one(
        g: Any, draws: _Draws | None, factor: float, *settings: Any, out: Out, half: Out | None, **state: Out
    ) -> None:
        now = out if draws is None else wide_out(out)
        g = g.astype(now.array.dtype, copy=False)
        if factor != 1:
            g = g * factor
        if half is not None:
            others = now.array.astype(half.array.dtype) != half.array
            devices.module(g).copyto(now.array, half.array, where=others)
        update(g, *settings, out=now, **state)
        if half is not None:
            half.array[...] = now.array
        if draws is not None:
            out.array[...] = rounded(now.array, draws.take(now.array))

    @functools.wraps(update)
    def reference(grads: tuple[Any, ...], numbers: Any, position: Any, *flags: bool, **outs: list[Out] | None) -> None:
        draws = None if position is None else _Draws(position)
        for i, (g, row) in enumerate(zip(grads, numbers.tolist(), strict=True)):
            parts = {name: None if part is None else part[i] for name, part in outs.items()}
            in_pieces(one, [g, draws, *row, *flags], parts)

    return kernel(reference, casts=True)


@final
class _Draws:
    """Random bits for one weight after the other."""

    def __init__(self, position: Any) -> None:
        self.key, self.next = map(int, position.tolist())

    def take(self, like: Any) -> Any:
        """The next, of the shape of an array, uint64."""
        first, self.next = self.next, self.next + like.size
        return random.bits(devices.module(like), self.key, first, like.size).reshape(like.shape)


def rounded(x: Any, drawn: Any) -> Any:
    """Numbers of float32 in bfloat16, rounded up or down so that they are right on average.

    The first 16 of the random bits decide: a number that lies the share s of the way from one number of bfloat16 to
    the next becomes the next with probability s.
    """
    xp = devices.module(x)
    moved = x.view("uint32") + (drawn >> xp.uint64(48)).astype("uint32")
    cut = (moved >> xp.uint32(16)).astype("uint16").view(bfloat16)
    return xp.where(xp.isfinite(x), cut, x.astype(bfloat16))
