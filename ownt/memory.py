"""Memory as users see it: the arenas of this thread, the report, the peak."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ownt import device as devices
from ownt import tensor
from ownt.arena import Arena
from ownt.heap import Block, Heap
from ownt.ledger import KINDS, Account, Ledger, ledger
from ownt.report import Report
from ownt.thread import state
from ownt.timeline import Timeline, active

__all__ = [
    "KINDS",
    "Arena",
    "Report",
    "external",
    "heap",
    "ledger",
    "record",
    "report",
    "reset_peak",
    "resident_bytes",
    "scratch",
]

_EXTERNAL = Account(Ledger(), "external memory", "")
_heaps: dict[devices.Device, Heap] = {}


def heap(device: str | devices.Device | None = None) -> Heap:
    """Where a model's memory on a device comes from."""
    return _heaps.get(device) or _heaps.setdefault(place := devices.get(device), Heap(place))  # type: ignore[arg-type]


def external() -> Block:
    """A Block for memory that somebody else owns: no bytes of ours, but a version of its own."""
    return Block(None, 0, _EXTERNAL)


def scratch(device: str | devices.Device | None = None) -> Arena:
    """This thread's scratch arena on a device."""
    place = devices.get(device)
    return state.scratch.get(place) or state.scratch.setdefault(place, Arena(device=place))


def report(device: str | devices.Device | None = None) -> Report:
    """Who holds which bytes of a device, by kind and by module, now and at the peak."""
    place = devices.get(device)
    arenas = [found[place] for found in (state.scratch, state.temporaries) if place in found]
    return Report.of(
        place.ledger, arenas, resident_bytes() if place is devices.cpu else 0, place.occupied(), place.note
    )


@contextlib.contextmanager
def record(title: str = "", device: str | devices.Device | None = None) -> Iterator[Timeline]:
    """Note who takes and gives back which memory of a device when: `with ownt.memory.record() as timeline: ...`.

    A step of nn.Step is run as it is once more, so that it can be watched; its replays are told from that.
    """
    place = devices.get(device)
    timeline = Timeline(place.ledger, title)
    timeline.begin(_there(place.ledger))
    with active(timeline):
        yield timeline
    timeline.report = report(place).recorded_by(timeline)


def _there(ledger: Ledger) -> list[tuple[Block, Any, Any]]:
    """(block, shape, dtype) of all that a ledger counts, by the largest tensor of each block.

    Found among all objects that there are, so that nobody has to keep a list.
    """
    found: dict[int, tensor.Tensor] = {}
    for thing in gc.get_objects():
        if type(thing) is tensor.Tensor and thing.block.nbytes and thing.block.account.ledger is ledger:
            largest = found.setdefault(id(thing.block), thing)
            if thing.nbytes > largest.nbytes:
                found[id(thing.block)] = thing
    return [(held.block, held.shape, held.dtype) for held in found.values() if not held.block.dead]


def reset_peak(device: str | devices.Device | None = None) -> None:
    """Begin a new peak of a device at what is live now."""
    devices.get(device).ledger.reset_peak()


def resident_bytes() -> int:
    """Bytes of this process in physical memory: the framework's and the rest, libraries and interpreter.

    On macOS the most it ever was; 0 where the system does not say.
    """
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
