"""Plans of what ops do to tensors of the same layouts again and again: without the ops' Python code.

An op's program (checks, shapes, requests for memory, the binding of kernels) takes longer than kernels on small tensors
do, and what it does depends on the layouts of its tensors and on its other arguments alone. So when the same has come
up OFTEN times the program is watched, and from then on its plan is followed: the same requests for memory in the same
order, then all kernels in one call (ownt.open_chain_cpu). Numbers are what they were to the bit, memory to the byte.
Gradients have plans too, one for each way in which they find their slots: empty, or to be added to.

There are none of what launches kernels that are not compiled, draws random numbers or reads values, none of ops that
others define, which may do as they like, and none is followed while somebody watches launches. Each thread has its own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ag import node as nodes
from ag.plan import Plan
from ag.watch import Watch
from ownt import Tensor, threads
from ownt import device as devices
from ownt.kernel import Kernel
from ownt.layout import layout_of
from ownt.thread import state

OFTEN = 8  # runs before there is a plan, which takes as long to make as some ten of them; math.inf for no plans
_MOST = 4096  # plans and counts that are kept; beyond that all are forgotten

_bits = struct.Struct("d").pack

Key = tuple[Any, ...]
Known = dict[Any, Any]  # how often a program was run; then its Plan, or None if it can have none


Forward = tuple[Tensor, Sequence[Any], Plan | None]  # an op's result, what it saves, and the plan if one was followed


def follow(op: Any, args: Sequence[Any], options: dict[str, Any]) -> tuple[Forward, list[Any]] | None:
    """What an op's plan for its arguments, Nodes among them, returns; and the arguments' slots.

    None if there is no plan, or a kernel finds something wrong, which the op's program will say.
    """
    mine = state.__dict__
    if mine["launch"] is not None:
        return None
    given: list[Any] = []
    slots: list[Any] = []
    plan = mine["plans"].get(_key(op, args, options, given, slots))
    found = _returned(plan, given) if type(plan) is Plan else None
    return None if found is None else (found, slots)


def forward(op: Any, values: Sequence[Any], options: dict[str, Any]) -> Forward:
    """What an op returns for tensors and numbers: by a plan, or by its program, of which a plan may be made."""
    if not op.has_plans or state.launch is not None:
        return (*op.forward(*values, **options), None)
    given: list[Any] = []
    key, known = _key(op, values, options, given, []), state.plans
    plan = known.get(key, 0)
    if type(plan) is Plan:  # of arguments that first had to be made tensors, or one that failed
        found = _returned(plan, given)
        if found is not None:
            return found
    elif plan is not None and key is not None and is_due(known, key, plan):
        with Watch(given) as watch:
            y, saved = op.forward(*values, **options)
        known[key] = watch.returned((y, *saved))
        return y, saved, None
    given.clear()  # what was made is given back before the op says what is wrong
    return (*op.forward(*values, **options), None)


def _returned(plan: Plan, given: list[Any]) -> Forward | None:
    """What a plan returns for tensors; None if a kernel finds something wrong."""
    arrays: list[Any] = []
    plan.take(given, arrays)
    if plan.chain is not None and not plan.chain(tuple(arrays)):
        return None
    y, *saved = plan.returned(given)
    return y, saved, plan


def gradient(followed: Plan, op: Any, g: Tensor, saved: Sequence[Any], slots: Sequence[Any]) -> bool:
    """Give slots their share of the gradient g of what an op did by plan; whether that was done."""
    mine = state.__dict__
    owners = owners_of(slots)
    key = _gradient_key(followed, g, slots, owners) if mine["launch"] is None else None
    if key is None:
        return False
    known, given = mine["plans"], given_to(g, saved, owners)
    plan = known.get(key, 0)
    if type(plan) is Plan:
        if mine["walk"] is not None:
            mine["walk"].plans.append(plan)
        plan.give(given, owners)
        return True
    if plan is None or not is_due(known, key, plan):
        return False
    before = [owner and owner.tensor for owner in owners]
    with Watch(given) as watch:
        op.rule(g, saved, *slots)
    known[key] = watch.shared_out(owners, before)
    return True


def owners_of(slots: Sequence[Any]) -> list[Any]:
    """The slots in whose tensors the gradients of slots lie: those of views have none of their own."""
    return [slot if slot is None or slot.source is None else slot.owner for slot in slots]


def given_to(g: Tensor, saved: Sequence[Any], owners: Sequence[Any]) -> list[Any]:
    """The tensors that the program of a gradient works on: the gradient, what was saved, and what is added to."""
    there = [owner.tensor for owner in owners if owner is not None and owner.tensor is not None]
    return [g, *[part for part in saved if type(part) is Tensor], *there]


def _gradient_key(followed: Plan, g: Tensor, slots: Sequence[Any], owners: Sequence[Any]) -> Key | None:
    """What the gradient of an op that followed a plan depends on; None if it has no plans."""
    parts: list[Any] = [followed, layout(g)]
    seen = set()
    for slot, owner in zip(slots, owners, strict=True):
        if owner is None:
            parts.append(None)
            continue
        if owner in seen:
            return None
        seen.add(owner)
        while slot is not owner:
            if slot.view.key is None:
                return None
            parts.append(slot.view.key)
            slot = slot.source
        if owner.tensor is None:
            parts += (owner.leaf, owner.layout)  # a leaf takes no gradient that is another's too
        elif owner.tensor._block.holders == 1:
            parts += (owner.layout, layout(owner.tensor))
        else:
            return None
    return tuple(parts)


def _key(op: Any, values: Sequence[Any], options: dict[str, Any], given: list[Any], slots: list[Any]) -> Key | None:
    """All that a program depends on; None for what has no plans.

    Beside the arguments those are the kernels that there are, and whether a checkpoint runs it again, when nothing is
    counted twice. Tensors are added to `given`, and slots, of arguments that are Nodes, to `slots`, or None.
    """
    parts = [op, threads.get_num_threads(), Kernel.registered, state.replay is None]
    try:
        for value in values:
            if type(value) is nodes.Node:
                slots.append(value.slot)
                value = value.tensor
            else:
                slots.append(None)
            if type(value) is Tensor:
                try:
                    found = value._layout
                except AttributeError:
                    found = layout(value)
                if found is None:
                    return None
                parts.append(found)
                given.append(value)
            else:
                parts.append(named(value))
        if options:
            parts += [(name, named(value)) for name, value in options.items()]
    except TypeError:
        return None
    return tuple(parts)


def layout(tensor: Tensor) -> Any:
    """None of a tensor that does not lie on the CPU: elsewhere there are no plans."""
    try:
        return tensor._layout
    except AttributeError:
        if type(tensor._array) is devices.cpu.array:
            return layout_of(tensor)
        tensor._layout = None
        return None


def named(value: Any) -> Any:
    """An argument that is no tensor, as a part of a key. Raises: TypeError for what cannot be one."""
    kind = type(value)
    if kind is str or value is None or value is ...:
        return value
    if kind is int or kind is bool:
        return kind, value
    if kind is float:
        return _bits(value)  # which tell -0.0 from 0.0
    if kind is tuple:
        return tuple(map(named, value))
    if kind is slice:
        return slice, named(value.start), named(value.stop), named(value.step)
    raise TypeError(f"no part of a key: {kind}")


def is_due(known: Known, key: Key | int, count: int) -> bool:
    """Count a run. Whether this one is to be watched."""
    if len(known) > _MOST:
        known.clear()
    known[key] = count + 1
    return count >= OFTEN
