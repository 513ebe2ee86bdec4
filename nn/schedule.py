"""Learning rates by step: functions from the step's number, 0 first, to a factor or a rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from nn.errors import InputError

Schedule = Callable[[int], float]
NAMES = ("constant", "linear", "cosine")


def constant(lr: float) -> Schedule:
    """lr, always."""
    return lambda step: lr


def linear(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From lr straight down to `final` at step number `steps`, and `final` from there on."""
    return lambda step: final + (lr - final) * (1 - min(step / steps, 1))


def cosine(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From lr along half a cosine wave to `final` at step number `steps`, and `final` from there on.

    Source: Loshchilov and Hutter, arXiv 1608.03983
    """
    return lambda step: final + (lr - final) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


def warmup(steps: int, after: Schedule) -> Schedule:
    """Straight up to the first rate of `after` in `steps` steps, then `after` from its beginning."""
    return lambda step: after(0) * (step + 1) / steps if step < steps else after(step - steps)


def by_name(name: str, lr: float, steps: int, warmup_steps: int = 0) -> Schedule:
    """The schedule called constant, linear or cosine, with a warm-up before it.

    Raises: InputError for another name.
    """
    if name not in NAMES:
        raise InputError(f"expected schedule among {', '.join(NAMES)}; got {name!r}")
    length = max(steps - warmup_steps, 1)
    main = {"constant": constant(lr), "linear": linear(lr, length), "cosine": cosine(lr, length)}[name]
    return warmup(warmup_steps, main) if warmup_steps else main
