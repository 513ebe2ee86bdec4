"""`rule`, which makes a kernel of an optimizer's update; half precision takes float32, in state and arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ownt import device as devices
from ownt.kernel import Kernel, Out, in_pieces, kernel

MASTER = "master"  # the state in which weights of half precision are kept in float32


def rule(update: Callable[..., None]) -> Kernel:
    """The kernel of `update(g, *numbers, *flags, out, **state)`, an optimizer's, for many parameters at once.

    `kernel(grads, numbers, *flags, out=[...], half=[...] or None, ...)`: each row of `numbers` begins with a factor
    by which the gradient, converted to the dtype of `out`, is multiplied first. For weights of half precision, `half`,
    `out` is their float32 master: it follows them where somebody else wrote to them, and they are written from it.
    The update reads what it writes: its destinations have beta 1, which says that what is there counts.
    """

    def one(g: Any, factor: float, *settings: Any, out: Out, half: Out | None, **state: Out) -> None:
        g = g.astype(out.array.dtype, copy=False)
        if factor != 1:
            g = g * factor
        if half is not None:
            others = out.array.astype(half.array.dtype) != half.array
            devices.module(g).copyto(out.array, half.array, where=others)
        update(g, *settings, out=out, **state)
        if half is not None:
            half.array[...] = out.array

    @functools.wraps(update)
    def reference(grads: tuple[Any, ...], numbers: Any, *flags: bool, **outs: list[Out] | None) -> None:
        for i, (g, row) in enumerate(zip(grads, numbers.tolist(), strict=True)):
            in_pieces(one, [g, *row, *flags], {name: None if part is None else part[i] for name, part in outs.items()})

    return kernel(reference, casts=True)
