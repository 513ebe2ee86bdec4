"""Capture: a step's launches recorded, to be run again without the program that made them; on a GPU, as one.

A Recording is made while the step runs. It holds raw arrays and the scratch memory they lie in, but none of it is
taken: between replays others use it. What is not done by launches is not repeated; where the framework can tell (a
value is read, random numbers are drawn by no op), the recording is spoiled and says by what.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, final

from ownt import device as devices
from ownt import memory
from ownt.arena import Arena, merged
from ownt.calls import Call
from ownt.heap import Block
from ownt.kernel import Out
from ownt.launch import CaptureError, Launch, nothing
from ownt.ledger import Account, Log
from ownt.random import generator
from ownt.tensor import Tensor, wrap
from ownt.thread import state

_TRANSIENT = ("gradient", "activation", "workspace")  # kinds of what a step takes and gives back
_HOLDS = 4  # of a tensor that only a recording holds: its list, two variables and an argument
_nobody = memory.external()
_changes = 0
_warned: set[str] = set()  # kernels of which was said that they cannot be part of a graph


def changed() -> None:
    """Say that a model has been changed in a way that launches recorded before do not know of."""
    global _changes
    _changes += 1


@final
class Recording:
    """The launches of a step. `with recording.during(): ...` runs and records it; `replay()` runs it again."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.spoiled = ""  # by what; then there is nothing to replay
        self.launches: list[Launch] = []
        self.held: list[Tensor] = []  # heap memory that launches use and nobody else may hold
        self.called: set[Any] = set()  # modules, on whose modes the program may depend
        self._blocks: dict[int, Block] = {}  # of a model, written by launches
        self._positions: list[tuple[Any, int]] = []  # where random numbers begin: arrays, and offsets from the start
        self._base: Tensor | None = None  # where the first of them is, on a GPU
        self._drawn = 0
        self.runs: list[tuple[int, int]] = []  # (offset, size) of scratch memory that is used
        self._peak: dict[Account, int] = {}  # scratch bytes by account when there are most
        self._peak_bytes = 0
        self._changes = -1
        arena.recordings.add(self)
        self._told: Any = None  # what a timeline was told while the step ran, if there was one
        self.split = 0  # the number of the first launch that comes after new numbers are put down; see `replay`
        self._graph: Callable[[], None] | None = None
        self._halves: list[list[Call]] = []  # what a replay calls before and after that; none before the first

    # recording

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """Record what this thread launches."""
        trace, self.arena.trace = self.arena.trace, []
        told = self.arena.device.ledger.timeline
        first = 0 if told is None else len(told.log)
        self._start = generator.offset
        try:
            with Log(self.arena.device.ledger) as log, self._watching():
                yield
        finally:
            self.runs, self.arena.trace = merged(self.arena.trace), trace
        self._peak = log.peak(_TRANSIENT)
        self._peak_bytes = sum(self._peak.values())
        self._told = None if told is None else told.log[first:]
        self._drawn = generator.offset - self._start
        self._changes = _changes
        if any(self._is_kept_outside(tensor) for tensor in self.held):
            self.spoil("a tensor that was made inside is kept outside")

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        self._outer = state.recording, state.launch
        state.recording, state.launch = self, self._launch
        try:
            yield
        finally:
            state.recording, state.launch = self._outer

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Not record what is done inside: what each replay does for itself, in its own way."""
        inner = state.recording, state.launch
        state.recording, state.launch = self._outer
        try:
            yield
        finally:
            state.recording, state.launch = inner

    def _launch(self, launch: Launch) -> None:
        launch.run(self._outer[1])
        if self.spoiled:
            return
        for tensor in launch.written:
            block = tensor.block
            if not isinstance(block.source, Arena):
                self._blocks[id(block)] = block
        launch.bound = tuple(_loose(part) for part in launch.bound)
        launch.written = [wrap(tensor.array, _nobody) for tensor in launch.written]
        launch.function = getattr(launch.function, "settled", launch.function)
        self.launches.append(launch)

    def spoil(self, what: str) -> None:
        """Give up, because of what a replay would not do."""
        if not self.spoiled:
            self.spoiled = what
            self.launches.clear()
            self.held.clear()
            self._graph = None
            self._halves.clear()

    def forget(self) -> None:
        """Let go of the memory that launches are bound to: it is given back."""
        if state.recording is not self:
            self.spoil("its memory was given back")

    def keep(self, tensor: Tensor) -> None:
        """Hold heap memory that was taken meanwhile."""
        self.held.append(tensor)

    def _is_kept_outside(self, tensor: Tensor) -> bool:
        """Whether others than this recording hold it, or a view of it: a replay would write over what they hold."""
        ours = id(tensor.block) in self._blocks
        return sys.getrefcount(tensor) > _HOLDS or sys.getrefcount(tensor.block) > 2 + ours

    def draw(self, position: Any, offset: int) -> None:
        """Take note of an array (key, offset), where numbers are drawn from."""
        self._positions.append((position, offset - self._start))

    def anchor(self, position: Any, place: devices.Device) -> tuple[Any, int] | None:
        """For a GPU, which cannot read arrays of the host: one there, (key, offset) of the first draw, and how far a
        position is from it. None for one that was not drawn here.
        """
        ahead = next((offset for known, offset in self._positions if known is position), None)
        if ahead is None or place is not self.arena.device:
            return None
        if self._base is None:
            with self.paused():
                self._base = memory.heap(place).empty((2,), "uint64", "buffer", name="random position")
            place.write(self._base.array, ..., position - devices.cpu.xp.array((0, ahead), "uint64"))
            self.draw(self._base.array, self._start)
        return self._base.array, ahead

    # replaying

    @property
    def is_valid(self) -> bool:
        """Whether it may be replayed at all: no model has changed since, and its memory is still there."""
        return not self.spoiled and self._changes == _changes and self.arena.has(self.runs)

    @property
    def is_graph(self) -> bool:
        """Whether its replays are one launch."""
        return self._graph is not None

    @property
    def is_untold(self) -> bool:
        """Whether it cannot tell the timeline that is recorded what its replay would hold."""
        return self._told is None and self.arena.device.ledger.timeline is not None

    def in_the_way(self) -> str:
        """What lies in scratch memory that a replay would write to; "" if nothing does."""
        if self.arena is not memory.scratch(self.arena.device):
            return "scratch memory of another thread"
        return self.arena.occupant(self.runs)

    def replay(self, fill: Callable[[], None] = nothing) -> None:
        """Run the launches again, with the next random numbers; the ledger is told of the memory they use.

        `fill` puts down the numbers that launches from number `split` on are to read.
        """
        if not self._halves and state.launch is None:
            self._prepare()
        told = self.arena.device.ledger.timeline
        began = 0.0 if told is None else time.perf_counter()
        if self._drawn:
            self._draw_again()
        self.arena.device.ledger.visit(self._peak, self._peak_bytes)
        for block in self._blocks.values():
            block.version += 1
        self._run(fill)
        if told is not None:
            told.again(self._told, began)

    def _draw_again(self) -> None:
        key, start = map(int, generator.take(self._drawn))
        for position, offset in self._positions:
            now = devices.cpu.xp.array((key, start + offset), "uint64")
            devices.of(position).write(position, ..., now)

    def _run(self, fill: Callable[[], None]) -> None:
        if state.launch is not None:
            self._run_watched(self.launches[: self.split])
            fill()
            self._run_watched(self.launches[self.split :])
            return
        if self._graph is not None:
            fill()
            self._graph()
            return
        before, after = self._halves
        for function, bound in before:
            function(*bound)
        fill()
        for function, bound in after:
            function(*bound)

    def _run_watched(self, launches: list[Launch]) -> None:
        for launch in launches:
            state.launch(launch)  # type: ignore[misc]

    def _prepare(self) -> None:
        """Put launches together that nobody watches: on a GPU to one CUDA graph, on the CPU to few calls.

        Where no graph can be made that is said. What fails otherwise fails once: each launch is a call from then on.
        """
        place = self.arena.device
        calls: list[Any] = [(launch.function, launch.bound) for launch in self.launches]
        self._halves = [calls[: self.split], calls[self.split :]]
        try:
            self._graph = place.graph(self.launches)
        except CaptureError as error:
            kernel = str(error).partition(":")[0]
            if kernel not in _warned:
                _warned.add(kernel)
                text = f"a recorded step is no CUDA graph, and launched kernel by kernel, because of {error}"
                warnings.warn(text, RuntimeWarning, stacklevel=6)
        if self._graph is None:
            self._halves = [place.joined(half) for half in self._halves]


def _loose(part: Any) -> Any:
    """A bound argument without the tensors in it, which would keep their memory taken."""
    if type(part) is Out:
        return Out(wrap(part.array, _nobody), part.beta)
    if type(part) is dict:
        return {name: _loose(value) for name, value in part.items()}
    if type(part) is tuple or (type(part) is list and part and type(part[0]) in (Out, tuple)):  # (or: several calls)
        return type(part)(map(_loose, part))
    return part
