"""Learning rates by step: functions from the step's number, 0 first, to a factor or a rate; and Plateau, by a metric.

`schedule = cosine(lr, steps)`, then before each step `optimizer.lr = schedule(step)`. Settings that cannot be are
an InputError.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

from nn.errors import InputError

Schedule = Callable[[int], float]
NAMES = ("constant", "linear", "cosine", "one-cycle", "step", "restarts")
SHAPES = ("cosine", "linear")
MODES = ("min", "max")
THRESHOLD_MODES = ("rel", "abs")


def constant(lr: float) -> Schedule:
    """lr, always."""
    return lambda step: lr


def linear(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From lr straight down to `final` at step number `steps`, and `final` from there on."""
    _at_least(1, "linear", steps=steps)
    return lambda step: _straight(lr, final, min(step / steps, 1))


def cosine(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From lr along half a cosine wave to `final` at step number `steps`, and `final` from there on.

    Source: Loshchilov and Hutter, arXiv 1608.03983
    """
    _at_least(1, "cosine", steps=steps)
    return lambda step: _cosine(lr, final, min(step / steps, 1))


def cosine_restarts(lr: float, period: int, growth: int = 1, final: float = 0.0) -> Schedule:
    """Half cosine waves from lr towards `final`: one of `period` steps, then each `growth` times as long as the last.

    Source: Loshchilov and Hutter, arXiv 1608.03983
    """
    _at_least(1, "cosine_restarts", period=period, growth=growth)

    def rate(step: int) -> float:
        length, done = period, step % period if growth == 1 else step
        while done >= length:
            done -= length
            length *= growth
        return _cosine(lr, final, done / length)

    return rate


def step(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr, multiplied by `factor` after every so many steps."""
    _at_least(1, "step", every=every)
    _at_least(0, "step", factor=factor)
    return lambda step: lr * factor ** (step // every)


def milestones(lr: float, at: Iterable[int], factor: float = 0.1) -> Schedule:
    """lr, multiplied by `factor` at each of the steps `at`."""
    _at_least(0, "milestones", factor=factor)
    steps = sorted(at)
    return lambda step: lr * factor ** bisect_right(steps, step)


def exponential(lr: float, factor: float) -> Schedule:
    """lr, multiplied by `factor` after every step."""
    _at_least(0, "exponential", factor=factor)
    return lambda step: lr * factor**step


def one_cycle(
    lr: float,
    steps: int,
    rise: float = 0.3,
    start_factor: float = 25.0,
    final_factor: float = 1e4,
    shape: str = "cosine",
) -> Schedule:
    """From lr / start_factor up to lr in the first `rise` of the steps, then down to lr / start_factor / final_factor.

    Source: Smith and Topin, arXiv 1708.07120
    """
    _at_least(1, "one_cycle", steps=steps, start_factor=start_factor, final_factor=final_factor)
    _among(SHAPES, "one_cycle", shape=shape)
    if not 0 <= rise <= 1:
        raise InputError(f"one_cycle: expected rise from 0 to 1; got {rise}")
    between = _cosine if shape == "cosine" else _straight
    first = lr / start_factor
    top, end = rise * steps - 1, steps - 1  # step numbers

    def rate(step: int) -> float:
        step = min(step, end)
        if step <= top:
            return between(first, lr, step / top) if top else lr
        return between(lr, first / final_factor, (step - top) / (end - top))

    return rate


def warmup(steps: int, after: Schedule) -> Schedule:
    """Straight up to the first rate of `after` in `steps` steps, then `after` from its beginning."""
    _at_least(0, "warmup", steps=steps)
    return lambda step: after(0) * (step + 1) / steps if step < steps else after(step - steps)


def by_name(name: str, lr: float, steps: int, warmup_steps: int = 0, final: float = 0.0) -> Schedule:
    """The schedule of a name among NAMES for so many steps, with a warm-up before it; one-cycle's is its rise.

    `final` is the lowest rate of linear, cosine and restarts, of which there are three, each twice as long as the one
    before. The rate of step falls to a tenth after each third of the steps.

    Raises: InputError for another name.
    """
    _among(NAMES, "by_name", schedule=name)
    if name == "one-cycle":
        return one_cycle(lr, steps, min(warmup_steps / steps, 1) if warmup_steps else 0.3)
    length = max(steps - warmup_steps, 1)
    main = {
        "constant": lambda: constant(lr),
        "linear": lambda: linear(lr, length, final),
        "cosine": lambda: cosine(lr, length, final),
        "step": lambda: step(lr, math.ceil(length / 3)),
        "restarts": lambda: cosine_restarts(lr, math.ceil(length / 7), 2, final),
    }[name]()
    return warmup(warmup_steps, main) if warmup_steps else main


@final
class Plateau:
    """lr, multiplied by `factor` whenever a metric has not improved for more than `patience` calls.

    `rate = plateau(loss)`. An improvement is one by more than `threshold`, of the best so far ("rel") or as such
    ("abs"). For `cooldown` calls after a cut none counts as bad; a cut by no more than `eps` is not made.
    """

    _STATE = ("lr", "best", "num_bad_epochs", "cooldown_counter")

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: str = "min",
        eps: float = 1e-8,
    ) -> None:
        _among(MODES, "Plateau", mode=mode)
        _among(THRESHOLD_MODES, "Plateau", threshold_mode=threshold_mode)
        _at_least(
            0, "Plateau", lr=lr, patience=patience, threshold=threshold, cooldown=cooldown, min_lr=min_lr, eps=eps
        )
        if not 0 <= factor < 1:
            raise InputError(f"Plateau: expected factor from 0 up to, without, 1; got {factor}")
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.mode = mode
        self.eps = eps
        self.lr = lr
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0

    def __call__(self, metric: float) -> float:
        """The rate after another value of the metric."""
        metric = float(metric)
        if self._is_better(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
            lower = max(self.lr * self.factor, self.min_lr)
            if self.lr - lower > self.eps:
                self.lr = lower
        return self.lr

    def state_dict(self) -> dict[str, Any]:
        """What it remembers from one call to the next."""
        return {name: getattr(self, name) for name in self._STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`. Raises: ValueError for one with other keys; nothing has changed then."""
        if set(state) != set(self._STATE):
            raise ValueError(
                f"Plateau.load_state_dict: expected {', '.join(self._STATE)}; got {', '.join(state) or 'nothing'}"
            )
        for name in self._STATE:
            setattr(self, name, state[name])

    def _is_better(self, metric: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return metric > bound if self.mode == "max" else metric < bound


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def _straight(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 - share)


def _at_least(lowest: float, name: str, **settings: float) -> None:
    for setting, value in settings.items():
        if not value >= lowest:
            raise InputError(f"{name}: expected {setting} of {lowest} or more; got {value}")


def _among(allowed: tuple[str, ...], name: str, **settings: str) -> None:
    for setting, value in settings.items():
        if value not in allowed:
            raise InputError(f"{name}: expected {setting} among {', '.join(allowed)}; got {value!r}")
