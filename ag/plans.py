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

from ag.plan import Plan, Watch
from ownt import Tensor, threads
from ownt import device as devices
from ownt.kernel import Kernel
from ownt.layout import layout_of
from ownt.thread import state

OFTEN = 8  # runs before there is a plan, which takes as long to make as some ten of them; math.inf for no plans
_MOST = 4096  # plans and counts that are kept; beyond that all are forgotten

_bits = struct.Struct("d").pack

Key = tuple[Any, ...]
Known = dict[Key, Any]  # how often a program was run; then its Plan, or None if it can have none


def forward(op: Any, values: Sequence[Any], options: dict[str, Any]) -> tuple[Tensor, Sequence[Any], Plan | None]:
    """What an op's program returns, its result and what it saves; and the plan, if one was followed."""
    mine = state.__dict__
    given: list[Any] = []
    key = _key(op, values, options, given) if op.has_plans and mine["launch"] is None else None
    if key is not None:
        known = mine["plans"]
        plan = known.get(key, 0)
        if type(plan) is Plan:
            if plan.follow(given):
                y, *saved = plan.returned(given)
                return y, saved, plan
            given.clear()  # what was made is given back before the op says what is wrong
        elif plan is not None and _is_due(known, key, plan):
            with Watch(given) as watch:
                y, saved = op.forward(*values, **options)
            known[key] = watch.returned((y, *saved))
            return y, saved, None
    return (*op.forward(*values, **options), None)


def gradient(followed: Plan, op: Any, g: Tensor, saved: Sequence[Any], slots: Sequence[Any]) -> bool:
    """Give slots their share of the gradient g of what an op did by plan; whether that was done."""
    if state.launch is not None:
        return False
    given = [g, *[part for part in saved if type(part) is Tensor]]
    parts: list[Any] = [followed, _layout(g)]
    seen = set()
    for slot in slots:
        if slot is None:
            parts.append(None)
        elif slot.source is not None or slot in seen:
            return False
        elif slot.tensor is None:
            parts.append(slot.leaf)  # which takes no gradient that is another's too
        elif slot.tensor._block.holders == 1:
            given.append(slot.tensor)
            parts.append(_layout(slot.tensor))
        else:
            return False
        seen.add(slot)
    key, known = tuple(parts), state.plans
    plan = known.get(key, 0)
    if type(plan) is Plan:
        plan.share_out(given, slots)
        return True
    if plan is None or not _is_due(known, key, plan):
        return False
    before = [slot and slot.tensor for slot in slots]
    with Watch(given) as watch:
        op.rule(g, saved, *slots)
    known[key] = watch.shared_out(g, slots, before)
    return True


def _key(op: Any, values: Sequence[Any], options: dict[str, Any], given: list[Any]) -> Key | None:
    """All that a program depends on; None for what has no plans. Tensors among the arguments are added to `given`.

    Those are the kernels that there are, and whether a checkpoint runs it again, when nothing is counted twice.
    """
    parts = [op, threads.get_num_threads(), Kernel.registered, state.replay is None]
    try:
        for value in values:
            if type(value) is Tensor:
                layout = _layout(value)
                if layout is None:
                    return None
                parts.append(layout)
                given.append(value)
            else:
                parts.append(_named(value))
        for name, value in options.items():
            parts.append((name, _named(value)))
    except TypeError:
        return None
    return tuple(parts)


def _layout(tensor: Tensor) -> Any:
    """None of a tensor that does not lie on the CPU: elsewhere there are no plans."""
    try:
        return tensor._layout
    except AttributeError:
        if type(tensor._array) is devices.cpu.array:
            return layout_of(tensor)
        tensor._layout = None
        return None


def _named(value: Any) -> Any:
    """An argument that is no tensor, as a part of a key. Raises: TypeError for what cannot be one."""
    kind = type(value)
    if kind is str or value is None:
        return value
    if kind is int or kind is bool:
        return kind, value
    if kind is float:
        return _bits(value)  # which tell -0.0 from 0.0
    if kind is tuple:
        return tuple(map(_named, value))
    raise TypeError(f"no part of a key: {kind}")


def _is_due(known: Known, key: Key, count: int) -> bool:
    """Count a run. Whether this one is to be watched."""
    if len(known) > _MOST:
        known.clear()
    known[key] = count + 1
    return count >= OFTEN
