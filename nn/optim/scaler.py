"""GradScaler: losses scaled up, so that small gradients of float16 do not vanish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from ag import Node
from nn.optim.base import Optimizer
from nn.optim.clip import are_finite, grads_of, scale


@final
class _Progress:
    """How far an optimizer is since the last update."""

    __slots__ = ("finite", "stepped", "unscaled")

    def __init__(self, finite: bool) -> None:
        self.finite = finite
        self.unscaled = False  # in place
        self.stepped = False


@final
class GradScaler:
    """Scales a loss up and its gradients down again for the optimizer; finds by trying how far.

    `scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()`. A step whose gradients are not all finite
    is skipped, and the scale multiplied by `backoff_factor`; after `growth_interval` steps in a row that were not, it
    is multiplied by `growth_factor`.

    `step` unscales in the dtype of the optimizer's state, float32 for weights of float16. `unscale_`, for those who
    clip gradients or look at them, unscales in place, where float16 loses what is below 6e-8: better clip to a norm of
    `max_norm * scaler.get_scale()` without it. Through a loss that is itself float16 passes a scale of up to 65504;
    cross_entropy's is float32.
    """

    _scale: float
    _growth_tracker: int  # steps since the scale last changed

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._progress: dict[Optimizer, _Progress] = {}
        self._set(init_scale, growth_factor, backoff_factor, growth_interval, 0)

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def get_scale(self) -> float:
        """What losses are multiplied by."""
        return self._scale if self._enabled else 1.0

    def scale(self, loss: Node) -> Node:
        """The loss times the scale, to call `backward` of."""
        return loss * self._scale if self._enabled else loss

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale in place, to clip them or to look at them before `step`.

        Raises: RuntimeError without gradients, for a second time before `update`, and after `step`.
        """
        if not self._enabled:
            return
        progress = self._look_at(optimizer, "unscale_")
        if progress.unscaled:
            raise RuntimeError("GradScaler.unscale_: expected one call before update; got a second. Call update first")
        progress.unscaled = True
        scale(grads_of("GradScaler.unscale_", optimizer.parameters), 1 / self._scale)

    def step(self, optimizer: Optimizer) -> None:
        """Have the optimizer do its step with unscaled gradients, unless some are not finite.

        Raises: RuntimeError without gradients, and for a second time before `update`.
        """
        if not self._enabled:
            optimizer.step()
            return
        progress = self._look_at(optimizer, "step")
        progress.stepped = True
        if progress.finite:
            optimizer.step(grad_factor=1.0 if progress.unscaled else 1 / self._scale)

    def update(self) -> None:
        """Change the scale, if it is time to: call it after the steps of all optimizers.

        Raises: RuntimeError if there was none.
        """
        if not self._enabled:
            return
        if not self._progress:
            raise RuntimeError("GradScaler.update: expected a step before it; got none. Call step(optimizer) first")
        self._growth_tracker += 1
        if not all(progress.finite for progress in self._progress.values()):
            self._scale *= self.backoff_factor
            self._growth_tracker = 0
        elif self._growth_tracker == self.growth_interval:
            self._scale *= self.growth_factor
            self._growth_tracker = 0
        self._progress.clear()

    def state_dict(self) -> dict[str, Any]:
        """The scale, its settings, and for how many steps it has been; nothing if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`; nothing happens if disabled.

        Raises: ValueError for other keys, or values that cannot be; nothing has changed then.
        """
        expected = self.state_dict()
        if self._enabled and set(state_dict) != set(expected):
            got = ", ".join(state_dict) or "nothing: was it saved by a disabled one?"
            raise ValueError(f"GradScaler.load_state_dict: expected {', '.join(expected)}; got {got}")
        if self._enabled:
            self._set(*(state_dict[key] for key in expected))

    def _set(self, scale: float, growth: float, backoff: float, interval: int, tracker: int) -> None:
        for name, value, what, holds in (
            ("a scale", scale, "above 0", scale > 0),
            ("growth_factor", growth, "above 1", growth > 1),
            ("backoff_factor", backoff, "between 0 and 1", 0 < backoff < 1),
            ("growth_interval", interval, "of 1 or more", interval >= 1),
        ):
            if not holds:
                raise ValueError(f"GradScaler: expected {name} {what}; got {value}")
        self._scale = float(scale)
        self.growth_factor = growth
        self.backoff_factor = backoff
        self.growth_interval = interval
        self._growth_tracker = tracker

    def _look_at(self, optimizer: Optimizer, caller: str) -> _Progress:
        """The optimizer's progress; at first, whether its gradients are finite."""
        progress = self._progress.get(optimizer)
        if progress is None:
            grads = grads_of("GradScaler", optimizer.parameters)
            if not grads:
                raise RuntimeError(
                    f"GradScaler.{caller}: expected gradients; got none. Call scale(loss).backward() first"
                )
            progress = self._progress[optimizer] = _Progress(are_finite(grads))
        if progress.stepped:
            raise RuntimeError(f"GradScaler.{caller}: expected update after step; got {caller}. Call update first")
        return progress
