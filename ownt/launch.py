"""Launches: the one way in which numbers are written while a model runs, so that it can be watched and repeated.

While `state.launch` is set, launches are its to run: it is called with each one, and runs it. That is how a step is
recorded (ownt.capture), timed (ownt.profile) and searched for NaN (ag.detect_anomaly).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, final

from ownt import device as devices
from ownt.thread import state


class CaptureError(RuntimeError):
    """Launches cannot be made one; the message names the kernel, and why."""


@final
class Launch:
    """A function about to write to tensors.

    name:       of its kernel; op and path: for which op of which module
    function:   with `bound`, the arguments that it is called with
    written:    the tensors it writes to
    traffic:    bytes that it reads and writes, each number once
    operations: of arithmetic; 0 where nobody has said how many
    """

    __slots__ = ("bound", "function", "name", "op", "operations", "path", "traffic", "written")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        bound: Sequence[Any],
        written: Sequence[Any] = (),
        traffic: int = 0,
        operations: int = 0,
    ) -> None:
        self.name = name
        self.function = function
        self.bound = bound
        self.written = written
        self.traffic = traffic
        self.operations = operations
        self.op = state.op
        self.path = state.path

    def run(self, outer: Watch | None = None) -> None:
        """Call the function, or leave it to another who watches."""
        if outer is None:
            self.function(*self.bound)
        else:
            outer(self)


Watch = Callable[[Launch], None]


def run(name: str, function: Callable[..., Any], bound: Sequence[Any], written: Sequence[Any] = ()) -> None:
    """Launch what is no kernel: a check of values, a write in place."""
    if any(isinstance(part, devices.MetaArray) for part in bound):
        function = nothing
    if state.launch is None:
        function(*bound)
    else:
        traffic = sum(getattr(part, "nbytes", 0) for part in bound)
        state.launch(Launch(name, function, bound, written, traffic))


def nothing(*_: Any) -> None:
    """What a launch on the meta device does."""


def not_repeatable(what: str) -> None:
    """Tell a recording in progress that its replay would not do what was done just now."""
    if state.recording is not None:
        state.recording.spoil(f"{what}, {_caller()}")


def _caller() -> str:
    """Where the caller's own code is: the innermost frame outside the lower packages."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("ownt", "ag"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
