"""One framework's ops in a process, timed one by one, for bench/kernels.py.

    python bench/kernel_worker.py ownt|torch|machine THREADS

Questions: {"case": name, "size": name, "seconds": s} answers with the times and with the norms of the results, for
comparison. Of "machine" the question is {"seconds": s}, and the answer what it copies and multiplies a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy
import workers
from gpt_sizes import SIZES, Size
from kernel_cases import CASES, Case
from kernel_ops import Arrays, Ours, Torch

FEWEST = 3  # times that are taken, however long each is
COPIED = 32_000_000  # elements: far more than caches hold
MULTIPLIED = 2048  # rows and columns
UPDATES = ("adamw", "clip")
RANDOM = ("dropout",)

Prepared = tuple[Callable[[], Any], Callable[[Any], Any]]  # what comes before the clock starts, and what is timed


def drawn(case: Case, size: Size) -> Arrays:
    """The inputs, the same in each process."""
    random = numpy.random.default_rng(0)

    def draw(name: str, shape: tuple[int, ...]) -> numpy.ndarray:
        if name in ("targets", "tokens"):
            return random.integers(0, size.vocab, shape)
        return random.standard_normal(shape, numpy.float32)

    return {name: draw(name, shape) for name, shape in case.shapes(size).items()}


class Bench:
    """The cases of one framework. The last that was asked for stays prepared."""

    def __init__(self, framework: Ours | Torch) -> None:
        self._framework = framework
        self._prepared = lru_cache(maxsize=1)(self._prepare)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        (before, run), norms = self._prepared(question["case"], question["size"])
        return {"times_s": timed(before, run, question["seconds"]), "norms": norms}

    def _prepare(self, name: str, size: str) -> tuple[Prepared, list[float]]:
        """What to time, run once, and the norms of its results."""
        case, framework = CASES[name], self._framework
        arrays = drawn(case, SIZES[size])
        if case.op in UPDATES:
            update = framework.update(case.op, arrays)
            update()
            return (lambda: None, lambda _: update()), []
        function = framework.op(case.op, SIZES[size])
        inputs = framework.inputs(arrays, case.wants)
        if case.wants:
            prepared, results = self._backward(function, inputs)
        else:
            prepared, results = self._forward(function, inputs)
        return prepared, [] if case.op in RANDOM else [framework.norm(result) for result in results]

    def _forward(self, function: Callable[..., Any], inputs: list[Any]) -> tuple[Prepared, list[Any]]:
        def run(_: Any) -> Any:
            with self._framework.without_graph():
                return function(*inputs)

        return (lambda: None, run), [run(None)]

    def _backward(self, function: Callable[..., Any], inputs: list[Any]) -> tuple[Prepared, list[Any]]:
        leaves = [leaf for leaf in inputs if leaf.requires_grad]
        random = numpy.random.default_rng(1)
        g = self._framework.tensor(random.standard_normal(tuple(function(*inputs).shape), numpy.float32))

        def fresh() -> Any:
            self._framework.forget(leaves)
            return function(*inputs)

        def run(y: Any) -> None:
            self._framework.backward(y, g)

        run(fresh())
        return (fresh, run), [leaf.grad for leaf in leaves]


def timed(before: Callable[[], Any], run: Callable[[Any], Any], seconds: float) -> list[float]:
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


def machine(threads: int) -> workers.Answer:
    """What bounds any kernel: bytes copied (read and written) and operations of matrix products, a second, at best."""
    a, b = (numpy.ones(COPIED, numpy.float32) for _ in range(2))
    parts = [slice(i * COPIED // threads, (i + 1) * COPIED // threads) for i in range(threads)]
    square = numpy.ones((MULTIPLIED, MULTIPLIED), numpy.float32)
    product = numpy.empty_like(square)
    pool = ThreadPoolExecutor(threads)

    def copy(_: Any) -> None:
        list(pool.map(lambda part: numpy.copyto(b[part], a[part]), parts))

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        copying = timed(lambda: None, copy, question["seconds"])
        multiplying = timed(lambda: None, lambda _: numpy.matmul(square, square, out=product), question["seconds"])
        return {
            "copied_per_s": 2 * a.nbytes / min(copying),
            "multiplied_per_s": 2 * MULTIPLIED**3 / min(multiplying),
        }

    return answer


def start(framework: str, threads: str) -> workers.Answer:
    workers.hold(framework, int(threads))
    if framework == "machine":
        return machine(int(threads))
    return Bench(Torch() if framework == "torch" else Ours()).answer


if __name__ == "__main__":
    workers.serve(partial(start, *sys.argv[1:]))
