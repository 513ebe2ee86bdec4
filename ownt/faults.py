"""Faults: what launches found wrong on a device that nobody waits for, said when the host waits for it anyway.

A check has a number in the device's memory: 0 while all is well, else what an error can be made of. When a value is
read from the device, or `synchronize` waits for it, the numbers come along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from typing import Any, final

from ownt import device as devices
from ownt import memory
from ownt.tensor import Tensor
from ownt.thread import state

_MOST = 512  # checks of a device that have a number


@final
class Faults:
    """Those of a device."""

    def __init__(self, place: devices.Device) -> None:
        self.place = place
        self._table: Tensor | None = None
        self._checks: dict[Hashable, tuple[int, Callable[[int], Exception]]] = {}

    def number(self, check: Hashable, error: Callable[[int], Exception]) -> Tensor | None:
        """The number of a check, an int64 of shape (): a launch makes it the largest of itself and what it finds.

        None where so many checks have one that there is none left.
        check: by what it is known; error: makes of the number, unless it is 0, what is raised
        """
        if check not in self._checks:
            if len(self._checks) == _MOST:
                return None
            self._checks[check] = len(self._checks), error
        if self._table is None:
            with contextlib.nullcontext() if state.recording is None else state.recording.paused():
                self._table = memory.heap(self.place).empty((_MOST,), "int64", "buffer", name="faults")
            self._clear(self._table)
        return self._table[self._checks[check][0]]

    def tables(self) -> list[Any]:
        """Arrays to be copied to the host, for `check`: one, or none as long as there are no checks."""
        return [] if self._table is None else [self._table.array]

    def check(self, *copied: Any) -> None:
        """Raises: the error of a check that found something, after which all are taken for well again."""
        for table in copied:
            found = [error(int(table[at])) for at, error in self._checks.values() if table[at]]
            if found:
                self._clear(self._table)  # type: ignore[arg-type]
                raise found[0]

    def _clear(self, table: Tensor) -> None:
        self.place.write(table.array, ..., devices.cpu.xp.zeros(table.shape, "int64"))
