"""Each hot op at the shapes of a GPT: its time, against what the machine can do and against PyTorch's.

    python bench/kernels.py [--config micro|char|baby|gpt2|all] [--kernel NAME] [--peers torch] [--threads N]
                            [--seconds S] [--json FILE] [--device cpu|cuda] [--dtype float32|bfloat16|float16]

Every framework has a process of its own, and they take turns. A forward runs without a graph. A backward is the public
one, on a graph made freshly, which is not in the time; what is: finding the one record, the copy of the given gradient
(ours), the gradients that the case names and their allocation, as they are a leaf's. For both all products go to all
threads. AdamW and clipping are of the whole model; PyTorch's AdamW is the fused one.

The bound is the larger of the bytes that have to be read and written, each once, over the rate of a big copy, and of
the operations of matrix products over the rate of a big one; both are measured in the same run. What is still in a
cache may beat the copy. GB/s or GFLOP/s: by the bound that counts. The results of both are compared by their norms.

On a GPU the size is 124m-b64 and a time the GPU's own, by events, with launches waiting for it. error: the largest
relative error of a result or gradient, at the size "char", against float64 on the CPU; a kernel that fails is a line,
and the rest goes on, with exit status 1.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import workers
from gpt_sizes import ALL_SIZES, SMALL
from kernel_cases import CASES, ITEM_BYTES, Case
from workers import DisagreementError, Worker, WorkerError

ROUNDS = 3
LIMIT_S = 60.0  # for an answer, on a GPU
RTOL = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 5e-3}  # between norms of results
SCRIPT = Path(__file__).with_name("kernel_worker.py")


@dataclass
class Result:
    """What was measured of an op at one size. Times by framework."""

    kernel: str
    config: str
    median_s: dict[str, float]
    bound_s: float
    by_memory: bool
    moved_bytes: int
    operations: int
    error: float | None = None

    def row(self) -> str:
        ours = self.median_s["ownt"]
        done, unit = (self.moved_bytes, "GB/s") if self.by_memory else (self.operations, "GFLOP/s")
        peer = self.median_s.get("torch")
        beside = f"{1e3 * peer:>10.4g} {peer / ours:>6.2f}x" if peer else ""
        if self.error is not None:
            beside = f"{self.error:>9.1e} {beside}"
        return (
            f"{self.config:<6} {self.kernel:<29} {1e3 * ours:>10.4g} {done / ours / 1e9:>8.1f} {unit:<7} "
            f"{100 * self.bound_s / ours:>5.0f} % {beside}"
        )


def measure(
    name: str, config: str, running: dict[str, Worker], rates: dict[str, float], options: argparse.Namespace
) -> Result:
    """One op at one size in all frameworks, in turn. Raises: DisagreementError if their results differ."""
    seconds, dtype = options.seconds, options.dtype
    error = running["ownt"].ask(case=name, size=SMALL, error=True)["error"] if options.errors else None
    times: dict[str, list[float]] = {framework: [] for framework in running}
    norms = {}
    for _ in range(ROUNDS):
        for framework, worker in running.items():
            answer = worker.ask(case=name, size=config, seconds=seconds / ROUNDS)
            times[framework] += answer["times_s"]
            norms[framework] = answer["norms"]
    check_norms(f"{config}, {name}", norms, RTOL[dtype])
    case: Case = CASES[name]
    medians = {framework: statistics.median(found) for framework, found in times.items()}
    size = ALL_SIZES[config]
    bound_s, by_memory = case.bound_s(size, rates["copied_per_s"], rates["multiplied_per_s"], dtype)
    moved_bytes = case.moved_bytes(size, dtype)
    return Result(name, config, medians, bound_s, by_memory, moved_bytes, case.operations(size), error)


def check_norms(what: str, norms: dict[str, list[float]], rtol: float = 1e-3) -> None:
    """Raises: DisagreementError unless all frameworks have the same norms as ownt."""
    for framework, found in norms.items():
        expected = norms["ownt"]
        same = len(found) == len(expected) and all(
            math.isclose(a, b, rel_tol=rtol) for a, b in zip(found, expected, strict=True)
        )
        if not same:
            raise DisagreementError(f"{what}: {framework} computes results of norms {found}, ownt of {expected}")


def measure_all(
    configs: list[str], names: list[str], frameworks: list[str], options: argparse.Namespace, found: dict[str, Any]
) -> None:
    """Puts results, rates and failures into `found` as they come."""
    start = partial(Worker, threads=options.threads, limit_s=None if options.device == "cpu" else LIMIT_S)
    place = (options.device, options.dtype)
    running = {name: start(name, SCRIPT, name, *place) for name in frameworks}
    bounds = start("machine", SCRIPT, "machine", *place)
    try:
        for config in configs:
            rates = _rates(bounds, options, found)
            copied, multiplied = rates["copied_per_s"] / 1e9, rates["multiplied_per_s"] / 1e9
            print(f"\n{config}: {ALL_SIZES[config]}; copy {copied:.1f} GB/s, matrix product {multiplied:.0f} GFLOP/s")
            peer = f"{'torch ms':>10} {'ratio':>7}" if "torch" in frameworks else ""
            print(f"{'':<6} {'':<29} {'ms':>10} {'':>16} {'bound':>7} {peer}")
            for name in names:
                try:
                    result = measure(name, config, running, rates, options)
                    found["results"].append(asdict(result))
                    print(result.row(), flush=True)
                except (DisagreementError, WorkerError) as error:
                    if options.device == "cpu":
                        raise
                    found["failed"][name] = str(error)
                    print(f"{config:<6} {name:<29} failed. {error}", flush=True)
                    for framework, worker in list(running.items()):  # whoever died of it
                        worker.close()
                        running[framework] = start(framework, SCRIPT, framework, *place)
                write(options, found)
    finally:
        for worker in (bounds, *running.values()):
            worker.close()


def _rates(bounds: Worker, options: argparse.Namespace, found: dict[str, Any]) -> dict[str, float]:
    """Bytes copied and operations of products a second; on a GPU where that fails there are no bounds."""
    try:
        found["rates"] = bounds.ask(seconds=1.0)
    except WorkerError as error:
        if options.device == "cpu":
            raise
        found["failed"]["rates"] = str(error)
        found["rates"] = {"copied_per_s": math.inf, "multiplied_per_s": math.inf}
    return found["rates"]


def write(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """What there is so far: who stops this process gets that."""
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=[*ALL_SIZES, "all"], default="all", help="one size, or char, baby and gpt2")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=list(ITEM_BYTES), help="(default: a GPU's is bfloat16)")
    parser.add_argument("--errors", action="store_true", help="compare with float64, as on a GPU")
    parser.add_argument("--kernel", help="one op only, with its gradients")
    parser.add_argument("--peers", type=workers.chosen_from(["torch"]), default=[], help="torch")
    parser.add_argument("--threads", type=workers.thread_count, default=workers.cores(), help="for each framework")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each op, size and framework (default: 0.3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    options.errors |= options.device != "cpu"
    kernels = sorted({kernel_of(name) for name in CASES})
    if options.kernel and options.kernel not in kernels:
        parser.error(f"--kernel: expected one of {', '.join(kernels)}; got {options.kernel!r}")
    return options


def kernel_of(name: str) -> str:
    """What a case is a case of: "linear" of "linear dx"."""
    return name.split()[0]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    described = workers.machine(options.threads)
    frameworks = ["ownt", *workers.installed(options.peers)]
    names = [name for name in CASES if options.kernel in (None, kernel_of(name))]
    everything = ["char", "baby", "gpt2"] if options.device == "cpu" else ["124m-b64"]
    found: dict[str, Any] = {"machine": described, "dtype": options.dtype, "results": [], "failed": {}}
    try:
        measure_all(everything if options.config == "all" else [options.config], names, frameworks, options, found)
    except (DisagreementError, WorkerError) as error:
        sys.exit(f"kernels: {error}")
    finally:
        write(options, found)
    sys.exit(int(bool(found["failed"])))


if __name__ == "__main__":
    main()
