"""What each thread has of its own: where in the model it is, what it runs, and its scratch memory; and `apart`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final


@final
class _State(threading.local):
    """Where much is read at once, `mine = state.__dict__` is this thread's part as a plain dict, which is faster."""

    def __init__(self) -> None:
        self.path = ""  # module path, e.g. "blocks.0.attn"
        self.op = ""  # the op whose kernels are being launched
        self.device: Any = None  # where tensors are made unless something else is said
        self.replay: tuple[int, int] | None = None  # where random numbers are drawn again; see ownt.random
        self.launch: Callable[[Any], None] | None = None  # who watches launches, and runs them; see ownt.launch
        self.recording: Any = None  # the ownt.capture.Recording in progress
        self.in_step: Any = None  # the slots whose gradients are scratch memory, to be gone when nn.Step ends
        self.scratch: dict[Any, Any] = {}  # device -> its scratch arena
        self.temporaries: dict[Any, Any] = {}  # GPU -> the arena of what references compute on the way
        self.plans: dict[Any, Any] = {}  # see ag.plans
        self.walk: Any = None  # the ag.walk.Walk in the making, told of plans of gradients that are followed
        self.capturing: dict[Any, Any] = {}  # GPU -> the stream that this thread launches to, for a CUDA graph of it


state = _State()


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) on a thread of its own: for what keeps tracebacks, whose frames would hold a caller's tensors."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(function, *args).result()
