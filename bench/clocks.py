"""Clocks for what runs on the host, and for what is launched to a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

FEWEST = 3  # times that are taken, however long each is
AT_ONCE = 10  # launches that a GPU is given together
BUSY_NS = 4_000_000  # while the host launches them

SPIN = r"""extern "C" __global__ void spin(long long ns) {
  long long start, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); while (now - start < ns);
}"""

Before, Run = Callable[[], Any], Callable[[Any], Any]  # what comes before the clock starts, and what is timed


def host(before: Before, run: Run, seconds: float) -> list[float]:
    """Times of `run`, again and again, for so long in all."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST or time.perf_counter() < end:
        given = before()
        start = time.perf_counter()
        result = run(given)
        times.append(time.perf_counter() - start)
        del given, result
    return times


class Gpu:
    """Times by events of CuPy's or PyTorch's: how long the GPU takes, however long the host takes to launch it.

    The GPU is kept busy by a kernel that spins, until some launches wait for it.
    """

    def __init__(self, event: Callable[[], Any], spin: Callable[[], Any], elapsed_ms: Callable[[Any, Any], float]):
        self._event, self._spin, self._elapsed_ms = event, spin, elapsed_ms  # an event is recorded when it is made

    def __call__(self, before: Before, run: Run, seconds: float) -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < FEWEST or time.perf_counter() < end:
            self._spin()
            marks = [self._timed(before, run) for _ in range(AT_ONCE)]
            marks[-1][1].synchronize()
            times += [self._elapsed_ms(*pair) / 1e3 for pair in marks]
        return times

    def _timed(self, before: Before, run: Run) -> tuple[Any, Any]:
        given = before()
        start = self._event()
        result = run(given)
        del given, result
        return start, self._event()


def of_cupy(device: str) -> Gpu:
    """For what is launched to our stream."""
    import cupy
    import numpy

    import ownt

    place: Any = ownt.device.get(device)
    kernel = cupy.RawKernel(SPIN, "spin")

    def spin() -> None:
        with place.working():
            kernel((1,), (1,), (numpy.int64(BUSY_NS),))

    def event() -> Any:
        made = cupy.cuda.Event()
        made.record(place.stream)
        return made

    return Gpu(event, spin, cupy.cuda.get_elapsed_time)


def of_torch() -> Gpu:
    """For what is launched to PyTorch's current stream."""
    import torch

    def event() -> Any:
        made = torch.cuda.Event(enable_timing=True)
        made.record()
        return made

    return Gpu(event, lambda: torch.cuda._sleep(2 * BUSY_NS), lambda start, end: start.elapsed_time(end))
