"""Backward: from a loss to the gradients of all leaves, without recursion, freeing as it goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, final

from ag import kernels
from ag import walk as walks
from ag.node import Node
from ag.slot import SPENT, GradSlot
from ownt import Tensor, timeline
from ownt.kernel import Out
from ownt.thread import state

_by_sequence = attrgetter("record.sequence")


@final
class _Running(threading.local):
    """Leaves whose hooks run when the `backward` in progress ends, with their gradients from before it."""

    hooked: dict[int, tuple[GradSlot, Tensor | None]] | None = None


_running = _Running()


Complete = Callable[[GradSlot], None]  # called with a leaf's slot as soon as nothing more is added to its gradient


def backward(loss: Node, grad: Tensor | None = None, complete: Complete | None = None) -> None:
    """Add the gradient of `loss` to the slot of every leaf it was computed from.

    `grad` is the gradient of the loss itself, of its shape; 1 for a scalar. What the graph saved is freed
    on the way: a graph serves one backward. `complete` may use, and free, a leaf's gradient before the others are
    there; of leaves with hooks, which run at the end, it is not called.
    Raises: RuntimeError on a second backward, on a constant, and if a saved tensor was changed in place;
            ValueError if `loss` is no scalar and no `grad` is given, or one of another shape.
    """
    root = loss.slot
    if root is None:
        raise RuntimeError(
            "backward: expected a loss computed from a parameter; got a constant. Use ag.param, outside no_grad"
        )
    if grad is None and loss.size != 1:
        raise ValueError(
            f"backward: expected a scalar loss; got shape {loss.shape}. Reduce it (sum, mean) or give grad"
        )
    if grad is not None and (grad.shape, grad.dtype) != (root.shape, root.dtype):
        raise ValueError(
            f"backward: expected grad of shape {root.shape} and {root.dtype}; got {grad.shape} and {grad.dtype}"
        )
    with timeline.phase("backward"):
        _backward(root, grad, complete)
    arena = state.scratch.get(root.device)
    if arena is not None:
        arena.drain()  # so that the next step finds scratch memory as this one did


def _backward(root: GradSlot, grad: Tensor | None, complete: Complete | None) -> None:
    outer = _running.hooked  # a hook may run a backward of its own
    hooked = _running.hooked = {}
    try:
        run(root, grad, complete=complete)
        for slot, _ in hooked.values():
            _run_hooks(slot)
    finally:
        _running.hooked = outer
        for slot, before in hooked.values():
            _add_up(slot, before)


def run(root: GradSlot, grad: Tensor | None, since: int = 0, complete: Complete | None = None) -> None:
    """Walk back from `root`, as far as the leaves and what was recorded before sequence number `since`."""
    order, _ = reachable(root, since)
    walk = walks.find(grad, order) if complete is None and not since else None
    last = {} if complete is None else _last_uses(order)
    place = state.path, state.op
    slot = None
    try:
        if walk is not None and walk.is_made:
            walk.follow(grad, order)
            return
        (walks if walk is None else walk).begin(root, grad)
        del root
        state.walk = walk
        while order:
            slot = order.pop()
            _step(slot)
            for leaf in last.pop(id(slot), ()):
                complete(leaf)  # type: ignore[misc]
    except BaseException:
        for waiting in (slot, *order):  # a later loss over this trunk must not find half a gradient in it
            if waiting is not None:
                waiting.drop()
        raise
    finally:
        state.walk = None
        state.path, state.op = place
    if walk is not None:
        walk.make()


def _last_uses(order: list[GradSlot]) -> dict[int, list[GradSlot]]:
    """By the identity of the slot whose record is the last of the walk to add to them: leaves without hooks."""
    found: dict[GradSlot, GradSlot] = {}
    for slot in reversed(order):  # as they run; a view of a leaf runs after whoever wrote through it
        found |= {leaf: slot for leaf in leaves_of(slot.record) if not leaf.hooks}
    uses: dict[int, list[GradSlot]] = {}
    for leaf, slot in found.items():
        uses.setdefault(id(slot), []).append(leaf)
    return uses


def leaves_of(record: Any) -> Iterator[GradSlot]:
    """The leaves to whose gradients a record adds."""
    return (slot for slot in (*record.slots, *record.op.leaves) if slot is not None and slot.leaf)


def _step(slot: GradSlot) -> None:
    """Run one record's rule on its complete gradient; free what it saved, and the gradient."""
    record, slot.record = slot.record, SPENT
    if slot.tensor is None or record is None:  # nothing came this way, or it went through a window
        return
    state.path, state.op = record.path, record.op.name
    if slot.hooks:
        _run_hooks(slot)
    record.run(slot.tensor)
    slot.drop()


def reachable(root: GradSlot, since: int = 0) -> tuple[list[GradSlot], list[GradSlot]]:
    """Slots recorded from `since` on between `root` and the leaves, in the order in which their ops ran; and those
    recorded before, at which the walk ends."""
    seen = {id(root)}
    todo, order, older = [root], [], []
    while todo:
        slot = todo.pop()
        if slot.record is SPENT:
            raise RuntimeError(
                "backward: expected a graph of its own for each backward; got one through which backward has gone: "
                "what it saved is freed. Compute the loss again, or add up the losses before one backward"
            )
        if slot.hooks and slot.leaf and _running.hooked is not None and id(slot) not in _running.hooked:
            _running.hooked[id(slot)] = slot, slot.tensor  # hooks see the gradient of this backward alone
            slot.tensor = None
        if slot.record is None:
            continue
        if slot.record.sequence < since:
            older.append(slot)
            continue
        order.append(slot)
        for source in slot.record.slots:
            if source is not None and id(source) not in seen:
                seen.add(id(source))
                todo.append(source)
    order.sort(key=_by_sequence)
    return order, older


def _add_up(slot: GradSlot, before: Tensor | None) -> None:
    """Add this backward's gradient to that from before, in the buffer from before."""
    if before is not None:
        new, slot.tensor = slot.tensor, before
        if new is not None:
            kernels.copy(new, out=slot.out())


def _run_hooks(slot: GradSlot) -> None:
    for hook in list((slot.hooks or {}).values()):
        if slot.tensor is None:
            return
        slot.make_sole()
        replacement = hook(slot.tensor)
        if replacement is not None:
            if replacement.shape != slot.shape:
                raise ValueError(f"gradient hook: expected shape {slot.shape} back; got {replacement.shape}")
            kernels.copy(replacement, out=Out(slot.tensor))
