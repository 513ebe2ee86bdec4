"""Recipes: results that are made again when a gradient needs them, instead of being kept.

An op whose result costs little to make again from what the op saved anyway says how (`op.remakes`). Whoever saves
that result for a gradient then saves its recipe, and the result's memory is free as soon as the forward pass is done
with it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, final

from ownt import Tensor, scratch
from ownt.kernel import Out
from ownt.layout import channels_last
from ownt.tensor import wrap

_DEEPEST = 8  # recipes that one may be made of, each of the next: to make a chain again takes time by its square


@final
class Recipe:
    """How to make one result again. Those who need it at the same time share what is made.

    It belongs to the record of the op and to the records of those who saved it; the result knows it, but does not
    hold it.
    """

    __slots__ = (
        "__weakref__", "_array", "_block", "_last", "_made", "_op", "_saved", "_shape", "_version", "_versions", "depth"
    )  # fmt: skip

    def __init__(self, op: Any, saved: Sequence[Any], result: Tensor) -> None:
        self._op = op
        self._saved = saved
        self._block = weakref.ref(result.block)
        self._array = result._array  # which does not keep the memory alive
        self._shape = result.shape
        self._last = channels_last(result._array)
        self._version = result.block.version
        self._versions = versions(saved)
        self._made: Tensor | None = None
        self.depth: int = 1 + max((part.depth for part in saved if type(part) is Recipe), default=0)

    def is_of(self, tensor: Tensor) -> bool:
        """Whether it makes this very tensor: not a view of it, and not what it became by being written to."""
        array = tensor._array
        whole = array.shape == self._shape and array.strides == self._array.strides
        return whole and tensor._block.version == self._version

    def keep(self) -> Tensor:
        """The result, which stays as long as the recipe."""
        found = self._there()
        if found is None:
            found = self._made = self._make()
        return found

    def _there(self) -> Tensor | None:
        """The result itself, if somebody holds it and nobody has written to it, or what was made before."""
        block = self._block()
        if block is not None and not block.dead and block.version == self._version:
            return wrap(self._array, block)
        return self._made

    def _make(self) -> Tensor:
        """The result. A recipe among what it is made of keeps nothing, so that of a chain two exist at a time."""
        found = self._there()
        if found is not None:
            return found
        check(self._op.name, self._saved, self._versions)
        saved = [part._make() if type(part) is Recipe else part for part in self._saved]
        made = (scratch.images if self._last else scratch.empty)(self._shape, saved[0])
        self._op.remake(saved, Out(made))
        return made


def recipe(op: Any, saved: Sequence[Any], result: Tensor) -> Recipe | None:
    """A result's recipe, which it knows from here on; None if it would take too long to follow."""
    made = Recipe(op, saved, result)
    if made.depth > _DEEPEST:
        return None
    result.block.recipe = weakref.ref(made)
    return made


def reduced(saved: Sequence[Any]) -> tuple[Sequence[Any], list[int]]:
    """What an op saved, with recipes in place of the tensors that have one; and the versions of the others."""
    found = []
    for part in saved:
        if type(part) is Tensor:
            block = part._block
            if block.recipe is not None:
                saved = tuple([_recipe(part) if type(part) is Tensor else part for part in saved])
                return saved, versions(saved)
            found.append(block.version)
    return saved, found


def _recipe(part: Tensor) -> Tensor | Recipe:
    found = None if part._block.recipe is None else part._block.recipe()
    return found if found is not None and found.is_of(part) else part


def restored(saved: Sequence[Any]) -> Sequence[Any]:
    """What an op saved, with tensors in place of their recipes."""
    return [part.keep() if type(part) is Recipe else part for part in saved]


def versions(saved: Sequence[Any]) -> list[int]:
    """How often each tensor has been written to."""
    return [part._block.version for part in saved if type(part) is Tensor]


def check(name: str, saved: Sequence[Any], before: list[int]) -> None:
    """Raises: RuntimeError naming the op if a tensor that it saved has been written to since."""
    if versions(saved) == before:
        return
    for part, version in zip([part for part in saved if type(part) is Tensor], before, strict=True):
        if part.block.version != version:
            raise RuntimeError(
                f"{name}: expected the tensor of shape {part.shape} that it saved for its gradient to be "
                f"unchanged (version {version}); got version {part.block.version}: it was written in place "
                "before backward. Write to a clone(), or run backward first"
            )
