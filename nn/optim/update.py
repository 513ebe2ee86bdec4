"""Update: parameters that an optimizer updates by one launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from ag import Node
from nn.optim.rule import MASTER
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.kernel import Out, Outs
from ownt.random import generator

if TYPE_CHECKING:
    from nn.optim.base import Optimizer

_NOTHING: dict[str, Any] = {}  # which is never written to


@final
class Update:
    """Parameters of one group, dtype and device, with what is kept for each.

    What changes from step to step is in `numbers`, a row for each parameter, so that the launch can be repeated; and
    in `position`, where the random numbers begin by which weights are rounded, if they are. On a GPU both are written
    in the order of its stream: after the launch of the step before has read them, before that of the next does,
    however far the host runs ahead.
    """

    def __init__(self, group: Mapping[str, Any], nodes: Sequence[Node]) -> None:
        self.group = group
        self.nodes = nodes
        self.numbers: Any = None
        self.position: Any = None
        self._drawn: Any = None  # the same, on the host, where a replay writes it
        self._kept: dict[str, Outs] = {}
        self._weights = Outs()
        self._tensors: list[Any] = []
        self._states: list[dict[str, Any]] = []

    def prepare(self, optimizer: Optimizer, factor: float) -> None:
        """Count the step, make what is not kept yet, and put down the numbers that gradients are used with."""
        self._states = [optimizer.state.setdefault(node, {}) for node in self.nodes]
        self.count(optimizer, factor)
        self._gather(optimizer)

    def count(self, optimizer: Optimizer, factor: float) -> None:
        """Count the step, and put down its numbers."""
        rows: list[tuple[float, ...]] = []
        known: dict[Any, tuple[float, ...]] = {}
        counted, last = optimizer.counted, None
        for state in self._states:
            step = state.get("step")
            if counted:
                step = state["step"] = (step or 0) + 1
            key = step, len(state)
            if key != last:  # as a rule all parameters have made as many steps
                if key not in known:
                    known[key] = factor, *optimizer._numbers(self.group, state)
                row, last = known[key], key
            rows.append(row)
        is_one = len(known) == 1 and self.numbers is not None
        self.numbers = self._sent(rows[0] if is_one else rows, "float64", self.numbers)
        if self._drawn is not None:
            self.position = self._sent(self._drawn, "uint64", self.position)

    def _sent(self, values: Any, dtype: str, target: Any) -> Any:
        """Values where the parameters are: in the array that had those of the step before, if there is one."""
        place = devices.get(self.nodes[0].device)
        if target is None:
            return place.bring(devices.cpu.xp.array(values, dtype))  # in the ledger, as workspace, on a GPU
        place.write(target, ..., values)
        return target

    def tensors(self, optimizer: Optimizer) -> list[Any]:
        """Those that its launch writes to: the parameters', and what is kept; None for what is not there yet."""
        states = [optimizer.state.get(node, _NOTHING) for node in self.nodes]
        found: list[Any] = [node.tensor for node in self.nodes]
        for name in optimizer.names(self.group) + [MASTER] * (found[0].dtype in dtypes.HALF):
            found += [state.get(name) for state in states]
        return found

    def _gather(self, optimizer: Optimizer) -> None:
        """Destinations, made again if a tensor is not what it was."""
        found = self.tensors(optimizer)
        if found == self._tensors:
            return
        names = optimizer.names(self.group)
        names += [MASTER] * optimizer.has_master(self.nodes[0].dtype)
        pairs = list(zip(self.nodes, self._states, strict=True))
        for _, state in pairs:
            if MASTER not in names:
                state.pop(MASTER, None)  # from before the model was converted
        kept = {name: [optimizer.kept(node, state, name) for node, state in pairs] for name in names}
        self._tensors = self.tensors(optimizer)
        self._weights = Outs(Out(node.tensor, 1) for node in self.nodes)
        self._kept = {name: Outs(Out(tensor, 1) for tensor in each) for name, each in kept.items()}

    def launch(self, optimizer: Optimizer) -> None:
        """Update the parameters."""
        kept = dict(self._kept)
        masters = kept.pop(MASTER, None)
        if masters is None and self.nodes[0].dtype in dtypes.HALF:
            self._drawn = generator.take(sum(node.size for node in self.nodes), self._drawn)
            self.position = self._sent(self._drawn, "uint64", self.position)
        optimizer.kernel(
            tuple([node.grad for node in self.nodes]),
            self.numbers,
            self.position,
            *optimizer._flags(self.group),
            out=masters or self._weights,
            half=self._weights if masters else None,
            **kept,
        )
