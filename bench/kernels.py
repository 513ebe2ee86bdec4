"""Each hot op at the shapes of a GPT: its time, against what the machine can do and against PyTorch's.

    python bench/kernels.py [--config micro|char|baby|gpt2|all] [--kernel NAME] [--peers torch] [--threads N]
                            [--seconds S] [--json FILE]

Every framework has a process of its own, and they take turns. A forward runs without a graph. A backward is the public
one, on a graph made freshly, which is not in the time; what is: finding the one record, the copy of the given gradient
(ours), the gradients that the case names and their allocation, as they are a leaf's. For both all products go to all
threads. AdamW and clipping are of the whole model; PyTorch's AdamW is the fused one.

The bound is the larger of the bytes that have to be read and written, each once, over the rate of a big copy, and of
the operations of matrix products over the rate of a big one; both are measured in the same run. What is still in a
cache may beat the copy. GB/s or GFLOP/s: by the bound that counts. The results of both are compared by their norms.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import workers
from gpt_sizes import SIZES
from kernel_cases import CASES, Case
from workers import DisagreementError, Worker, WorkerError

ROUNDS = 3
RTOL = 1e-3  # between norms of results
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

    def row(self) -> str:
        ours = self.median_s["ownt"]
        done, unit = (self.moved_bytes, "GB/s") if self.by_memory else (self.operations, "GFLOP/s")
        peer = self.median_s.get("torch")
        beside = f"{1e3 * peer:>10.4g} {peer / ours:>6.2f}x" if peer else ""
        return (
            f"{self.config:<6} {self.kernel:<29} {1e3 * ours:>10.4g} {done / ours / 1e9:>8.1f} {unit:<7} "
            f"{100 * self.bound_s / ours:>5.0f} % {beside}"
        )


def measure(name: str, config: str, running: dict[str, Worker], rates: dict[str, float], seconds: float) -> Result:
    """One op at one size in all frameworks, in turn. Raises: DisagreementError if their results differ."""
    times: dict[str, list[float]] = {framework: [] for framework in running}
    norms = {}
    for _ in range(ROUNDS):
        for framework, worker in running.items():
            answer = worker.ask(case=name, size=config, seconds=seconds / ROUNDS)
            times[framework] += answer["times_s"]
            norms[framework] = answer["norms"]
    check_norms(f"{config}, {name}", norms)
    case: Case = CASES[name]
    medians = {framework: statistics.median(found) for framework, found in times.items()}
    bound_s, by_memory = case.bound_s(SIZES[config], **rates)
    size = SIZES[config]
    return Result(name, config, medians, bound_s, by_memory, case.moved_bytes(size), case.operations(size))


def check_norms(what: str, norms: dict[str, list[float]]) -> None:
    """Raises: DisagreementError unless all frameworks have the same norms as ownt."""
    for framework, found in norms.items():
        expected = norms["ownt"]
        same = len(found) == len(expected) and all(
            math.isclose(a, b, rel_tol=RTOL) for a, b in zip(found, expected, strict=True)
        )
        if not same:
            raise DisagreementError(f"{what}: {framework} computes results of norms {found}, ownt of {expected}")


def measure_all(configs: list[str], names: list[str], frameworks: list[str], options: argparse.Namespace) -> list:
    running = {name: Worker(name, SCRIPT, name, threads=options.threads) for name in [*frameworks, "machine"]}
    bounds = running.pop("machine")
    results = []
    try:
        for config in configs:
            rates = bounds.ask(seconds=1.0)
            copied, multiplied = rates["copied_per_s"] / 1e9, rates["multiplied_per_s"] / 1e9
            print(f"\n{config}: {SIZES[config]}; copy {copied:.1f} GB/s, matrix product {multiplied:.0f} GFLOP/s")
            peer = f"{'torch ms':>10} {'ratio':>7}" if "torch" in frameworks else ""
            print(f"{'':<6} {'':<29} {'ms':>10} {'':>16} {'bound':>7} {peer}")
            for name in names:
                results.append(found := measure(name, config, running, rates, options.seconds))
                print(found.row(), flush=True)
    finally:
        for worker in (bounds, *running.values()):
            worker.close()
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=[*SIZES, "all"], default="all", help="one size, or char, baby and gpt2")
    parser.add_argument("--kernel", help="one op only, with its gradients")
    parser.add_argument("--peers", type=workers.chosen_from(["torch"]), default=[], help="torch")
    parser.add_argument("--threads", type=workers.thread_count, default=workers.cores(), help="for each framework")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each op, size and framework (default: 0.3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
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
    configs = ["char", "baby", "gpt2"] if options.config == "all" else [options.config]
    try:
        results = measure_all(configs, names, frameworks, options)
    except (DisagreementError, WorkerError) as error:
        sys.exit(f"kernels: {error}")
    if options.json:
        found = {"machine": described, "results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
