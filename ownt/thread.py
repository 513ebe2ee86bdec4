"""What each thread has of its own: where in the model it is, what it runs, and its scratch memory; and `apart`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final


@final
class _State(threading.local):
    path: str = ""  # module path, e.g. "blocks.0.attn"
    op: str = ""  # the op whose kernels are being launched
    device: Any = None  # where tensors are made unless something else is said
    replay: tuple[int, int] | None = None  # where this thread draws random numbers again; see ownt.random
    launch: Callable[[Any], None] | None = None  # who watches launches, and runs them; see ownt.launch
    recording: Any = None  # the ownt.capture.Recording in progress
    in_step: Any = None  # the slots whose gradients are scratch memory, to be gone when nn.Step ends

    def __init__(self) -> None:
        self.scratch: dict[Any, Any] = {}  # device -> its scratch arena
        self.temporaries: dict[Any, Any] = {}  # GPU -> the arena of what references compute on the way
        self.capturing: dict[Any, Any] = {}  # GPU -> the stream that this thread launches to, for a CUDA graph of it


state = _State()


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) on a thread of its own: for what keeps tracebacks, whose frames would hold a caller's tensors."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(function, *args).result()
