"""CUDA graphs: what was launched one by one, launched as one.

While launches are captured, a stream takes note of their work instead of doing it. The graph made of it does it each
time it is launched, with the addresses and numbers of then: what changes from one time to the next lies in memory of
the GPU. The stream that is captured is one of its own, so that what other threads launch meanwhile is done as always.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, final

from ownt import device as devices
from ownt.device import Device
from ownt.kernel import Out
from ownt.launch import CaptureError, Launch
from ownt.thread import state


@final
class Graph:
    """Launches as one: call it."""

    def __init__(self, place: Any, graph: Any) -> None:
        self._place = place
        self._graph = graph
        self._stream = place.stream

    def __call__(self) -> None:
        self._place.here(self._graph.launch, self._stream)

    def __del__(self, is_finalizing: Any = sys.is_finalizing) -> None:  # in the end, sys may be gone
        if not is_finalizing():
            self._place.here(self._stream.synchronize)  # it may be running


def captured(place: Any, launches: Sequence[Launch]) -> Graph:
    """The launches as a graph. Nothing of what they do is done.

    They have been run before, so that what libraries load and compile when first called is there.
    Raises: CaptureError naming the kernel that cannot be part of a graph, because it takes memory, or numbers go to
    or from the GPU in it.
    """
    check(place, launches)
    made: list[Any] = []
    with _capture(place, made):
        for launch in launches:
            try:
                launch.function(*launch.bound)
            except Exception as error:
                raise CaptureError(f"{launch.name}: {' '.join(str(error).split())}") from error
    return Graph(place, made[0])


def check(place: Device, launches: Sequence[Launch]) -> None:
    """Raises: CaptureError for a launch of arrays that are elsewhere: a graph would not see them change."""
    for launch in launches:
        if _is_elsewhere(launch.bound, place):
            raise CaptureError(f"{launch.name}: it takes an array that is not on {place}")


@contextlib.contextmanager
def _capture(place: Any, made: list[Any]) -> Iterator[None]:
    """Have what this thread launches be a graph, which is added to `made`.

    CuPy's current stream is put back by hand: `with stream` would make it the one of the last `with`, whatever `use`
    chose since.
    """
    cuda = place.xp.cuda
    with place.chosen():
        stream, before = cuda.Stream(non_blocking=True), cuda.get_current_stream()
        state.capturing[place] = stream
        try:
            stream.use()
            with cuda.using_allocator(_refuse):
                stream.begin_capture()
                try:
                    yield
                except BaseException:
                    with contextlib.suppress(cuda.runtime.CUDARuntimeError):  # that the capture is broken off
                        stream.end_capture()
                    raise
                made.append(_ended(stream, cuda.runtime.CUDARuntimeError))
        finally:
            before.use()
            del state.capturing[place]


def _ended(stream: Any, failure: type[Exception]) -> Any:
    try:
        return stream.end_capture()
    except failure as error:
        raise CaptureError(f"no kernel by itself: {error}") from error


def _refuse(size_bytes: int) -> Any:
    raise RuntimeError(f"it takes {size_bytes:,} bytes of memory")


def _is_elsewhere(part: Any, place: Device) -> bool:
    """Whether a bound argument is, or has in it, an array of another device than this."""
    if type(part) is Out:
        part = part.array
    if isinstance(part, (tuple, list)):
        return any(_is_elsewhere(value, place) for value in part)
    if type(part) is dict:
        return any(_is_elsewhere(value, place) for value in part.values())
    return devices.is_array(part) and devices.of(part) is not place
