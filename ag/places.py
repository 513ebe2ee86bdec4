"""Places: where lies what a walk takes of scratch memory, so that it need not be taken when the walk is done again.

The gradients of inner nodes, and what is computed on the way to them, are gone when a backward ends; nobody sees them.
Where scratch memory is as it was when the walk began, and all that was saved will be given back as it was then, each
would get the place it had, if that was free or is of what will be given back for certain. So it is written there at
once, and the ledger and the arena are told of the peak.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, final

from ag.plan import Plan, Request
from ag.slot import SPENT, GradSlot
from ownt import Tensor
from ownt.arena import Arena, merged
from ownt.ledger import KINDS, Log
from ownt.thread import state


class Leaf(NamedTuple):
    """A leaf to whose gradient a record adds.

    slot:  the number of its slot among the record's; array: that of its array among those of the walk
    fresh: whether it has no gradient before; writes: how often that is written to
    """

    slot: int
    array: int
    fresh: bool
    writes: int


@final
class Held:
    """What records have saved, before they let go of it.

    arena:  where scratch memory is taken
    arrays: its arrays
    known:  where it lies in an arena, and how many hold it. Of graphs that hang together alike, equal counts mean that
            the same will be given back, and when.
    """

    __slots__ = ("arena", "arrays", "known")

    def __init__(self, order: Sequence[GradSlot], arena: Arena) -> None:
        self.arena = arena
        tensors = saved_by(order)
        self.arrays = [tensor.array for tensor in tensors]
        blocks = [tensor._block for tensor in tensors]
        self.known = (
            [block.offset if block.source is arena else -1 for block in blocks],
            [block.size for block in blocks],
            [*map(sys.getrefcount, blocks)],
            [*map(sys.getrefcount, tensors)],
        )


_ALONE = next(map(sys.getrefcount, [object()])) - 1  # what is counted so of what nobody holds


def saved_by(order: Sequence[GradSlot]) -> list[Tensor]:
    """The tensors that the ops of slots have saved, the last op's first."""
    records: Any = [slot.record for slot in reversed(order)]
    return [part for record in records for part in record.saved if type(part) is Tensor]


def _given_back(order: Sequence[GradSlot], arena: Arena) -> list[tuple[int, int]]:
    """(offset, size) of the memory that goes when records let go of what they saved: nobody else holds it."""
    tensors = saved_by(order)
    blocks = [tensor._block for tensor in tensors]
    entries, on = Counter(map(id, tensors)), Counter(map(id, blocks))
    views = Counter({id(tensor): id(tensor._block) for tensor in tensors}.values())
    held = [
        count > _ALONE + 2 * entries[id(tensor)]
        for tensor, count in zip(tensors, [*map(sys.getrefcount, tensors)], strict=True)
    ]
    counts = [*map(sys.getrefcount, blocks)]
    kept = {
        id(block)
        for block, is_held, count in zip(blocks, held, counts, strict=True)
        if is_held or count > _ALONE + on[id(block)] + views[id(block)]
    }
    return sorted({(block.offset, block.size) for block in blocks if block.source is arena and id(block) not in kept})


@final
class Places:
    """Of one walk, which is watched: `with Places(...) as places: ...`, told of each record, and then `keep`.

    runs:    (offset, size) of scratch memory that it writes to
    is_seed: whether the gradient of the loss is given, whose array is the first then
    """

    def __init__(self, held: Held, order: Sequence[GradSlot], is_seed: bool) -> None:
        self.is_known = False
        self._arena = held.arena
        self._held = held.known
        self._paths = [slot.record.path for slot in order]  # type: ignore[union-attr]
        self._given = [0] if is_seed else []  # numbers of the arrays of that, and of what was saved
        self._leaves: list[list[Leaf]] = []  # for each record
        self._arrays: list[Any] = []
        self.runs: list[tuple[int, int]] = []
        self._free_then = _given_back(order, self._arena)

    def __enter__(self) -> Places:
        arena = self._arena
        self._free, self._before, self._peak = arena.free_runs(), arena.used, arena.peak
        arena.peak, arena.trace = self._before, []
        self._log = Log(arena.device.ledger).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        arena = self._arena
        self._log.__exit__()
        self.runs, arena.trace = merged(arena.trace or []), None
        self._rise = arena.peak - self._before
        arena.peak = max(arena.peak, self._peak)

    def note(self, first: int, saved: int, plan: Plan | None, owners: Sequence[Any], there: Sequence[bool]) -> None:
        """A record gives its slots their share by a plan, whose arrays begin with number `first`; None for a view.

        saved: how many tensors it saved; owners: of its slots, and which of them have a gradient already
        """
        found: list[Leaf] = []
        self._leaves.append(found)
        if plan is None:
            return
        at = first + 1 + saved
        self._given += range(first + 1, at)
        slots = [(number, False) for number, is_there in enumerate(there) if is_there]
        slots += [(request.slot, True) for request in plan.requests if isinstance(request, Request)]
        for position, (number, fresh) in enumerate(slots, at):
            if number >= 0 and owners[number].leaf:
                found.append(Leaf(number, position, fresh, plan.written.count(position - first)))

    def keep(self, arrays: Sequence[Any]) -> None:
        """The arrays of the walk; those in scratch memory that it took will be used again, if they can be."""
        usable = merged([*zip(*self._free, strict=True), *self._free_then])
        if not all(any(at <= start and start + size <= at + free for at, free in usable) for start, size in self.runs):
            return  # others gave back some of it meanwhile
        others = {*self._given, *(leaf.array for found in self._leaves for leaf in found)}
        self._arrays = [None if at in others else array for at, array in enumerate(arrays)]
        self._accounts = self._log.peak(KINDS)
        self._arena.recordings.add(self)
        self.is_known = True

    def forget(self) -> None:
        """Let go of memory that the arena gives back."""
        self.is_known = False
        self._arrays.clear()

    def fits(self, held: Held, order: Sequence[GradSlot]) -> bool:
        """Whether what is taken would get the same places."""
        arena = self._arena
        return (
            self.is_known
            and held.arena is arena
            and arena.is_unwatched
            and held.known == self._held
            and self._paths == [slot.record.path for slot in order]  # type: ignore[union-attr]
            and arena.free_runs() == self._free
        )

    def arrays(self, grad: Tensor | None, held: Held, order: Sequence[GradSlot], fresh: list[GradSlot]) -> list[Any]:
        """All arrays of the walk. Records let go of what they saved, leaves get memory for their gradients.

        Leaves that had none are appended to `fresh`. Raises: MemoryError
        """
        arena, mine = self._arena, state.__dict__
        arena.device.ledger.visit(self._accounts, sum(self._accounts.values()))
        arena.peak = max(arena.peak, arena.used + self._rise)
        arrays = self._arrays.copy()
        for at, array in zip(self._given, [*([] if grad is None else [grad.array]), *held.arrays], strict=True):
            arrays[at] = array
        for slot, leaves in zip(reversed(order), self._leaves, strict=True):
            record, slot.record = slot.record, SPENT
            for number, at, is_fresh, writes in leaves:
                mine["path"], mine["op"] = record.path, record.op.name  # type: ignore[union-attr]
                leaf: Any = record.slots[number]  # type: ignore[union-attr]
                leaf = leaf if leaf.source is None else leaf.owner
                if is_fresh:
                    leaf.allocate()
                    fresh.append(leaf)
                leaf.tensor._block.version += writes
                arrays[at] = leaf.tensor._array
        del record
        lost = arena.occupant(self.runs)
        if lost:
            raise RuntimeError(f"backward: expected what was saved to be given back; {lost} is still held")
        return arrays
