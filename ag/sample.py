"""Samples: descriptions of arguments from which tests make the arguments of an op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import ownt
from ag.node import Node, constant


@final
@dataclass(frozen=True)
class Spec:
    """A tensor to be made: its shape and what it is filled with."""

    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    integer: bool = False
    fixed: bool = False

    def make(self, dtype: Any) -> ownt.Tensor | Node:
        made = self._tensor(dtype)
        return constant(made) if self.fixed else made

    def _tensor(self, dtype: Any) -> ownt.Tensor:
        if self.integer:
            return ownt.randint(int(self.low or 0), int(self.high or 1), self.shape)
        if self.low is None or self.high is None:
            return ownt.randn(self.shape, dtype=dtype)
        made = ownt.rand(self.shape, dtype=dtype)
        made *= self.high - self.low
        made += self.low
        return made


def normal(*shape: int) -> Spec:
    """Standard normal numbers."""
    return Spec(shape)


def between(low: float, high: float, *shape: int) -> Spec:
    """Numbers uniform in [low, high)."""
    return Spec(shape, low, high)


def fixed(low: float, high: float, *shape: int) -> Spec:
    """Numbers uniform in [low, high) for an argument that has no gradient: a constant."""
    return Spec(shape, low, high, fixed=True)


def integers(high: int, *shape: int) -> Spec:
    """Integers from 0 to high - 1."""
    return Spec(shape, 0, high, integer=True)


@final
class Sample:
    """One call of an op: its arguments, tensors given as Specs, in lists where the op takes lists."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args = args
        self.options = options

    def make(self, dtype: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with tensors in place of Specs."""
        return [_make(arg, dtype) for arg in self.args], self.options

    def __repr__(self) -> str:
        parts = [_text(arg) for arg in self.args] + [f"{k}={v}" for k, v in self.options.items()]
        return "-".join(parts)


def _make(arg: Any, dtype: Any) -> Any:
    if isinstance(arg, list):
        return [_make(part, dtype) for part in arg]
    return arg.make(dtype) if isinstance(arg, Spec) else arg


def _text(arg: Any) -> str:
    if isinstance(arg, list):
        return "+".join(_text(part) for part in arg)
    return "x".join(map(str, arg.shape)) or "scalar" if isinstance(arg, Spec) else str(arg)
