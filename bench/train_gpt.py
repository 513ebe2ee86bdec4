"""A training step of the same GPT in ownt, PyTorch and JAX: time, tokens a second, memory, and their ratios.

    python bench/train_gpt.py [--config micro|char|baby|gpt2|all] [--peers torch,torch-compile,jax]
                              [--threads N] [--steps N] [--json FILE] [--plot FILE]
    python bench/train_gpt.py --device cuda [--config 124m-b4,124m-b64] [--dtype bfloat16|float16|float32]
                              [--peers torch,torch-compile] [--modes default,reduce-overhead] [--json FILE]

All start from the same weights and see the same batches, in float32, with AdamW. Each runs in a process of its own;
they train in turn, some steps at a time, and only one of them at any time. A step's time is from the batch to its loss
as a number. A peer with several ways to do it (three AdamWs, modes of torch.compile, two attentions in JAX) first
tries them all, and goes on with the fastest. The losses of the first steps have to agree.

resident: the most that was resident in the process. heap: the most that memray saw allocated at any time from before
the model is made to the end of step 3, in another process, with libraries warmed up; what compiles does so in it, too.
first step: with what compiles in it; caches on disk are as they were, or with --cold, empty.

On a GPU (or with --queued) see bench/gpt_queued.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import gpt_sizes
import workers
from gpt_peers import PEERS
from gpt_shown import show
from gpt_sizes import ALL_SIZES, SIZES, SMALL
from workers import DisagreementError, Worker, WorkerError

CHECKED = 5  # steps whose losses have to agree
RTOL = 1e-4
ROUNDS = 5
TRIALS = 2  # rounds, to find the fastest of a framework's ways
HEAP_STEPS = 3
CACHES = {"torch": "TORCHINDUCTOR_CACHE_DIR", "ownt": "NUMBA_CACHE_DIR"}
SCRIPT = Path(__file__).with_name("gpt_worker.py")
ON_CPU = ("cpu", "float32")


@dataclass
class Result:
    """What was measured of one framework at one size."""

    config: str
    framework: str
    variant: str
    first_step_s: float
    losses: list[float]
    median_s: float = 0.0
    deciles_s: tuple[float, float] = (0.0, 0.0)  # a tenth of the steps were faster, a tenth slower
    tokens_per_s: float = 0.0
    resident_peak_bytes: int | None = None
    heap_peak_bytes: int | None = None

    def take(self, times: list[float], tokens: int) -> None:
        """Sum up the times of all steps."""
        ordered = sorted(times)
        self.median_s = statistics.median(ordered)
        self.deciles_s = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
        self.tokens_per_s = tokens / self.median_s


@dataclass
class Runner:
    """A framework at work: its process, its times so far, and what will be said of it."""

    worker: Worker
    result: Result
    times: list[float]

    @classmethod
    def start(cls, config: str, framework: str, variant: str, file: Path, threads: int) -> Runner:
        """Raises: WorkerError if it cannot train."""
        worker = Worker(framework, SCRIPT, framework, variant, config, str(file), *ON_CPU, threads=threads)
        try:
            first = worker.ask(steps=CHECKED)
        except WorkerError:
            worker.close()
            raise
        return cls(worker, Result(config, framework, variant, first["times_s"][0], first["losses"]), [])

    def train(self, steps: int) -> None:
        answer = self.worker.ask(steps=steps)
        self.times += answer["times_s"]
        self.result.resident_peak_bytes = answer["resident_peak_bytes"]


def fastest(config: str, framework: str, file: Path, threads: int) -> Runner:
    """Of the ways in which a framework can do it the fastest: they try in turn, and the others end.

    Raises: WorkerError if it can in no way.
    """
    runners = started(config, framework, file, threads)
    best = runners[0]
    try:
        for _ in range(TRIALS if len(runners) > 1 else 0):
            for runner in runners:
                runner.train(max(2, ALL_SIZES[config].steps // 10))
        best = min(runners, key=lambda runner: statistics.median(runner.times or [0]))
        best.times.clear()
    finally:
        for runner in runners:
            if runner is not best:
                runner.worker.close()
    return best


def started(config: str, framework: str, file: Path, threads: int) -> list[Runner]:
    """A framework in all the ways that work. Raises: WorkerError if none does."""
    runners, failures = [], []
    for way in PEERS.get(framework, [""]):
        try:
            runners.append(Runner.start(config, framework, way, file, threads))
        except WorkerError as error:
            failures.append(error)
    if not runners:
        raise failures[0]
    return runners


def check_losses(results: list[Result]) -> float:
    """The largest relative difference from the first's losses. Raises: DisagreementError if it is no rounding."""
    worst = 0.0
    for result in results[1:]:
        for i, (loss, expected) in enumerate(zip(result.losses, results[0].losses, strict=True)):
            difference = abs(loss - expected) / abs(expected)
            if not difference <= RTOL:
                raise DisagreementError(
                    f"{result.config}: {result.framework} does not train the same model: its loss in step {i + 1} is "
                    f"{loss}, that of {results[0].framework} {expected}"
                )
            worst = max(worst, difference)
    return worst


def heap_peak_bytes(result: Result, file: Path, small: Path, threads: int) -> int:
    worker = Worker(
        result.framework, SCRIPT, result.framework, result.variant, result.config, str(file), *ON_CPU, threads=threads
    )
    try:
        return worker.ask(heap=HEAP_STEPS, small=str(small))["heap_peak_bytes"]
    finally:
        worker.close()


def measure(config: str, frameworks: list[str], threads: int, steps: int | None, folder: Path) -> list[Result]:
    """All frameworks at one size. A peer that fails is left out, with a line."""
    size, file, small = ALL_SIZES[config], folder / f"{config}.npz", folder / f"{SMALL}.npz"
    gpt_sizes.write(SIZES[SMALL], small)
    print(f"\n{config}: {size}; {gpt_sizes.write(size, file):,} parameters", flush=True)
    runners: list[Runner] = []
    try:
        for framework in frameworks:
            with left_out(framework):
                runners.append(fastest(config, framework, file, threads))
        worst = check_losses([runner.result for runner in runners])
        alive = take_turns(runners, math.ceil((steps or size.steps) / ROUNDS))
    finally:
        for runner in runners:
            runner.worker.close()
    for runner in alive:
        runner.result.take(runner.times, size.tokens)
    results = [runner.result for runner in alive]
    if find_spec("memray"):
        for result in results:
            with left_out(f"heap of {result.framework}"):
                result.heap_peak_bytes = heap_peak_bytes(result, file, small, threads)
    show(results, worst, CHECKED)
    file.unlink()
    return results


@contextlib.contextmanager
def left_out(what: str) -> Iterator[None]:
    """Where a peer fails, a line says so and the run goes on; where ours does, it ends."""
    try:
        yield
    except WorkerError as error:
        if "ownt" in what:
            raise
        print(f"{what}: left out, it failed. {error}", flush=True)


def take_turns(runners: list[Runner], steps: int) -> list[Runner]:
    """Some rounds of as many steps each; returns those that lived through them."""
    for _ in range(ROUNDS):
        alive = []
        for runner in runners:
            with left_out(runner.result.framework):
                runner.train(steps)
                alive.append(runner)
        runners = alive
    return runners


def modes(text: str) -> list[str]:
    return text.split(",")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config",
        type=workers.chosen_from([*ALL_SIZES, "all"]),
        help="(default: micro, and on a GPU all)",
    )
    parser.add_argument("--peers", type=workers.chosen_from(list(PEERS)), default=[], help=", ".join(PEERS))
    parser.add_argument("--threads", type=workers.thread_count, default=workers.cores(), help="for each framework")
    parser.add_argument("--steps", type=int, help="to time of each framework (default: some seconds)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], help="(default: a GPU's is bfloat16)")
    parser.add_argument("--queued", action="store_true", help="wait once for many steps, as for a GPU")
    parser.add_argument("--modes", type=modes, default=["default"], help="of torch.compile, on a GPU")
    parser.add_argument("--cold", action="store_true", help="begin with empty caches of compiled code")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--plot", type=Path, help="draw the times, to an .svg or .png file")
    options = parser.parse_args(arguments)
    options.queued |= options.device != "cpu"
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    options.config = options.config or ["all" if options.queued else "micro"]
    if options.dtype != "float32" and not options.queued:
        parser.error("--dtype: expected float32 on the CPU, unless --queued")
    if options.queued and "jax" in options.peers:
        parser.error("--peers: expected torch and torch-compile with --device cuda and --queued; got jax")
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps: expected 1 or more; got {options.steps}")
    if options.plot and not find_spec("matplotlib"):
        parser.error("--plot: matplotlib is not installed. pip install 'ownt[bench]'")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    described = workers.machine(options.threads)
    if options.queued:
        import gpt_queued

        sys.exit(gpt_queued.run(options, described))
    if not find_spec("memray"):
        print("heap: left out, memray is not installed. pip install 'ownt[bench]'")
    frameworks = ["ownt-step", "ownt", *workers.installed(options.peers)]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.cold:
            os.environ.update({variable: f"{folder}/{name}" for name, variable in CACHES.items()})
        one = partial(measure, threads=options.threads, steps=options.steps, folder=Path(folder))
        try:
            for config in SIZES if options.config == ["all"] else options.config:
                results += one(config, frameworks)
        except (DisagreementError, WorkerError) as error:
            sys.exit(f"train_gpt: {error}")
        finally:
            if options.json:
                found = {"machine": described, "results": [asdict(result) for result in results]}
                options.json.write_text(json.dumps(found, indent=2))
    if options.plot:
        import gpt_plot

        gpt_plot.draw([asdict(result) for result in results], options.plot)


if __name__ == "__main__":
    main()
