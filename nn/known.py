"""What a function knows without being given it: for what has to find the model that a loss function uses."""

from __future__ import annotations

import contextlib
from typing import Any

from nn.module import Module


def modules_of(function: Any) -> list[Module]:
    """The modules that a function, a method or a function in it knows by itself."""
    found: list[Module] = []
    todo, seen = [function], set()
    while todo:
        value = todo.pop()
        if isinstance(value, Module):
            found.append(value)
        elif callable(value) and id(value) not in seen:
            seen.add(id(value))
            todo += _known(value)
    return found


def _known(function: Any) -> list[Any]:
    """What a function, a method or a partial function refers to by name."""
    code = getattr(function, "__code__", None)
    known = [getattr(function, name, None) for name in ("__self__", "__func__", "func")]
    known += getattr(function, "args", ())
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # of a variable that has no value yet
            known.append(cell.cell_contents)
    names = code.co_names if code is not None and "site-packages" not in code.co_filename else ()
    return known + [function.__globals__.get(name) for name in names]
