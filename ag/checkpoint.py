"""checkpoint: trade computing again for memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from ag import graph
from ag.node import Node
from ag.op import next_sequence
from ag.recording import recording
from ag.slot import GradSlot, Record
from ownt import Tensor, random
from ownt.thread import state


@final
class _Rerun:
    """Runs a function again during backward, from where the random stream was, and goes back through it."""

    name = "checkpoint"

    def __init__(self, function: Callable[..., Node], args: tuple, options: dict[str, Any]) -> None:
        self.function = function
        self.args = args  # Nodes replaced by the index of their tensor among what the record saved
        self.options = options
        self.random = random.generator.state
        self.leaves: list[GradSlot] = []  # that the function closes over

    def rule(self, g: Any, saved: tuple, *slots: GradSlot | None) -> None:
        args = (Node(saved[a.index], slots[a.index]) if type(a) is _Input else a for a in self.args)
        start = next_sequence()  # what is older belongs to the graph outside
        enabled, recording.enabled = recording.enabled, True
        try:
            with random.generator.replaying(self.random):
                y = self.function(*args, **self.options)
        finally:
            recording.enabled = enabled
        assert y.slot is not None, "checkpoint: the function computed no gradient the second time"
        graph.run(y.slot, g, since=start)


@final
class _Input:
    def __init__(self, index: int) -> None:
        self.index = index


def checkpoint(function: Callable[..., Node], *args: Any, **options: Any) -> Node:
    """function(*args, **options), keeping its inputs only: what it computes inside is computed again in backward.

    Random numbers are drawn again alike and gradients are bit-identical. Checkpoints nest. Positional
    Nodes, and whatever Nodes the function uses besides, get their gradients; it must return one Node.
    """
    inputs = [a for a in args if type(a) is Node]
    numbers = iter(range(len(inputs)))
    rerun = _Rerun(function, tuple(_Input(next(numbers)) if type(a) is Node else a for a in args), options)
    start = next_sequence()
    y = function(*args, **options)  # recorded, so that parameters it closes over are seen to need gradients
    if not recording.enabled or y.slot is None:
        return y
    slot = GradSlot(y.tensor)
    saved = (*(a.tensor for a in inputs), *(a for a in args if type(a) is Tensor))
    inside, closed_over = graph.reachable(y.slot, since=start)
    rerun.leaves = list({leaf: None for part in inside for leaf in graph.leaves_of(part.record)})
    slot.record = Record(rerun, saved, [*(a.slot for a in inputs), *closed_over], next_sequence(), state.path)
    return Node(y.tensor, slot)  # the graph inside goes with `y`
