"""Parameters as optimizers take them, and the two groups of weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ag import Node
from nn.module import Module


def parameters_of(name: str, given: Any) -> list[Node]:
    """Each of the given Nodes, or (name, Node) pairs, once; a Node alone is one.

    Raises: TypeError for anything else, ValueError for a computed node; both in the name of the caller.
    """
    nodes = [_node(name, item) for item in ([given] if isinstance(given, Node) else listed(name, given))]
    return list({id(node): node for node in nodes}.values())


def listed(name: str, given: Any) -> list[Any]:
    """What is given, in its order. Raises: TypeError for what has none."""
    if isinstance(given, Node) or not isinstance(given, Iterable):
        raise TypeError(
            f"{name}: expected an iterable of parameters; got {shown(given)}. Give a list, or model.parameters()"
        )
    if isinstance(given, (set, frozenset)):
        raise TypeError(
            f"{name}: expected parameters in an order, by which their state is saved; got a set. Use a list"
        )
    return list(given)


def shown(value: Any) -> str:
    """A value in an error: a parameter by its name and shape, a dict by its keys, anything else by its type."""
    if isinstance(value, Node):
        return f"{value.name!r} of shape {value.shape}" if value.name else f"a Node of shape {value.shape}"
    return f"one with {', '.join(value) or 'nothing'}" if isinstance(value, Mapping) else type(value).__name__


def decay_groups(parameters: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: parameters of two dimensions or more, which decay, and the others, which do not.

    `parameters` is a Module, its `named_parameters()`, or Nodes.
    """
    given = parameters.parameters() if isinstance(parameters, Module) else parameters
    nodes = parameters_of("decay_groups", given)
    return [
        {"params": [node for node in nodes if node.ndim >= 2], "weight_decay": weight_decay},
        {"params": [node for node in nodes if node.ndim < 2], "weight_decay": 0.0},
    ]


def _node(name: str, item: Any) -> Node:
    node = item[1] if isinstance(item, tuple) and len(item) == 2 else item
    if not isinstance(node, Node):
        raise TypeError(f"{name}: expected parameters to be Nodes; got {shown(node)}")
    if not node.is_leaf:
        raise ValueError(f"{name}: expected parameters; got a computed node of shape {node.shape}. Use ag.param")
    return node
