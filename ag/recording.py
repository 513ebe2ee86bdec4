"""Whether ops are recorded for backward: by each thread, and not inside `no_grad`."""

from __future__ import annotations

import contextlib
import threading
from typing import final


@final
class Recording(threading.local):
    """Whether ops of this thread are recorded for backward."""

    enabled = True


recording = Recording()


@final
class no_grad(contextlib.ContextDecorator):
    """Ops run inside are not recorded: `with ag.no_grad(): ...`, or `@ag.no_grad()` on a function."""

    def __init__(self) -> None:
        self._before: list[bool] = []  # a stack: one instance may be entered again inside itself

    def __enter__(self) -> None:
        self._before.append(recording.enabled)
        recording.enabled = False

    def __exit__(self, *_: object) -> None:
        recording.enabled = self._before.pop()
