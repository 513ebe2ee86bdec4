"""Gradients that are sums of many terms: of half precision they are added up in float32, and rounded once."""

from __future__ import annotations

from typing import final

from ag import kernels
from ag.slot import GradSlot
from ownt import Tensor, memory
from ownt.dtype import wide
from ownt.kernel import Out


@final
class summed:
    """A slot that so many terms are to be added to: `with summed(dw, terms) as dw: ... out=dw.out() ...`; None for no
    slot.

    It stands for the slot, with a workspace in float32 of its shape where its own dtype is of half precision and there
    are several terms.
    """

    __slots__ = ("is_exact", "slot", "total")

    def __init__(self, slot: GradSlot | None, terms: int) -> None:
        self.slot = slot
        self.is_exact = slot is None or terms == 1 or wide(slot.dtype) == slot.dtype
        self.total: Tensor | None = None

    def __enter__(self) -> summed | GradSlot | None:
        return self.slot if self.is_exact else self

    def out(self) -> Out:
        """Where the next term goes."""
        if self.total is not None:
            return Out(self.total, 1)
        slot: GradSlot = self.slot  # type: ignore[assignment]
        self.total = memory.scratch(slot.device).empty(slot.shape, wide(slot.dtype), "workspace")
        return Out(self.total)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.total is not None and error is None:
            kernels.cast(self.total, out=self.slot.out())  # type: ignore[union-attr]
        self.total = None
