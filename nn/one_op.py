"""Modules that are one op and its options."""

from __future__ import annotations

from typing import Any, ClassVar

from ag import Node, Op
from nn.module import Module
from ownt import Tensor


class OneOp(Module):
    """An op as a module. Subclasses name the op and those of its options that are attributes."""

    op: ClassVar[Op]
    options: ClassVar[tuple[str, ...]] = ()

    def forward(self, *tensors: Any) -> Node:
        return self.op(*tensors, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        values = ((name, getattr(self, name)) for name in self.options)
        return ", ".join(f"{name}={value!r}" for name, value in values if not isinstance(value, (Tensor, type(None))))
