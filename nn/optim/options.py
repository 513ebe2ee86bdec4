"""What each option of an optimizer has to be, in whichever it occurs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Options = Mapping[str, Any]

EXPECTED: dict[str, tuple[str, Callable[[Options], bool]]] = {
    "lr": ("a learning rate of 0 or more", lambda o: o["lr"] >= 0),
    "momentum": ("momentum of 0 or more", lambda o: o["momentum"] >= 0),
    "dampening": ("dampening to be a finite number", lambda o: math.isfinite(o["dampening"])),
    "weight_decay": ("weight_decay of 0 or more", lambda o: o["weight_decay"] >= 0),
    "nesterov": (
        "nesterov only with momentum above 0 and dampening of 0",
        lambda o: not o["nesterov"] or (o["momentum"] > 0 and o["dampening"] == 0),
    ),
    "betas": (
        "betas from 0 up to, without, 1",
        lambda o: len(o["betas"]) == 2 and all(0 <= beta < 1 for beta in o["betas"]),
    ),
    "eps": ("eps of 0 or more", lambda o: o["eps"] >= 0),
    "alpha": ("alpha from 0 to 1", lambda o: 0 <= o["alpha"] <= 1),
}


def problems(options: Options) -> list[str]:
    """What is wrong with them: "expected ...; got ..."."""
    return [
        f"expected {expected}; got {options[option]}"
        for option, (expected, holds) in EXPECTED.items()
        if option in options and not _true(holds, options)
    ]


def check(name: str, options: Options) -> None:
    """Raises: ValueError in the name of an optimizer for the first option that cannot be."""
    for problem in problems(options):
        raise ValueError(f"{name}: {problem}")


def _true(holds: Callable[[Options], bool], options: Options) -> bool:
    try:
        return holds(options)
    except TypeError:  # what is no number at all
        return False
