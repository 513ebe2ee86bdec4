"""Places: where lies what a walk takes of scratch memory, so that it need not be taken when the walk is done again.

The gradients of inner nodes, and what is computed on the way to them, are gone when a backward ends; nobody sees them.
Where scratch memory is as it was when the walk began, and all that was saved will be given back as it was then, each
would get the place it had. So it is written there at once, and the ledger and the arena are told of the peak.
"""

from __future__ import annotations

import sys
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

    number: of its slot among the record's; position: of its array among those of the walk
    fresh:  whether it has no gradient before; writes: how often that is written to
    """

    number: int
    position: int
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
        records: Any = [slot.record for slot in reversed(order)]
        tensors = [part for record in records for part in record.saved if type(part) is Tensor]
        self.arrays = [tensor.array for tensor in tensors]
        blocks = [tensor._block for tensor in tensors]
        self.known = (
            [block.offset if block.source is arena else -1 for block in blocks],
            [*map(sys.getrefcount, blocks)],
            [*map(sys.getrefcount, tensors)],
        )


@final
class Places:
    """Of one walk, which is watched: `with Places(...) as places: ...`, told of each record, and then `keep`.

    grads: 1 if the gradient of the loss is given, whose array is the first then
    """

    def __init__(self, held: Held, order: Sequence[GradSlot], grads: int) -> None:
        self.is_known = False
        self._arena = held.arena
        self._held = held.known
        self._paths = [slot.record.path for slot in order]  # type: ignore[union-attr]
        self._given = list(range(grads))  # positions of the arrays of that, and of what was saved
        self._leaves: list[list[Leaf]] = []  # for each record
        self._arrays: list[Any] = []

    def __enter__(self) -> Places:
        arena = self._arena
        self._free, self._before, self._peak = arena.free_runs(), arena.used, arena.peak
        arena.peak, arena.trace = self._before, []
        self._log = Log(arena.device.ledger).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        arena = self._arena
        self._log.__exit__()
        self._runs, arena.trace = merged(arena.trace or []), None
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
        """The arrays of the walk; those in scratch memory that it took will be used again."""
        others = {*self._given, *(leaf.position for found in self._leaves for leaf in found)}
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
            for number, position, is_fresh, writes in leaves:
                mine["path"], mine["op"] = record.path, record.op.name  # type: ignore[union-attr]
                leaf: Any = record.slots[number]  # type: ignore[union-attr]
                leaf = leaf if leaf.source is None else leaf.owner
                if is_fresh:
                    leaf.allocate()
                    fresh.append(leaf)
                leaf.tensor._block.version += writes
                arrays[position] = leaf.tensor._array
        del record
        lost = arena.occupant(self._runs)
        if lost:
            raise RuntimeError(f"backward: expected what was saved to be given back; {lost} is still held")
        return arrays
