"""Walks: backwards that are repeated, from the loss to the leaves, by the plans of their gradients.

When the same graph has come up often, and all its gradients follow plans (ag.plans), the plans are linked: memory is
taken and given back gradient by gradient as before, and then all kernels are launched, in as few calls as can be.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, final

from ag import kernels, plans
from ag.places import Held, Places, saved_by
from ag.plan import Plan, run
from ag.remake import check
from ag.slot import SPENT, GradSlot
from ag.watch import Watch
from ownt import Tensor, memory
from ownt import device as devices
from ownt.thread import state

_TRIES = 8  # backwards in which all gradients might follow plans, before it is given up
_WATCHED = 8  # walks that are watched at once; then each so many that find no places
_PLACES = 4  # kept: where a program holds its last loss, two come up in turn


@final
class Walk:
    """The way back through a graph; it follows the plans that were followed while it was made.

    plans: of gradients, from the loss to the leaves; appended to by ag.plans
    """

    def __init__(self, key: plans.Key, planned: int) -> None:
        self.plans: list[Plan] = []
        self.is_made = False
        self._key = key
        self._planned = planned  # records that followed plans
        self._first: Plan | None = None  # of what the gradient of the loss itself is written by
        self._chains: Sequence[Any] = ()
        self._places: list[Places] = []  # where all lay when it was watched, the newest first
        self._missed = 0  # walks that found no places

    def begin(self, root: GradSlot, grad: Tensor | None) -> None:
        """Write the gradient of the loss itself, and see how that is done."""
        with Watch(() if grad is None else (grad,)) as watch:
            begin(root, grad)
        self._first = watch.shared_out([root], [None])

    def make(self) -> None:
        """Link the plans, if all gradients followed one."""
        if self._first is None or len(self.plans) < self._planned:
            return
        self.plans.insert(0, self._first)
        first, parts = 0, []
        for plan in self.plans:
            if plan.chain is not None:
                parts.append((plan.chain, first))
            first += plan.arrays
        self._chains = importlib.import_module("ownt.open_chain_cpu").linked(parts)
        self.is_made = True
        state.plans[self._key] = self

    def follow(self, grad: Tensor | None, order: Sequence[GradSlot]) -> None:
        """Walk back through slots, given in the order in which their ops ran.

        Raises: RuntimeError if what an op saved was changed; MemoryError; no leaf's gradient has changed then.
        """
        for slot in reversed(order):
            check(slot.record.op.name, slot.record.saved, slot.record.versions)  # type: ignore[union-attr]
        held = Held(order, memory.scratch(devices.cpu))
        fresh: list[GradSlot] = []  # leaves that had no gradient
        try:
            found = next((places for places in self._places if places.fits(held, order)), None)
            arrays = self._take(grad, order, held, fresh) if found is None else found.arrays(grad, held, order, fresh)
            run(self._chains, arrays)
        except BaseException:
            for leaf in fresh:
                leaf.drop()
            raise

    def _take(self, grad: Tensor | None, order: Sequence[GradSlot], held: Held, fresh: list[GradSlot]) -> list[Any]:
        """All arrays of the walk: memory is taken, and given back, gradient by gradient; now and then watched."""
        self._missed += 1
        if not held.arena.is_unwatched or (self._missed > _WATCHED and self._missed % _WATCHED):
            return self._taken(grad, order, fresh, None)
        with Places(held, order, is_seed=grad is not None) as places:
            arrays = self._taken(grad, order, fresh, places)
        places.keep(arrays)
        self._places = [places, *self._places[: _PLACES - 1]]
        return arrays

    def _taken(
        self, grad: Tensor | None, order: Sequence[GradSlot], fresh: list[GradSlot], places: Places | None
    ) -> list[Any]:
        arrays: list[Any] = []
        following = iter(self.plans)
        next(following).share_out([] if grad is None else [grad], arrays, [order[-1]])
        for slot in reversed(order):
            record: Any = slot.record
            slot.record = SPENT
            plan = None if record.plan is None else next(following)  # a view's gradient lies in that of its source
            _share_out(plan, slot, record, arrays, fresh, places)
            slot.drop()
        return arrays


def _share_out(
    plan: Plan | None, slot: GradSlot, record: Any, arrays: list[Any], fresh: list[GradSlot], places: Places | None
) -> None:
    """Give the slots of a record their share of the gradient of another, but for the kernels."""
    mine = state.__dict__
    mine["path"], mine["op"] = record.path, record.op.name
    owners = plans.owners_of(record.slots)
    there = [owner is not None and owner.tensor is not None for owner in owners]
    given = plans.given_to(slot.tensor, record.saved, owners)  # type: ignore[arg-type]
    if places is not None:
        places.note(len(arrays), len(given) - 1 - sum(there), plan, owners, there)
    if plan is not None:
        fresh += [owners[number] for number in plan.taken if owners[number].leaf]
        plan.share_out(given, arrays, owners)


def begin(root: GradSlot, grad: Tensor | None) -> None:
    """Write the gradient of the loss itself."""
    if grad is None:
        kernels.fill(1, out=root.out())
    else:
        kernels.copy(grad, out=root.out())


def find(grad: Tensor | None, order: Sequence[GradSlot]) -> Walk | None:
    """The walk back through slots, in the order in which their ops ran; one to be made, if it is time, or none."""
    if not order or order[-1].source is not None or state.launch is not None or state.in_step is not None:
        return None
    key = _key(grad, order)
    if key is None:
        return None
    known = state.plans
    found = known.get(key)
    if found is not None:
        return found
    count = known.get(hash(key), 0)  # by the hash: most graphs come up once, and a key is long
    if count > plans.OFTEN + _TRIES or not plans.is_due(known, hash(key), count):
        return None
    return Walk(key, sum(getattr(slot.record, "plan", None) is not None for slot in order))


def _key(grad: Tensor | None, order: Sequence[GradSlot]) -> plans.Key | None:
    """All that the way back depends on; None if it has no plans.

    Which plans were followed, how results and arguments hang together, and what leaves hold. A leaf is told from
    others by where it is, an inner slot by when its op ran.
    """
    parts: list[Any] = [None if grad is None else plans.layout(grad)]
    there: set[int] = set()  # blocks of gradients that are added to
    last = order[-1].record.sequence  # type: ignore[union-attr]
    for slot in order:
        record: Any = slot.record
        if slot.hooks or slot.tensor is not None or record.remakes or record.recipe is not None:
            return None
        plan = record.plan
        if plan is None:  # unless it is a view, it has none
            if slot.view is None or slot.view.key is None:
                return None
            parts += (slot.view.key, record.slots[0].layout)
        else:
            parts.append(plan)
        for source in record.slots:
            if source is None:
                parts.append(None)
            elif source.record is not None:
                parts.append(source.record.sequence - last)
            elif source.hooks:
                return None
            elif source.tensor is None:
                parts += (id(source), source.name, source.layout, None)
            elif source.tensor._block.holders != 1:
                return None
            else:
                parts += (id(source), source.name, source.layout, plans.layout(source.tensor))
                there.add(id(source.tensor._block))
    if there and any(id(tensor._block) in there for tensor in saved_by(order)):
        return None  # it would read what it writes to, which is an error when that is done
    return tuple(parts)
