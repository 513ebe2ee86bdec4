"""One framework's ops in a process, timed one by one, for bench/kernels.py.

    python bench/kernel_worker.py ownt|torch|machine DEVICE DTYPE THREADS

Questions: {"case": name, "size": name, "seconds": s} answers with the times and with the norms of the results, for
comparison; {"case": name, "size": name, "error": true} with the largest relative error of a result against float64 on
the CPU. Of "machine" the question is {"seconds": s}, and the answer what it copies and multiplies a second.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import clocks
import numpy
import workers
from gpt_sizes import ALL_SIZES, Size
from kernel_cases import CASES, Case
from kernel_ops import Arrays, Ours, Torch, Values, repeated

COPIED = 32_000_000  # elements: far more than caches hold
MULTIPLIED = 2048  # rows and columns
GPU_COPIED, GPU_MULTIPLIED = 1 << 29, 8192  # the same on a GPU
DRAWN = 1 << 24  # random numbers at most; larger inputs repeat them
COMPARED = 1 << 22  # numbers of a result at most, of those that norms are of
UPDATES = ("adamw", "clip")
RANDOM = ("dropout",)

Prepared = tuple[Callable[[], Any], Callable[[Any], Any]]  # what comes before the clock starts, and what is timed


def drawn(case: Case, size: Size) -> Arrays:
    """The inputs, the same in each process."""
    random = numpy.random.default_rng(0)

    def draw(name: str, shape: tuple[int, ...]) -> Values:
        if name in ("targets", "tokens"):
            return random.integers(0, size.vocab, shape)
        return repeated(random.standard_normal(min(math.prod(shape), DRAWN), numpy.float32), shape)

    return {name: draw(name, shape) for name, shape in case.shapes(size).items()}


class Bench:
    """The cases of one framework. The last that was asked for stays prepared."""

    def __init__(self, framework: Ours | Torch) -> None:
        self._framework = framework
        self._clock = framework.clock()
        self._prepared = lru_cache(maxsize=1)(self._prepare)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        if "error" in question:
            self._prepared.cache_clear()
            return {"error": error_of(self._framework, question["case"], question["size"])}
        (before, run), norms = self._prepared(question["case"], question["size"])
        return {"times_s": self._clock(before, run, question["seconds"]), "norms": norms}

    def _prepare(self, name: str, size: str) -> tuple[Prepared, list[float]]:
        """What to time, run once, and the norms of its results."""
        prepared, results = self.results(CASES[name], ALL_SIZES[size], drawn(CASES[name], ALL_SIZES[size]))
        norms = [self._framework.array(result.reshape(-1)[:COMPARED]) for result in results]
        return prepared, [float(numpy.linalg.norm(norm.astype("float64"))) for norm in norms]

    def results(self, case: Case, size: Size, arrays: Arrays) -> tuple[Prepared, list[Any]]:
        """What to time, run once, and its results, unless they are random or only changes."""
        framework = self._framework
        if case.op in UPDATES:
            update = framework.update(case.op, arrays)
            update()
            return (lambda: None, lambda _: update()), []
        function = framework.op(case.op, size)
        inputs = framework.inputs(arrays, case.wants)
        if case.wants:
            prepared, results = self._backward(function, inputs)
        else:
            prepared, results = self._forward(function, inputs)
        return prepared, [] if case.op in RANDOM else results

    def _forward(self, function: Callable[..., Any], inputs: list[Any]) -> tuple[Prepared, list[Any]]:
        def run(_: Any) -> Any:
            with self._framework.without_graph():
                return function(*inputs)

        return (lambda: None, run), [run(None)]

    def _backward(self, function: Callable[..., Any], inputs: list[Any]) -> tuple[Prepared, list[Any]]:
        leaves = [leaf for leaf in inputs if leaf.requires_grad]
        random = numpy.random.default_rng(1)
        y = function(*inputs)
        numbers = random.standard_normal(min(math.prod(y.shape), DRAWN), numpy.float32)
        numbers = (16 * numbers).round() / 16  # which bfloat16 holds
        g = self._framework.like(y, repeated(numbers, tuple(y.shape)))
        del y

        def fresh() -> Any:
            self._framework.forget(leaves)
            return function(*inputs)

        def run(y: Any) -> None:
            self._framework.backward(y, g)

        run(fresh())
        return (fresh, run), [leaf.grad for leaf in leaves]


def error_of(framework: Ours | Torch, name: str, size: str) -> float | None:
    """The largest of the results' |found - expected| / |expected|, of norms; None where there is nothing to compare.

    What is expected comes from the same numbers, rounded to the dtype, in float64 on the CPU.
    """
    case, shape = CASES[name], ALL_SIZES[size]
    rounding = Ours("cpu", framework.dtype)
    arrays = {key: rounding.tensor(array).numpy() for key, array in drawn(case, shape).items()}
    _, found = Bench(framework).results(case, shape, arrays)
    _, expected = Bench(Ours("cpu", "float64")).results(case, shape, arrays)
    pairs = [(framework.array(a).astype("float64"), b.numpy()) for a, b in zip(found, expected, strict=True)]
    return max((float(numpy.linalg.norm(a - b) / numpy.linalg.norm(b)) for a, b in pairs), default=None)


def gpu(device: str, dtype: str) -> workers.Answer:
    """The same as `machine` for a GPU, by CuPy and the cuBLAS that it calls."""
    import cupy

    import ownt

    place: Any = ownt.device.get(device)
    clock = clocks.of_cupy(device)
    numbers = numpy.random.default_rng(0).standard_normal(DRAWN, numpy.float32)  # of zeros a GPU multiplies faster
    with place.working():
        a, b = cupy.zeros(GPU_COPIED, numpy.float32), cupy.zeros(GPU_COPIED, numpy.float32)
        shape = (GPU_MULTIPLIED, GPU_MULTIPLIED)
        pairs = [cupy.asarray(numpy.resize(numbers, shape)).astype(ownt.dtype.get(dtype)) for _ in range(2)]
        product = cupy.empty_like(pairs[0])

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        with place.working():
            copying = clock(lambda: None, lambda _: cupy.copyto(b, a), question["seconds"])
            multiplying = clock(lambda: None, lambda _: cupy.matmul(*pairs, out=product), question["seconds"])
        name = cupy.cuda.runtime.getDeviceProperties(place.index)["name"].decode()
        return {
            "copied_per_s": 2 * a.nbytes / statistics.median(copying),
            "multiplied_per_s": 2 * GPU_MULTIPLIED**3 / statistics.median(multiplying),
            "name": name,
        }

    return answer


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
        copying = clocks.host(lambda: None, copy, question["seconds"])
        multiplying = clocks.host(
            lambda: None, lambda _: numpy.matmul(square, square, out=product), question["seconds"]
        )
        return {
            "copied_per_s": 2 * a.nbytes / min(copying),
            "multiplied_per_s": 2 * MULTIPLIED**3 / min(multiplying),
        }

    return answer


def start(framework: str, device: str, dtype: str, threads: str) -> workers.Answer:
    workers.hold(framework, int(threads))
    if framework == "machine":
        return machine(int(threads)) if device == "cpu" else gpu(device, dtype)
    return Bench((Torch if framework == "torch" else Ours)(device, dtype)).answer


if __name__ == "__main__":
    workers.serve(partial(start, *sys.argv[1:]))
