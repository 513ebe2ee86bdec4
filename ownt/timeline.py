"""Timelines: which tensor took and gave back its memory when, between the beginning and the end of a recording."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, final

from ownt.ledger import KINDS, Ledger

_OURS = ("ownt", "ag", "contextlib", "functools")  # packages that the line that made a tensor is not looked for in


@final
class Held:
    """A tensor's memory in a timeline.

    start, end: numbers of the events that took it and gave it back; -1 where that is not within the timeline
    line:       of the code that asked for it
    """

    __slots__ = ("bytes", "code", "end", "kind", "line_number", "name", "op", "path", "shape", "start")

    def __init__(self, block: Any, shape: Any, dtype: Any, code: Any, line_number: int) -> None:
        self.bytes = block.nbytes
        self.kind = block.account.kind
        self.path = block.account.path
        self.name = block.name
        self.op = block.op
        self.shape = (shape, dtype)
        self.code = code
        self.line_number = line_number
        self.start = self.end = -1

    @property
    def line(self) -> str:
        """Of the source, "" if it is not known."""
        return f"{_shown(self.code.co_filename)}:{self.line_number}" if self.code is not None else ""

    @property
    def text(self) -> str:
        """Shape and dtype, "" if they are not known."""
        shape, dtype = self.shape
        return "" if shape is None else f"{shape} {dtype}"

    def as_dict(self) -> dict[str, Any]:
        """For people and programs, without its place among the events."""
        shown = ("bytes", "kind", "path", "name", "op", "line")
        return {name: getattr(self, name) for name in shown} | {"shape": self.text}

    def again(self) -> Held:
        """The same in another step."""
        made = Held.__new__(Held)
        for name in Held.__slots__:
            setattr(made, name, getattr(self, name))
        return made


Log = list[tuple[float, Any, bool]]  # (time, Held and whether it is new, or the name of a phase, or a Step again)


@final
class Timeline:
    """Who held which bytes when: `with ownt.memory.record() as timeline: ...`, then `timeline.report`.

    held:   all that was there at the beginning or came later
    times:  of the events, in seconds since the beginning
    phases: (name, first event, event after the last) of forward, backward and update
    """

    def __init__(self, ledger: Ledger, title: str = "") -> None:
        self.ledger = ledger
        self.title = title
        self.held: list[Held] = []
        self.times: list[float] = []
        self.phases: list[tuple[str, int, int]] = []
        self.report: Any = None  # the ownt.memory.Report, made when the recording ends
        self.log: Log = []
        self._open: dict[int, Held] = {}  # by the identity of their blocks
        self._began = time.perf_counter()

    # while it is recorded

    def begin(self, blocks: Iterable[tuple[Any, Any, Any]]) -> None:
        """Take note of (block, shape, dtype) that are there already."""
        for block, shape, dtype in blocks:
            held = self._open[id(block)] = Held(block, shape, dtype, None, 0)
            self.held.append(held)

    def made(self, block: Any, shape: Any, dtype: Any) -> None:
        """A block was made."""
        frame: Any = sys._getframe(2)
        while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
            frame = frame.f_back
        held = self._open[id(block)] = Held(block, shape, dtype, frame.f_code, frame.f_lineno)
        self.log.append((time.perf_counter(), held, True))

    def freed(self, block: Any) -> None:
        """A block was given back."""
        held = self._open.pop(id(block), None)
        if held is not None:
            self.log.append((time.perf_counter(), held, False))

    def rebooked(self, block: Any) -> None:
        """A block became another kind of memory, or another module's."""
        held = self._open.get(id(block))
        if held is not None:
            held.kind, held.path, held.name = block.account.kind, block.account.path, block.name

    def again(self, step: Log, began: float) -> None:
        """What a stretch of the log tells has happened again, from `began` until now."""
        self.log.append((began, (step, time.perf_counter()), True))

    # when it ends

    def finish(self) -> None:
        """Number the events."""
        for moment, what, new in self.log:
            if type(what) is tuple:
                self._repeat(what[0], moment, what[1])
            else:
                self._event(moment, what, new)
        self._end_phase()
        self.log.clear()
        self._open.clear()

    def _event(self, moment: float, what: Any, new: bool) -> None:
        if type(what) is str:
            self._end_phase()
            self.phases.append((what, len(self.times), -1))
            return
        if new:
            what.start = len(self.times)
            self.held.append(what)
        else:
            what.end = len(self.times)
        self.times.append(moment - self._began)

    def _repeat(self, step: Log, began: float, ended: float) -> None:
        """Events of a step again, but for memory that the step once took and kept."""
        made = {id(what) for _, what, new in step if new}
        copies = {id(what): what.again() for _, what, new in step if not new and id(what) in made}
        stretch = (ended - began) / max(step[-1][0] - step[0][0], 1e-9) if step else 0.0
        for moment, what, new in step:
            found = what if type(what) is str else copies.get(id(what))
            if found is not None:
                self._event(began + (moment - step[0][0]) * stretch, found, new)

    def _end_phase(self) -> None:
        """Note where the last phase ends, or forget it if nothing happened in it."""
        if self.phases and self.phases[-1][2] < 0:
            name, first, _ = self.phases.pop()
            if first < len(self.times):
                self.phases.append((name, first, len(self.times)))

    # what it tells

    def totals(self) -> list[int]:
        """Bytes after each event; the first number is before them all."""
        change = [0] * (len(self.times) + 1)
        for held in self.held:
            change[held.start + 1] += held.bytes
            if held.end >= 0:
                change[held.end + 1] -= held.bytes
        return list(accumulate(change))

    def peak(self) -> int:
        """The number of the event after which there are most; -1 if that is before them all."""
        totals = self.totals()
        return totals.index(max(totals)) - 1

    def at(self, event: int) -> list[Held]:
        """What is held after an event, the largest first."""
        there = [held for held in self.held if held.start <= event and (held.end < 0 or held.end > event)]
        return sorted(there, key=lambda held: -held.bytes)

    def phase(self, event: int) -> str:
        """The phase of an event, "" if it is in none."""
        return next((name for name, first, end in self.phases if first <= event < end), "")

    def as_dict(self) -> dict[str, Any]:
        """All of it in numbers, lists and strings; equal strings are one, named by its number."""
        strings: dict[str, int] = {"": 0}
        columns: dict[str, list[int]] = {"start": [], "end": [], "bytes": [], "kind": []}
        texts: dict[str, list[int]] = {"path": [], "op": [], "shape": [], "line": [], "name": []}
        for held in self.held:
            for name, column in columns.items():
                column.append(KINDS.index(held.kind) if name == "kind" else getattr(held, name))
            for name, column in texts.items():
                text = held.text if name == "shape" else getattr(held, name)
                column.append(strings.setdefault(text, len(strings)))
        return {
            "title": self.title, "kinds": list(KINDS), "strings": list(strings), "times": self.times,
            "phases": [list(phase) for phase in self.phases], "blocks": columns | texts,
        }  # fmt: skip


_active: list[Timeline] = []


@contextlib.contextmanager
def active(timeline: Timeline) -> Iterator[Timeline]:
    """Have a timeline told of what its ledger is told."""
    if timeline.ledger.timeline is not None:
        raise RuntimeError("memory.record: expected no recording to be in progress on this device; there is one")
    timeline.ledger.timeline = timeline
    timeline.log.append((time.perf_counter(), "forward", True))
    _active.append(timeline)
    try:
        yield timeline
    finally:
        timeline.ledger.timeline = None
        _active.remove(timeline)
        timeline.finish()


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """What happens inside is of a phase of the step; what comes after is of the next forward pass."""
    for timeline in _active:
        timeline.log.append((time.perf_counter(), name, True))
    try:
        yield
    finally:
        for timeline in _active:
            timeline.log.append((time.perf_counter(), "forward", True))


def _shown(path: str) -> str:
    """A file by its path from here, if it is below, else by its last two names."""
    file = Path(path)
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return "/".join(file.parts[-2:])
