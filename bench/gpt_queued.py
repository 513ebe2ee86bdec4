"""bench/train_gpt.py on a GPU: steps are launched ahead of it, and timed many at a time.

Each framework in a process of its own, one after the other, in bfloat16 unless told otherwise: PyTorch eager and
compiled, with its weights in that dtype ("pure") or in float32 and autocast, attention by scaled_dot_product_attention
and the fused AdamW; ours as nn.Step and as a plain loop, in which weights are of that dtype and the optimizer's
masters float32. The same first weights and batches. A time is that of some steps together, divided, from when the GPU
is idle to when it is again: batches come from the host's memory in it, losses are not looked at. Of such times the
median.

MFU: 6 N + 6 L C T operations a token, over the rate of a big product that is measured in the run, and over 989 TFLOP/s.
peak: bytes of tensors by the framework's own books; held: what it took from the device for them. losses: the largest
relative difference of the first steps' from those of the first peer, or else from ours. What fails is a line in the
table, and the rest goes on; then the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gpt_sizes
import workers
from gpt_sizes import ALL_SIZES
from workers import Worker, WorkerError

CHECKED = 6  # steps whose losses have to agree
RTOL = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
PURE_RTOL = 3e-2  # of PyTorch's weights in half precision: its loss is, too
ROUNDS = 5
LIMIT_S = 120.0  # for an answer: a step that is compiled
GROUP_S = 0.25  # of steps that are timed together
SCRIPT = Path(__file__).with_name("gpt_worker.py")
RATES = Path(__file__).with_name("kernel_worker.py")
ALL = ["124m-b4", "124m-b64"]


@dataclass
class Result:
    """What was measured of one framework at one size; or why nothing was."""

    config: str
    framework: str
    variant: str
    failed: str = ""
    first_step_s: float = 0.0
    losses: list[float] = field(default_factory=list)
    difference: float = 0.0
    median_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    tokens_per_s: float = 0.0
    operations_per_s: float = 0.0
    peak_bytes: int | None = None
    held_bytes: int | None = None


def ways(options: argparse.Namespace) -> list[list[tuple[str, str]]]:
    """Frameworks and variants, in the order in which they run; those that compile begin together."""
    replayed = [] if options.dtype == "float16" else [[("ownt-step", "")]]
    precisions = {"float32": ["pure"], "float16": ["autocast"], "bfloat16": ["autocast", "pure"]}[options.dtype]
    found = [*replayed, [("ownt", "")]]
    if "torch" in options.peers:
        found += [[("torch", precision)] for precision in precisions]
    if "torch-compile" in options.peers:
        found += [[("torch-compile", f"{precision}, {mode}") for precision in precisions] for mode in options.modes]
    return found


class Runner:
    """A framework at work."""

    def __init__(self, way: tuple[str, str], config: str, file: Path, options: argparse.Namespace) -> None:
        self.result = Result(config, *way)
        place = (str(file), options.device, options.dtype)
        limit_s = LIMIT_S if options.device == "cuda" else None
        self.worker = Worker(way[0], SCRIPT, *way, config, *place, threads=options.threads, limit_s=limit_s)

    def start(self) -> Runner:
        """The first steps, whose losses are read."""
        try:
            first = self.worker.ask(steps=CHECKED)
            self.result.losses, self.result.first_step_s = first["losses"], first["times_s"][0]
            self.step_s = first["times_s"][-1]
        except WorkerError as error:
            self.result.failed = str(error)
        return self

    def measure(self, steps: int | None) -> Result:
        """Times and bytes; the process ends."""
        result = self.result
        try:
            if not result.failed:
                together = steps or max(2, min(50, math.ceil(GROUP_S / self.step_s)))
                self.worker.ask(queue=together, groups=1)
                result.times_s = self.worker.ask(queue=together, groups=ROUNDS)["times_s"]
                used = self.worker.ask(bytes=True)
                result.peak_bytes, result.held_bytes = used["peak"], used["held"]
                size = ALL_SIZES[result.config]
                result.median_s = statistics.median(result.times_s)
                result.tokens_per_s = size.tokens / result.median_s
                result.operations_per_s = size.operations * result.tokens_per_s
        except WorkerError as error:
            result.failed = str(error)
        finally:
            self.worker.close()
        return result


def measure(config: str, file: Path, options: argparse.Namespace) -> Iterator[Result]:
    """All frameworks at one size, one after the other."""
    for group in ways(options):
        runners = [Runner(way, config, file, options) for way in group]
        try:
            with ThreadPoolExecutor(len(runners)) as pool:
                list(pool.map(Runner.start, runners))
            for runner in runners:
                yield runner.measure(options.steps)
        finally:
            for runner in runners:
                runner.worker.close()


def compare(results: list[Result], dtype: str) -> None:
    """Note how far losses differ from the first peer's, or else from ours; too far is a failure."""
    done = [result for result in results if result.losses]
    reference = next((result for result in done if not result.framework.startswith("ownt")), done[0] if done else None)
    for result in done:
        pairs = zip(result.losses, reference.losses, strict=True)  # type: ignore[union-attr]
        result.difference = max(abs(a - b) / abs(b) if math.isfinite(a) else math.inf for a, b in pairs)
        rough = result.variant.startswith("pure") and dtype != "float32"
        if not result.difference <= (PURE_RTOL if rough else RTOL[dtype]):
            result.failed = result.failed or f"its losses {result.losses} are not {reference.losses}"  # type: ignore[union-attr]


def rates(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes copied and operations of products a second; or why they are not known."""
    worker = Worker("machine", RATES, "machine", options.device, options.dtype, threads=options.threads)
    try:
        return worker.ask(seconds=1.0)
    except WorkerError as error:
        return {"failed": str(error)}
    finally:
        worker.close()


def run(options: argparse.Namespace, described: dict[str, Any]) -> int:
    """All sizes; the exit status."""
    options.peers = workers.installed(options.peers)
    found: dict[str, Any] = {"machine": described, "device": options.device, "dtype": options.dtype, "results": []}
    found["rates"] = rates(options)
    print(f"rates: {found['rates']}", flush=True)
    failed = "failed" in found["rates"]
    for config in ALL if options.config == ["all"] else options.config:
        results: list[Result] = []
        before = found["results"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.npz"
            print(f"{config}: {ALL_SIZES[config]}; {gpt_sizes.write(ALL_SIZES[config], file):,} parameters", flush=True)
            for result in measure(config, file, options):
                results.append(result)
                print(line(result), flush=True)
                compare(results, options.dtype)
                found["results"] = before + [asdict(result) for result in results]
                if options.json:
                    options.json.write_text(json.dumps(found, indent=2))
        failed |= any(result.failed for result in results)
        print(f"losses: {', '.join(f'{r.framework} {r.variant} {r.difference:.1e}' for r in results)}", flush=True)
    return int(failed)


def line(result: Result) -> str:
    name = f"{result.config} {result.framework} {result.variant}"
    if result.failed:
        return f"{name}: failed. {result.failed}"
    held = "" if result.peak_bytes is None else f", {result.peak_bytes:,} bytes at the peak"
    return f"{name}: {1e3 * result.median_s:.4g} ms, {result.tokens_per_s:,.0f} tokens/s{held}"
