"""What a stretch of code allocates on the heap, by memray's records of every allocation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import memray

Call = tuple[str, str]  # a function, and the name of the file it is in
FREES = (memray.AllocatorType.FREE, memray.AllocatorType.MUNMAP)


def records(run: Callable[[], Any]) -> Iterator[Any]:
    """The records of `run`, in order."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.bin"
        with memray.Tracker(file):
            run()
        yield from memray.FileReader(file).get_allocation_records()


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes allocated in `run` and not yet freed, at any instant."""
    live: dict[int, int] = {}
    now = peak = 0
    for record in records(run):
        if record.allocator in FREES:
            now -= live.pop(record.address, 0)
        else:
            live[record.address] = record.size
            now += record.size
            peak = max(peak, now)
    return peak


def kept_bytes(run: Callable[[], Any], caller: Call, within: Call) -> int:
    """What a function, called at any depth within another, allocated itself in `run` and did not free.

    Blocks below 1 KiB are not seen: NumPy keeps those it has freed, and gives them out again. Nor are mapped pages,
    which Python takes for its own objects.
    """
    live: dict[int, int] = {}
    for record in records(run):
        if record.allocator in FREES:
            live.pop(record.address, None)
        elif record.size >= 1024 and record.allocator != memray.AllocatorType.MMAP:
            calls = [(name, Path(path).name) for name, path, _ in record.stack_trace()]
            if calls[:1] == [caller] and within in calls:
                live[record.address] = record.size
    return sum(live.values())
