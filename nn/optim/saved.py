"""Reading what an optimizer's `state_dict` saved: everything is checked before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ownt
from ag import Node
from nn.optim import options
from nn.optim.rule import MASTER
from ownt import dtype as dtypes

if TYPE_CHECKING:
    from nn.optim.base import Optimizer

WITHOUT_EFFECT = ("foreach", "fused", "capturable", "differentiable", "param_names", "initial_lr")  # of PyTorch's


def read(optimizer: Optimizer, saved: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[Node, dict[str, Any]]]:
    """The options of each group, and the state of each parameter that has any.

    Raises: ValueError listing what does not fit the optimizer.
    """
    _refuse(optimizer, _wrong_layout(optimizer, saved))
    groups = saved["param_groups"]
    _refuse(
        optimizer, [f"group {i}: {text}" for i, group in enumerate(groups) for text in _wrong_options(optimizer, group)]
    )
    states, problems = {}, []
    numbers = [(number, group) for group in groups for number in group["params"]]
    for (number, group), node in zip(numbers, optimizer.parameters, strict=True):
        if number in saved["state"]:
            states[node] = {
                key: _value(key, value) for key, value in saved["state"][number].items() if value is not None
            }
            problems += [
                f"{node.name or number}: {text}" for text in _wrong_state(optimizer, group, node, states[node])
            ]
    _refuse(optimizer, problems)
    return [{option: group[option] for option in optimizer.defaults} for group in groups], states


def _refuse(optimizer: Optimizer, problems: list[str]) -> None:
    if problems:
        name = type(optimizer).__name__
        raise ValueError(f"{name}.load_state_dict: nothing was loaded; {'; '.join(problems)}")


def _wrong_layout(optimizer: Optimizer, saved: Mapping[str, Any]) -> list[str]:
    """Of the whole: its keys, how many parameters each group has, and whose the states are."""
    if not {"state", "param_groups"} <= saved.keys():
        return [f"expected state and param_groups; got {', '.join(saved) or 'neither'}"]
    own, found = (
        [len(group["params"]) for group in groups] for groups in (optimizer.param_groups, saved["param_groups"])
    )
    if own != found:
        return [f"expected groups of {own} parameters; got {found}"]
    numbers = {number for group in saved["param_groups"] for number in group["params"]}
    return [f"unexpected: state of a parameter {key}" for key in saved["state"] if key not in numbers]


def _wrong_options(optimizer: Optimizer, group: Mapping[str, Any]) -> list[str]:
    """Of one group: options that are missing, bad, or would have PyTorch do what is not done here."""
    missing = [option for option in optimizer.defaults if option not in group]
    known = {"params", *optimizer.defaults, *WITHOUT_EFFECT}
    others = [f"{key}={group[key]!r}" for key in group if key not in known and group[key] != optimizer.fixed.get(key)]
    return _listed(missing=missing, unexpected=others) + options.problems({**optimizer.defaults, **group})


def _wrong_state(optimizer: Optimizer, group: Mapping[str, Any], node: Node, state: Mapping[str, Any]) -> list[str]:
    """Of one parameter's state: tensors that are missing, of no use, or of another shape."""
    counts = ("step",) if optimizer.counted else ()
    masters = (MASTER,) if node.dtype in dtypes.HALF else ()
    needed = (*counts, *optimizer.names(group))
    known = (*counts, *optimizer.tensors, *masters)
    misshaped = [
        f"{key} (expected {node.shape}, got {value.shape})"
        for key, value in state.items()
        if key in known and key != "step" and value.shape != node.shape
    ]
    return _listed(
        missing=[key for key in needed if key not in state],
        unexpected=[key for key in state if key not in known],
        of_another_shape=misshaped,
    )


def _value(key: str, value: Any) -> Any:
    return int(value) if key == "step" else ownt.asarray(value)


def _listed(**problems: list[str]) -> list[str]:
    return [f"{what.replace('_', ' ')}: {', '.join(found)}" for what, found in problems.items() if found]
