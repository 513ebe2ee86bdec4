"""Values into the tensors of a module, all or none of them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import ownt
from ownt import Tensor


class IncompatibleKeys(NamedTuple):
    """Keys for which there were no values, and keys for which there was no place."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(
    name: str, own: dict[str, Tensor], aliases: Set[str], values: Mapping[str, Any], strict: bool
) -> IncompatibleKeys:
    """Copy `values` into the tensors `own` of a module called `name`; see `Module.load_state_dict`.

    aliases: keys besides those of `own` that are no surprise, and are not read
    """
    given = {path: ownt.asarray(array) for path, array in values.items()}
    shared = [path for path in own if path in given]
    keys = IncompatibleKeys(
        [path for path in own if path not in given],
        [path for path in given if path not in own and path not in aliases],
    )
    misshaped = [
        f"{path} (expected {own[path].shape}, got {given[path].shape})"
        for path in shared
        if given[path].shape != own[path].shape
    ]
    wrong = (*keys, misshaped) if strict else ([], [], misshaped)
    if any(wrong):
        named = zip(("missing", "unexpected", "of another shape"), wrong, strict=True)
        problems = "; ".join(f"{what}: {', '.join(paths)}" for what, paths in named if paths)
        error = KeyError if wrong[0] or wrong[1] else ValueError
        raise error(f"{name}.load_state_dict: nothing was loaded; {problems}")
    converted = {path: given[path].astype(own[path].dtype) for path in shared}
    for path in shared:
        own[path].copy_(converted[path])
    return keys
