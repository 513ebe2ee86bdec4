"""Several calls bound as one launch, for overrides that take more than one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, final

from ownt import scratch
from ownt.kernel import Kernel, Out
from ownt.tensor import Tensor

Call = tuple[Callable[..., None], tuple[Any, ...]]


@final
class Calls:
    """Calls one after the other, and their workspaces, each held until all calls are known: so that none lies on
    another.

    like: a tensor on the device
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._calls: list[Call] = []
        self._held: list[Tensor] = []

    def workspace(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """An uninitialised tensor that lasts until the calls are done; its dtype is that of `like` by default."""
        self._held.append(scratch.empty(shape, self._like, dtype, kind="workspace"))
        return self._held[-1]

    def add(self, function: Callable[..., None], *arguments: Any) -> None:
        """Then call a function."""
        self._calls.append((function, arguments))

    def launch(self, kernel: Kernel, *arrays: Any, **outs: Out | None) -> None:
        """Then launch a kernel on arrays."""
        self._calls.append(kernel.bind(*arrays, **outs))

    def bound(self) -> Call:
        """What an override returns."""
        return in_order(*self._calls)


def in_order(*calls: Call) -> Call:
    """Calls as one, done one after the other."""
    return _run, calls


def parts_of(call: Call) -> Iterator[Call]:
    """The calls that one is made of; itself unless it is made of several."""
    function, arguments = call
    if function is not _run:
        yield call
        return
    for part in arguments:
        yield from parts_of(part)


def _run(*calls: Call) -> None:
    for function, arguments in calls:
        function(*arguments)
