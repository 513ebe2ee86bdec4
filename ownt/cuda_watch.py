"""Watching what is allocated on a GPU: beside the ledger, by CuPy's own hooks and allocators that refuse; and what is
said when there is no memory left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from ownt import device as devices
from ownt.report import human_bytes
from ownt.thread import state

Frame = tuple[str, str]  # a function's name, and how its file's name ends

_SHOWN = 3  # modules in the message of a device that is out of memory


@contextlib.contextmanager
def no_allocation(name: str = "cuda") -> Iterator[None]:
    """Have every allocation raise that CuPy makes on this thread, for references too: `with no_allocation(): ...`.

    What the ledger counts may be allocated all the same: scratch memory, and what a model keeps.
    """
    place: Any = devices.get(name)

    def refuse(size_bytes: int) -> Any:
        raise RuntimeError(f"device {place.name!r}: expected no allocations by CuPy; got one of {size_bytes:,} bytes")

    before, place.may_allocate = place.may_allocate, False
    try:
        with place.xp.cuda.using_allocator(refuse):
            yield
    finally:
        place.may_allocate = before


def counter(*callers: Frame, name: str = "cuda") -> Any:
    """A hook of CuPy's that counts what its pools give out on this thread: `with counter() as found: ...`.

    callers: functions of which one must be among those that are running; all count if there are none
    `found.live` are bytes as asked for, `found.rounded` those in units of the pool, `found.count` how many there are.
    """
    hook: Any = devices.get(name).xp.cuda.MemoryHook

    class Counter(hook):
        name = "ownt.counter"

        def __init__(self) -> None:
            self.sizes: dict[int, tuple[int, int]] = {}  # by memory

        def malloc_postprocess(self, **given: Any) -> None:
            if given["mem_ptr"] and (not callers or _is_running(callers)):
                self.sizes[given["pmem_id"]] = given["size"], given["mem_size"]

        def free_preprocess(self, **given: Any) -> None:
            self.sizes.pop(given["pmem_id"], None)

        @property
        def live(self) -> int:
            return sum(size for size, _ in self.sizes.values())

        @property
        def rounded(self) -> int:
            return sum(size for _, size in self.sizes.values())

        @property
        def count(self) -> int:
            return len(self.sizes)

    return Counter()


def _is_running(callers: tuple[Frame, ...]) -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if any(frame.f_code.co_name == name and frame.f_code.co_filename.endswith(file) for name, file in callers):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def lack_of_memory(device: Any, size_bytes: int) -> str:
    """What to say when so many bytes were not to be had."""
    ledger = device.ledger
    kinds = sorted(((size, kind) for kind, size in ledger.by_kind().items() if size), reverse=True)
    modules: dict[str, int] = {}
    for (_, path), size in ledger.by_account().items():
        modules[path or "no module"] = modules.get(path or "no module", 0) + size
    largest = sorted(modules.items(), key=lambda item: -item[1])[:_SHOWN]
    arena = state.scratch.get(device)
    run = max((size for _, size in arena.addresses()), default=0) if arena else 0
    free, total = device.xp.cuda.runtime.memGetInfo()
    return (
        f"device {device.name!r} is out of memory: {size_bytes:,} bytes were requested; {ledger.live:,} are live ("
        f"{', '.join(f'{kind} {human_bytes(size)}' for size, kind in kinds)}; most in "
        f"{', '.join(f'{path} {human_bytes(size)}' for path, size in largest)}); the largest free run of scratch "
        f"memory has {human_bytes(run)}, the device {human_bytes(free)} of {human_bytes(total)}. The model is "
        "unharmed: go on with a smaller batch, or checkpoint=True"
    )
