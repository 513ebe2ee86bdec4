"""Arenas: where scratch memory comes from.

What a step computes lives in an Arena: a growing set of chunks, kept and used again, so that the same sequence of
requests gets the same addresses, step after step.
"""

from __future__ import annotations

import math
import weakref
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Any, final

from ownt import device as devices
from ownt import dtype as dtypes
from ownt import tensor
from ownt.heap import Block
from ownt.ledger import Account
from ownt.mark import Mark
from ownt.thread import state

_CHUNK_SHIFT = 40  # an offset is (chunk << 40) + bytes into the chunk
_CHUNK_MASK = (1 << _CHUNK_SHIFT) - 1
_SHARE = 128  # a new chunk is at least so small a part of all: what is left over in it is lost to large tensors
_GAPS = 12  # the share of the peak that gaps between blocks may take in one chunk
_WORTH = 1 << 23  # bytes of all chunks from which one is worth making of them
_SMALL = 1 << 16  # bytes of blocks whose place may be used again without a look at the free runs
_reference, _new = weakref.ref, object.__new__


@final
class Arena:
    """Scratch memory: chunks carved first fit, coalesced when freed, kept and used again, never lost.

    A Block dies with the last Tensor on it. `mark()` ... `end()` bracket a stretch of work after which
    nothing made in it may be left. An arena belongs to the thread that made it; blocks that are
    freed, by whichever thread, are put among the free when it allocates next.

    Units: bytes.
    """

    def __init__(self, chunk_bytes: int | None = None, device: str | devices.Device | None = None) -> None:
        self.device = devices.get(device)
        self.chunk_bytes = chunk_bytes or self.device.chunk_bytes
        self._view = self.device.view
        self._round = self.device.align - 1  # which is a power of two
        self.peak = 0
        self.trace: list[tuple[int, int]] | None = None  # set to a list to record (offset, size) of requests
        self.told: Any = None  # the ag.watch.Watch of a program that runs; told of what it makes
        self._chunks: list[Any] = []
        self._free_offsets: list[int] = []  # ascending, with their sizes beside
        self._free_sizes: list[int] = []
        self._live: dict[int, weakref.ref[Block]] = {}  # in order of allocation
        self._used = 0
        self.serial = 0
        self.recordings: weakref.WeakSet[Any] = weakref.WeakSet()  # that hold on to its chunks; told to let go
        self._freed: deque[tuple[int, int]] = deque()  # (offset, size) of blocks that died, to be put among the free

    @property
    def used(self) -> int:
        """Rounded up to the alignment."""
        self.drain()
        return self._used

    @property
    def capacity(self) -> int:
        return sum(len(chunk) for chunk in self._chunks if chunk is not None)

    @property
    def blocks(self) -> int:
        self.drain()
        return len(self._live)

    def empty(
        self,
        shape: tuple[int, ...],
        dtype: Any = None,
        kind: str = "activation",
        path: str | None = None,
        name: str = "",
    ) -> tensor.Tensor:
        """An uninitialised tensor in this arena."""
        dtype = dtypes.get(dtype)
        account = self.device.ledger.account(kind, state.path if path is None else path)
        return self.make(shape, dtype, math.prod(shape) * dtype.itemsize, account, name)

    def make(self, shape: tuple[int, ...], dtype: Any, nbytes: int, account: Account, name: str = "") -> tensor.Tensor:
        """An uninitialised tensor, whose bytes have been counted, on an account of this arena's ledger."""
        size = (nbytes + self._round) & ~self._round or self._round + 1
        offset = -1
        if self._freed:  # what was freed last, if it is few bytes and just as many
            last = self._freed.pop()
            if last[1] == size <= _SMALL:
                offset = last[0]
            else:
                self._freed.append(last)
                self.drain()
        if offset < 0:
            offset = self._first_fit(size)
        self.serial += 1
        if self.trace is not None:
            self.trace.append((offset, size))
        block = Block(self, nbytes, account, name, offset, size, self.serial)
        self._live[offset] = _reference(block)
        timeline = account.ledger.timeline
        if timeline is not None:
            timeline.made(block, shape, dtype)
        made = _new(tensor.Tensor)  # ownt.tensor.wrap, without the call
        made._array = self._view(self._chunks[offset >> _CHUNK_SHIFT], offset & _CHUNK_MASK, shape, dtype)
        made._block = block
        if self.told is not None:
            self.told.keep(made)
        return made

    def zeros(self, shape: tuple[int, ...], dtype: Any = None, kind: str = "activation") -> tensor.Tensor:
        """A tensor of zeros in this arena."""
        made = self.empty(shape, dtype, kind)
        made[...] = 0
        return made

    def mark(self) -> Mark:
        """Begin a stretch of work: `with arena.mark(): ...`, or `mark = arena.mark()` ... `mark.end()`."""
        return Mark(self)

    def clear(self) -> None:
        """Reclaim everything; tensors still held are dead from here on."""
        self.reclaim(since=-1)

    def release(self, block: Block) -> None:
        """Take a dead block back: from any thread, and in the middle of this arena's own bookkeeping."""
        ledger = block.account.ledger
        ledger.subtract(block.account, block.nbytes)
        if ledger.timeline is not None:
            ledger.timeline.freed(block)
        self._freed.append((block.offset, block.size))

    def held_since(self, serial: int) -> list[Block]:
        """Live blocks made after request number `serial`, the oldest first."""
        self.drain()
        blocks = (reference() for reference in list(self._live.values()))
        return [block for block in blocks if block is not None and block.serial > serial]

    def settle(self) -> bool:
        """Make one chunk of several, if nothing lives here: what grew piece by piece leaves gaps. Whether it did.

        It is as large as what was used at the peak and a share more; if that was not enough, as all of them together.
        """
        self.drain()
        capacity = self.capacity
        if self._used or len(self._free_sizes) < 2 or capacity < _WORTH:
            return False
        largest = max(len(chunk) for chunk in self._chunks if chunk is not None)
        enough = self.peak + self.peak // _GAPS
        for recording in list(self.recordings):
            recording.forget()
        self._chunks = [None] * len(self._chunks)  # places kept, so that old offsets are known to lead nowhere
        self._free_offsets.clear()
        self._free_sizes.clear()
        self._add_chunk(capacity if largest >= enough else min(capacity, enough))
        return True

    @property
    def is_unwatched(self) -> bool:
        """Whether nobody wants to know of each request."""
        ledger = self.device.ledger
        return self.trace is None and self.told is None and ledger.timeline is None and not ledger.logs

    def free_runs(self) -> tuple[list[int], list[int]]:
        """Offsets of all free runs, ascending, and their sizes."""
        self.drain()
        return self._free_offsets.copy(), self._free_sizes.copy()

    def addresses(self) -> Iterator[tuple[int, int]]:
        """(offset, bytes) of every free run, ascending: equal before and after a step that leaks nothing."""
        return zip(*self.free_runs(), strict=True)

    def occupant(self, runs: list[tuple[int, int]]) -> str:
        """What lies in one of the runs (offset, size), in words; "" if all are free.

        They ascend, and do not overlap.
        """
        self.drain()
        offsets, sizes = self._free_offsets, self._free_sizes
        for offset, size in runs:
            at = bisect_right(offsets, offset) - 1
            if at < 0 or offset + size > offsets[at] + sizes[at]:
                held = [block for block in self.held_since(-1) if block.offset < offset + size]
                return repr(next((block for block in held if block.offset + block.size > offset), "memory given back"))
        return ""

    def has(self, runs: list[tuple[int, int]]) -> bool:
        """Whether the chunks that runs (offset, size) lie in are still there. May be asked from any thread."""
        return all(self._chunks[offset >> _CHUNK_SHIFT] is not None for offset, _ in runs)

    def _first_fit(self, size: int) -> int:
        """The offset of the first free run, when all is drained, that has so many bytes."""
        sizes = self._free_sizes
        if not self._used and len(sizes) > 1:
            self.settle()
        run = 0
        for available in sizes:
            if available >= size:
                break
            run += 1
        else:
            run = self._grow(size)
        offset = self._free_offsets[run]
        if sizes[run] == size:
            del self._free_offsets[run], sizes[run]
        else:
            self._free_offsets[run] = offset + size
            sizes[run] -= size
        self._used += size
        if self._used > self.peak:
            self.peak = self._used
        return offset

    def _grow(self, size: int) -> int:
        """A new chunk, a share of what there is or more, so that chunks stay few; its free run's index.

        Chunks that are free as a whole, and too small for this request, make way for it, but not those in the trace:
        who keeps one means to come back.
        """
        kept = {offset >> _CHUNK_SHIFT for offset, _ in self.trace or ()}
        for run in reversed(range(len(self._free_sizes))):
            number = self._free_offsets[run] >> _CHUNK_SHIFT
            if self._free_sizes[run] == len(self._chunks[number]) and number not in kept:
                self._chunks[number] = None  # a place kept, so that offsets into the others stay what they are
                del self._free_offsets[run], self._free_sizes[run]
        for recording in [each for each in self.recordings if not self.has(each.runs)]:
            recording.forget()
        self._add_chunk(max(size, self.chunk_bytes, self.capacity // _SHARE))
        return len(self._free_sizes) - 1

    def _add_chunk(self, size: int) -> None:
        chunk = self.device.allocate(size)
        self._free_offsets.append(len(self._chunks) << _CHUNK_SHIFT)
        self._free_sizes.append(len(chunk))
        self._chunks.append(chunk)

    def _give_back(self, offset: int, size: int) -> None:
        """Put a run among the free ones, joined with its neighbours."""
        self._live.pop(offset, None)
        self._used -= size
        offsets, sizes = self._free_offsets, self._free_sizes
        at = bisect_left(offsets, offset)
        if at < len(offsets) and offset + size == offsets[at]:
            size += sizes[at]
            del offsets[at], sizes[at]
        if at and offsets[at - 1] + sizes[at - 1] == offset:
            sizes[at - 1] += size
        else:
            offsets.insert(at, offset)
            sizes.insert(at, size)

    def drain(self) -> None:
        """Put what was given back among the free, which it is before anything is taken anyway."""
        while self._freed:
            self._give_back(*self._freed.popleft())

    def reclaim(self, since: int) -> list[Block]:
        held = self.held_since(since)
        for block in held:
            block.dead = True
            self.release(block)
        self.drain()
        return held


def merged(trace: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(offset, size) of runs of memory, ascending, those that touch or overlap as one."""
    runs: list[tuple[int, int]] = []
    for offset, size in sorted(trace):
        if runs and offset <= sum(runs[-1]):
            runs[-1] = runs[-1][0], max(sum(runs[-1]), offset + size) - runs[-1][0]
        else:
            runs.append((offset, size))
    return runs
