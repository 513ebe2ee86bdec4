"""Where the memory of a ResNet's training step goes, and PyTorch's beside it.

    python bench/resnet_mem.py [--model resnet50] [--batch-size 8] [--image 224] [--device cpu|cuda|meta]
                               [--optimizer adamw|sgd] [--peers torch] [--threads N] [--json FILE] [--html FILE]

Gradients are counted three ways: as many bytes as parameters, by the ledger, and by memray's record of every
allocation, or on a GPU by CuPy's hook. The control allocates every gradient a second time, as the library did of whose
bug report this project was made; each count must see it. Then a step of nn.Step at its peak, by kind; the same with the
optimizer fused into backward; and, beside PyTorch, bytes of tensors, bytes on the heap (taken from the GPU) and the
time of a step, in turn. On the device "meta" nothing is computed: the step is estimated. Exit status 1 if gradient
bytes are not parameter bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import workers

import nn
import ownt
from ownt.report import human_bytes

MODELS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
KINDS = ("parameter", "gradient", "optimizer", "buffer", "activation", "workspace")
ROUNDS, STEPS = 4, 2  # of times in turn, and steps at a time
WORKER = Path(__file__).with_name("resnet_worker.py")


def estimated(options: argparse.Namespace, fused: bool) -> ownt.memory.Report:
    """A step on the meta device."""
    with ownt.device.use("meta"):
        model = getattr(nn, options.model)()
        optimizer = nn.AdamW(model.parameters()) if options.optimizer == "adamw" else nn.SGD(
            model.parameters(), lr=1e-3, momentum=0.9
        )  # fmt: skip
    images = numpy.zeros((options.batch_size, 3, options.image, options.image), "float32")
    step = nn.Step(model.loss, optimizer, fuse_optimizer=fused)
    return nn.estimate(step, images, numpy.zeros(options.batch_size, "int64"), title=title(options))


def title(options: argparse.Namespace) -> str:
    return f"{options.model}, batch {options.batch_size}, {options.image} x {options.image}, {options.optimizer}"


def show_peak(name: str, by_kind: dict[str, int]) -> None:
    kinds = ", ".join(f"{kind} {by_kind[kind]:,}" for kind in KINDS if by_kind[kind])
    print(f"{name}: {sum(by_kind.values()):,} bytes at the peak ({kinds})", flush=True)


def show_counts(found: dict[str, Any], control: bool) -> bool:
    """Print the three counts; whether they agree."""
    expected = found["parameter_bytes"]
    ledger, seen = found["gradient_bytes_by_ledger"], found["gradient_bytes_by_allocator"]
    if not control:
        print(f"{found['parameters']:,} parameters in {found['tensors']} tensors, {expected:,} bytes")
    name = "gradients, each allocated twice (control)" if control else "gradients"
    large = expected - found["small_bytes"]
    print(
        f"{name}: expected {expected:,}, ledger {ledger:,}, {found['allocator']} {seen:,} "
        f"(of {large:,}{' in tensors of 1 KiB or more' * (large < expected)})",
        flush=True,
    )
    return ledger == expected and seen == large


def save_weights(options: argparse.Namespace, folder: str) -> str:
    ownt.manual_seed(0)
    file = str(Path(folder) / "weights.npz")
    numpy.savez(file, **{name: t.numpy() for name, t in getattr(nn, options.model)().state_dict().items()})
    return file


class Bench:
    """Workers with one task."""

    def __init__(self, options: argparse.Namespace, file: str) -> None:
        self.options = options
        sizes = (options.model, options.batch_size, options.image, options.optimizer, options.device)
        self.settings = [*map(str, sizes), file]

    @contextlib.contextmanager
    def worker(self, framework: str) -> Iterator[workers.Worker]:
        """A framework in a process of its own."""
        made = workers.Worker(framework, WORKER, framework, *self.settings, threads=self.options.threads)
        try:
            yield made
        finally:
            made.close()

    def ask(self, framework: str, **question: Any) -> dict[str, Any]:
        """One question to a fresh process."""
        with self.worker(framework) as worker:
            return worker.ask(**question)

    def times(self, frameworks: list[str]) -> dict[str, Any]:
        """Seconds a step of each, in turn."""
        found: dict[str, list[float]] = {name: [] for name in frameworks}
        losses: dict[str, list[float]] = {name: [] for name in frameworks}
        with contextlib.ExitStack() as stack:
            made = {name: stack.enter_context(self.worker(name)) for name in frameworks}
            for name, worker in made.items():
                losses[name] = worker.ask(steps=STEPS)["losses"]  # compiles, records and warms up
            for _ in range(ROUNDS):
                for name, worker in made.items():
                    found[name] += worker.ask(steps=STEPS)["times_s"]
        first = [values[0] for values in losses.values()]
        if max(first) - min(first) > 1e-3 * abs(first[0]):
            raise workers.DisagreementError(f"the losses of the first step differ: {first} of {list(losses)}")
        return {name: statistics.median(values) for name, values in found.items()}


def measured(options: argparse.Namespace, bench: Bench) -> tuple[dict[str, Any], bool]:
    """All figures of the CPU or a GPU; whether gradient bytes are parameter bytes, and the control fails."""
    counts = bench.ask("ownt", counts=False)
    right = show_counts(counts, control=False)
    control = bench.ask("ownt", counts=True)
    right &= not show_counts(control, control=True)
    found: dict[str, Any] = {"counts": counts, "control": control, "peak_bytes": {}, "heap_peak_bytes": {}}
    for name in ("ownt", "ownt-fused"):
        peak = bench.ask(name, peak=2)
        show_peak("a step" if name == "ownt" else "a step with the optimizer fused", peak["by_kind"])
        found["peak_bytes"][name] = peak["peak_bytes"]
    frameworks = ["ownt", "ownt-fused", *options.peers]
    if "torch" in options.peers:
        found["peak_bytes"]["torch"] = bench.ask("torch", tensors=2)["peak_bytes"]
    for name in frameworks:
        found["heap_peak_bytes"][name] = bench.ask(name, heap=3)["heap_peak_bytes"]
    found["step_s"] = bench.times(frameworks)
    print(f"{'':<12} {'tensors':>12} {'heap':>12} {'ms/step':>9}   at the peak; medians, in turn")
    for name in frameworks:
        sizes = (human_bytes(found[key][name]) for key in ("peak_bytes", "heap_peak_bytes"))
        print(f"{name:<12} {next(sizes):>12} {next(sizes):>12} {1e3 * found['step_s'][name]:>9.0f}")
    if "torch" in options.peers:
        for name in ("ownt", "ownt-fused"):
            shares = [found[key][name] / found[key]["torch"] for key in ("peak_bytes", "heap_peak_bytes")]
            speed = found["step_s"]["torch"] / found["step_s"][name]
            print(f"{name}: {shares[0]:.2f} of PyTorch's tensors, {shares[1]:.2f} of its heap, {speed:.2f}x its speed")
    return found, right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="resnet50")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--image", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--device", choices=("cpu", "cuda", "meta"), default="cpu")
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--peers", type=workers.chosen_from(["torch"]), default=[])
    parser.add_argument("--threads", type=workers.thread_count, default=workers.cores())
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--html", type=Path, help="write the step to a page that shows who holds what when")
    options = parser.parse_args()
    if options.batch_size < 2 or options.image < 32:
        parser.error("expected a batch of 2 or more, of images of 32 pixels or more")
    options.peers = workers.installed(options.peers) if options.device != "meta" else []
    print(title(options))
    report = estimated(options, fused=False)
    show_peak("a step, estimated", report.by_kind(at_peak=True))
    found: dict[str, Any] = {"estimated": report.as_dict()}
    right = True
    if options.device != "meta":
        found["machine"] = workers.machine(options.threads)
        with tempfile.TemporaryDirectory() as folder:
            measures, right = measured(options, Bench(options, save_weights(options, folder)))
        found |= measures
        print("gradient bytes are parameter bytes" if right else "WRONG: gradient bytes are not parameter bytes")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    if options.html:
        report.to_html(options.html)
        print(f"wrote {options.html}")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
