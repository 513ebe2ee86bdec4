"""detect_anomaly: find the op that first made a NaN or an Inf."""

from __future__ import annotations

from functools import partial
from typing import Any, final

from ownt import device as devices
from ownt.dtype import is_float
from ownt.launch import Launch, Watch
from ownt.thread import state


@final
class AnomalyError(RuntimeError):
    """A kernel wrote a NaN or an Inf."""


@final
class detect_anomaly:
    """Check all that is computed inside, forward and backward, for NaN and Inf: `with ag.detect_anomaly(): ...`.

    Raises: AnomalyError naming the op, the kernel, the module path and the first index. Slow: for searching.
    """

    def __init__(self) -> None:
        self._outer: list[Watch | None] = []

    def __enter__(self) -> None:
        self._outer.append(state.launch)
        state.launch = partial(_run, state.launch)

    def __exit__(self, *_: object) -> None:
        state.launch = self._outer.pop()


def _run(outer: Watch | None, launch: Launch) -> None:
    launch.run(outer)
    for tensor in launch.written:
        array = tensor.array
        if is_float(array.dtype):
            with devices.of(array).quiet():
                _check(array, launch)


def _check(array: Any, launch: Launch) -> None:
    """Raises: AnomalyError if what a launch wrote is not finite."""
    bad = ~devices.module(array).isfinite(array)
    if bad.any():
        where = tuple(int(axis[0]) for axis in bad.nonzero()) if bad.ndim else ()
        place = f" in {launch.path}" if launch.path else ""
        raise AnomalyError(
            f"{launch.op or launch.name}{place}: expected finite numbers; got {array[where]} at {where} "
            f"of shape {array.shape}, written by kernel {launch.name}. Look at its inputs just before"
        )
