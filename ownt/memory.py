"""Memory as users see it: the arenas of this thread, the report, the peak."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ownt import device as devices
from ownt.arena import Arena
from ownt.heap import Block, Heap
from ownt.ledger import KINDS, Account, ledger
from ownt.report import Report
from ownt.thread import state

__all__ = [
    "KINDS",
    "Arena",
    "Report",
    "external",
    "heap",
    "ledger",
    "report",
    "reset_peak",
    "resident_bytes",
    "scratch",
]

_EXTERNAL = Account("external memory", "")
_heaps: dict[str, Heap] = {}


def heap(device: str | devices.Device | None = None) -> Heap:
    """Where a model's memory on a device comes from."""
    place = devices.get(device)
    return _heaps.get(place.name) or _heaps.setdefault(place.name, Heap(place))


def external() -> Block:
    """A Block for memory that somebody else owns: no bytes of ours, but a version of its own."""
    return Block(None, 0, _EXTERNAL)


def scratch(device: str | devices.Device | None = None) -> Arena:
    """This thread's scratch arena on a device."""
    place = devices.get(device)
    return state.scratch.get(place) or state.scratch.setdefault(place, Arena(device=place))


def report() -> Report:
    """Who holds which bytes, by kind and by module, now and at the peak."""
    return Report.now(list(state.scratch.values()), resident_bytes())


def reset_peak() -> None:
    """Begin a new peak at what is live now."""
    ledger.reset_peak()


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
