"""Optimizer: parameters in groups with options, and the state kept for each parameter."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ag
from ag import Node
from nn.optim import options, saved
from nn.optim.groups import listed, parameters_of, shown
from nn.optim.rule import MASTER
from nn.optim.update import Update
from ownt import Tensor, capture, factories, timeline
from ownt.dtype import HALF, DType, bfloat16, wide
from ownt.kernel import Kernel


class Optimizer:
    """Updates parameters from their gradients, in place; abstract: rules set what is listed below, and `_numbers`.

    Takes Nodes, (name, Node) pairs, or groups: dicts of "params" and options of their own. `param_groups` is a list of
    dicts with all options, to be changed between steps at will. `state[node]` is what is kept for a parameter, in
    tensors made at its first step, of exact size; for weights of half precision in float32, with a master copy of them.

    kernel:  a `rule`
    tensors: the names of those it keeps for a parameter, each with the option that it takes, or ""
    counted: whether state["step"] counts a parameter's updates: one that was frozen begins with its own first
    stochastic_rounding: whether weights of bfloat16 have no master, 4 bytes less for each: they are computed in float32
             and rounded up or down at random, right on average. Float16 has one all the same. Source: Zamirai et al.,
             Revisiting BFloat16 Training, arXiv 2010.06192
    fixed:   what PyTorch's options that are none here have to be in a state dict
    Raises: ValueError or TypeError for what cannot be a parameter or an option.
    """

    kernel: Kernel
    tensors: Mapping[str, str]
    counted = False
    fixed: Mapping[str, Any] = {"maximize": False}

    def __init__(self, parameters: Iterable[Any], *, stochastic_rounding: bool = False, **defaults: Any) -> None:
        name = type(self).__name__
        self.defaults = defaults
        self.stochastic_rounding = stochastic_rounding
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Node, dict[str, Any]] = {}
        self._shares: list[float] = []  # of each group's own rate in the default
        self._updates: dict[Any, Update] = {}
        options.check(name, defaults)
        given = listed(name, parameters)
        for group in given if given and isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)
        if not self.parameters:
            raise ValueError(f"{name}: expected one parameter or more; got none")

    @property
    def parameters(self) -> list[Node]:
        """Those of all groups."""
        return [node for group in self.param_groups for node in group["params"]]

    @property
    def lr(self) -> float:
        """The first group's rate. Setting it sets every group's, so that one schedule serves all: a group that was
        given a rate of its own keeps the ratio of that to the default."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, rate: float) -> None:
        if math.inf in self._shares:
            raise ValueError(
                f"{type(self).__name__}.lr: expected a default rate above 0, to which groups' own rates are in "
                "proportion; got 0. Set param_groups[...]['lr']"
            )
        for group, share in zip(self.param_groups, self._shares, strict=True):
            group["lr"] = float(rate) * share

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters, with options of their own; the others are the defaults."""
        name = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{name}: expected a group to be a dict with 'params'; got {shown(group)}")
        unknown = [key for key in group if key not in self.defaults and key != "params"]
        if unknown:
            raise ValueError(f"{name}: expected options among {', '.join(self.defaults)}; got {', '.join(unknown)}")
        made = {**group, "params": parameters_of(name, group["params"])}
        made |= {option: value for option, value in self.defaults.items() if option not in group}
        options.check(name, made)
        present = set(self.parameters)
        for node in made["params"]:
            if node in present:
                raise ValueError(f"{name}: expected each parameter in one group; got {shown(node)} in two")
        self.param_groups.append(made)
        self._shares.append(_share(made["lr"], self.defaults["lr"]))

    def step(self, *, grad_factor: float = 1.0) -> None:
        """Update every parameter that has a gradient, which is multiplied by `grad_factor` first."""
        with timeline.phase("update"):
            for update in self.prepared(grad_factor):
                update.launch(self)

    def prepared(self, factor: float) -> list[Update]:
        """The updates of a step, counted, with memory for what is kept.

        Raises: MemoryError; nothing has changed then.
        """
        updates = self.updates()
        before = {node: dict(self.state.get(node, ())) for update in updates for node in update.nodes}
        try:
            for update in updates:
                update.prepare(self, factor)
        except MemoryError:
            for node, values in before.items():
                state = self.state.setdefault(node, {})
                state.clear()
                state.update(values)
            raise
        return updates

    def updates(self) -> list[Update]:
        """How the parameters that have gradients now are updated, by groups, dtypes and devices."""
        found: dict[Any, list[Node]] = {}
        for number, group in enumerate(self.param_groups):
            for node in group["params"]:
                slot = node.slot
                if slot is not None and slot.tensor is not None:
                    found.setdefault((number, slot.dtype, slot.device.name), []).append(node)
        made = {}
        for key, nodes in found.items():
            update, group = self._updates.get(key), self.param_groups[key[0]]
            if update is None or update.group is not group or update.nodes != nodes:
                update = Update(group, nodes)
            made[key] = update
        self._updates = made
        return list(made.values())

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Have steps inside leave no trace in what is kept; tensors that were there are written to all the same."""
        kept, updates = self.state, self._updates
        self.state, self._updates = {node: dict(values) for node, values in kept.items()}, {}
        try:
            yield
        finally:
            self.state, self._updates = kept, updates

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Free the gradients, or fill them with zeros."""
        ag.zero_grad(self.parameters, set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number: {name: tensor}}, "param_groups": [{..., "params": [number]}]}, the very tensors."""
        numbers = {node: number for number, node in enumerate(self.parameters)}
        return {
            "state": {number: dict(self.state[node]) for node, number in numbers.items() if self.state.get(node)},
            "param_groups": [
                {**group, "params": [numbers[node] for node in group["params"]]} for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over options, and copies of tensors, from a `state_dict()`, or from PyTorch's with arrays in it.

        Raises: ValueError listing what does not fit; nothing has changed then.
        """
        groups, states = saved.read(self, state_dict)
        for group, values in zip(self.param_groups, groups, strict=True):
            group.update(values)
        capture.changed()
        kept, self.state = self.state, {}
        for node, values in states.items():
            self.state[node] = {name: tensor for name, tensor in kept.get(node, {}).items() if name in values}
            for name, value in values.items():
                if name == "step":
                    self.state[node][name] = value
                elif name != MASTER or self.has_master(node.dtype):
                    self.kept(node, self.state[node], name).copy_(value)

    def names(self, group: Mapping[str, Any]) -> list[str]:
        """Of the tensors kept for a parameter with the options of a group."""
        return [name for name, option in self.tensors.items() if not option or group[option]]

    def has_master(self, dtype: DType) -> bool:
        """Whether weights of a dtype have a copy in float32, from which they are rounded to the nearest."""
        return dtype in HALF and not (self.stochastic_rounding and dtype == bfloat16)

    def signature(self) -> tuple[Any, ...]:
        """What a launch of the update is for, beside its numbers: parameters, flags and what is kept, by group."""
        return tuple([(len(group["params"]), *self._flags(group), *self.names(group)) for group in self.param_groups])

    def _numbers(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[float, ...]:
        """What the rule takes after the gradient; `state` is without what this step will make."""
        raise TypeError(f"{type(self).__name__} defines no numbers")

    def _flags(self, group: Mapping[str, Any]) -> tuple[bool, ...]:
        """What the rule takes after the numbers."""
        return ()

    def kept(self, node: Node, state: dict[str, Any], name: str) -> Tensor:
        """A tensor that is kept: zeros at first, and so is a master, until it follows the weights."""
        dtype = wide(node.dtype)
        if name not in state:
            make = factories.zeros
            state[name] = make(node.shape, dtype=dtype, device=node.device, kind="optimizer", path=node.name)
        elif state[name].dtype != dtype or state[name].device != node.device:  # the model was converted meanwhile
            state[name] = state[name].to(node.device).astype(dtype)
            state[name].block.rebook("optimizer", node.name)
        return state[name]


def _share(own: float, default: float) -> float:
    if own == default:
        return 1.0
    return own / default if default else math.inf
