"""Gradients of GPT-2 on a GPU against float64: how far each framework's are in half and single precision.

    python bench/gradients.py [--device cuda|cpu] [--config gpt2|...] [--peers torch] [--threads N] [--json FILE]

One batch, the same first weights, of numbers that bfloat16 holds, each framework in a process of its own; float64 is
ours, on the CPU. The error is |g - expected| / |expected| of all gradients as one vector, and that of the parameter
where it is largest. Exit status 1 if ours is above 1e-2 in bfloat16 or above 1e-4 in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gpt_sizes
import numpy
import workers
from gpt_sizes import SIZES
from workers import Worker, WorkerError

LIMIT = {"bfloat16": 1e-2, "float32": 1e-4}
SCRIPT = Path(__file__).with_name("gpt_worker.py")
LIMIT_S = 60.0  # for an answer, on a GPU
WAYS = [("ownt", "", "bfloat16"), ("ownt", "", "float32")]
PEERS = {"torch": [("torch", "pure", "bfloat16"), ("torch", "autocast", "bfloat16")]}


def gradients(way: tuple[str, str, str], device: str, options: argparse.Namespace, folder: Path) -> Any:
    """By name. Raises: WorkerError."""
    framework, variant, dtype = way
    file, to = folder / "weights.npz", folder / "gradients.npz"
    limit_s = LIMIT_S if device == "cuda" else None
    given = framework, variant, options.config, str(file), device, dtype
    worker = Worker(framework, SCRIPT, *given, threads=options.threads, limit_s=limit_s)
    try:
        worker.ask(gradients=str(to))
    finally:
        worker.close()
    with numpy.load(to) as arrays:
        return dict(arrays)


def compare(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The error of all, and the parameter that is worst."""
    squares = {name: (float(((found[name] - g) ** 2).sum()), float((g**2).sum())) for name, g in expected.items()}
    errors = {name: (wrong / size) ** 0.5 for name, (wrong, size) in squares.items()}
    wrong, size = map(sum, zip(*squares.values(), strict=True))
    worst = max(errors, key=lambda name: errors[name])
    return {"error": (wrong / size) ** 0.5, "worst": worst, "worst_error": errors[worst]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--config", choices=list(SIZES), default="gpt2")
    parser.add_argument("--peers", type=workers.chosen_from(list(PEERS)), default=[])
    parser.add_argument("--threads", type=workers.thread_count, default=workers.cores(), help="for each framework")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    ways = WAYS + [way for peer in workers.installed(options.peers) for way in PEERS[peer]]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        gpt_sizes.write(SIZES[options.config], Path(name) / "weights.npz", "bfloat16")
        expected = gradients(("ownt", "", "float64"), "cpu", options, Path(name))
        for way in ways:
            result: dict[str, Any] = dict(zip(("framework", "variant", "dtype"), way, strict=True), failed="")
            try:
                result |= compare(gradients(way, options.device, options, Path(name)), expected)
                if way[0] == "ownt" and not result["error"] <= LIMIT[way[2]]:
                    result["failed"] = f"an error of {result['error']:.1e}, above {LIMIT[way[2]]:.0e}"
            except WorkerError as error:
                result["failed"] = str(error)
            results.append(result)
            error = f"{result['error']:.1e}, {result['worst']} {result['worst_error']:.1e}" if "error" in result else ""
            print(" ".join([*way, error, result["failed"]]), flush=True)
            if options.json:
                options.json.write_text(json.dumps({"config": options.config, "results": results}, indent=2))
    return int(any(result["failed"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
