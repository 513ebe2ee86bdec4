"""Hooks of a module: functions called before and after its forward, in the order in which they were registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nn.module import Module

Hook = tuple[str, Callable[..., Any]]  # when, which is "before" or "after", and the function


def register(module: Module, when: str, function: Callable[..., Any]) -> Callable[[], None]:
    """Add a hook; returns a function that removes it."""
    hook = (when, function)
    module._hooks += (hook,)

    def remove() -> None:
        module._hooks = tuple(other for other in module._hooks if other is not hook)

    return remove


def call(module: Module, args: tuple, options: dict[str, Any]) -> Any:
    """module.forward(*args, **options) with what the hooks make of the arguments, and then of the output."""
    for function in _functions(module, "before"):
        changed = function(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    output = module.forward(*args, **options)
    for function in _functions(module, "after"):
        changed = function(module, args, output)
        if changed is not None:
            output = changed
    return output


def _functions(module: Module, wanted: str) -> list[Callable[..., Any]]:
    return [function for when, function in module._hooks if when == wanted]
