"""detect_anomaly: find the op that first made a NaN or an Inf."""

from __future__ import annotations

from typing import final

from ownt import device as devices
from ownt.kernel import Kernel, Out
from ownt.thread import state


@final
class AnomalyError(RuntimeError):
    """A kernel wrote a NaN or an Inf."""


@final
class detect_anomaly:
    """Check all that is computed inside, forward and backward, for NaN and Inf: `with ag.detect_anomaly(): ...`.

    Raises: AnomalyError naming the op, the kernel, the module path and the first index. Slow: for searching.
    """

    def __enter__(self) -> None:
        self._before = state.check
        state.check = _check

    def __exit__(self, *_: object) -> None:
        state.check = self._before


def _check(kernel: Kernel, written: list[Out]) -> None:
    for out in written:
        if out.array.dtype.kind != "f":
            continue
        bad = ~devices.module(out.array).isfinite(out.array)
        if bad.any():
            where = tuple(int(axis[0]) for axis in bad.nonzero()) if bad.ndim else ()
            place = f" in {state.path}" if state.path else ""
            raise AnomalyError(
                f"{state.op or kernel.name}{place}: expected finite numbers; got {out.array[where]} at {where} "
                f"of shape {out.array.shape}, written by kernel {kernel.name}. Look at its inputs just before"
            )
