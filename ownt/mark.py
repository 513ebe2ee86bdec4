"""Marks: stretches of work after which nothing made in an arena may be left."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from ownt.arena import Arena


class HeldError(RuntimeError):
    """Scratch memory was reclaimed while a tensor in it was still held."""


@final
class Mark:
    """A point in an arena's history to which `end()` returns. Ending twice does nothing."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._serial = arena.serial
        self._ended = False

    def __enter__(self) -> Mark:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.end(quiet=error is not None)

    def end(self, quiet: bool = False) -> None:
        """Reclaim what was made since the mark.

        Raises: HeldError naming the tensors that are still held, unless `quiet`. Their memory comes back
        all the same, and reading them raises.
        """
        if self._ended:
            return
        self._ended = True
        if self._arena.held_since(self._serial):
            gc.collect()  # what only a reference cycle holds is nobody's
        held = self._arena.reclaim(self._serial)
        if held and not quiet:
            more = f" and {len(held) - 1} more" if len(held) > 1 else ""
            raise HeldError(
                f"scratch memory ended while a tensor in it was still held: {held[0]!r}{more}. "
                "Drop it before the end, or keep a copy of its own: tensor.clone()"
            )
