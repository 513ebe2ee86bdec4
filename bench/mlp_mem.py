"""Bytes of gradients and of a whole training step, three counts beside each other: expected, ledger, memray.

    python bench/mlp_mem.py [--case mlp|leaf] [--json FILE]

The cases are those of the bug report that this project began with: an MLP of 10 million parameters, and one leaf of 25
million elements (100 MB). Each runs in a process of its own. The control allocates every gradient a second time, as the
library of the report did; each count must see it. Exit status 1 if gradient bytes are not parameter bytes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import heap

import ag
import nn
import ownt
from ag.slot import GradSlot

ABOUT = {"mlp": "MLP of 784, 2400, 2400 and 1000 units", "leaf": "one leaf of 25,000,000 elements"}


def mlp() -> tuple[list[ag.Node], Callable[[], ag.Node]]:
    model = nn.MLP([784, 2400, 2400, 1000])
    x, y = ownt.randn(32, 784), ownt.randint(0, 1000, 32)
    return model.parameters(), lambda: ag.cross_entropy(model(x), y)


def leaf() -> tuple[list[ag.Node], Callable[[], ag.Node]]:
    w = ag.param(ownt.randn(25_000_000), name="W")
    return [w], lambda: ag.mean(w * w)


def allocate_twice() -> None:
    """The control: every gradient of a parameter has a second buffer, which nobody reads."""
    allocate, kept = GradSlot.allocate, {}

    def twice(slot: GradSlot) -> None:
        allocate(slot)
        if slot.leaf:
            kept[slot] = slot.tensor
            allocate(slot)

    GradSlot.allocate = twice  # type: ignore[method-assign]


def measure(case: str, control: bool) -> dict[str, Any]:
    """Two steps of AdamW in this process: the first under memray, the second for what stays from step to step."""
    if control:
        allocate_twice()
    parameters, loss = {"mlp": mlp, "leaf": leaf}[case]()
    optimizer = nn.AdamW(parameters)
    ownt.memory.reset_peak()
    by_memray = heap.kept_bytes(lambda: loss().backward(), ("empty", "device.py"), within=("allocate", "slot.py"))
    by_ledger = ownt.memory.ledger.by_kind()["gradient"]
    optimizer.step()
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    return {
        "case": case,
        "control": control,
        "parameters": sum(p.size for p in parameters),
        "parameter_bytes": sum(p.nbytes for p in parameters),
        "gradient_bytes_by_ledger": by_ledger,
        "gradient_bytes_by_memray": by_memray,
        "peak_bytes": ownt.memory.ledger.peak,
        "at_the_peak": ownt.memory.ledger.by_kind(at_peak=True),
    }


def measured_apart(case: str, control: bool = False) -> dict[str, Any]:
    """The figures of one case, from a fresh process."""
    command = [sys.executable, __file__, "--run", case, *(["--control"] if control else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def show(found: dict[str, Any]) -> bool:
    """Print the figures of a case; whether gradient bytes are parameter bytes by both counts."""
    expected = found["parameter_bytes"]
    counts = found["gradient_bytes_by_ledger"], found["gradient_bytes_by_memray"]
    print(f"{ABOUT[found['case']]}{', every gradient twice (control)' if found['control'] else ''}")
    print(f"  {found['parameters']:,} parameters of {expected:,} bytes")
    print(f"  gradients: expected {expected:,}, ledger {counts[0]:,}, memray {counts[1]:,}")
    kinds = ", ".join(f"{kind} {size:,}" for kind, size in found["at_the_peak"].items() if size)
    print(f"  a step of AdamW at its peak: {found['peak_bytes']:,} bytes ({kinds})", flush=True)
    return counts == (expected, expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=ABOUT, help="one case only")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--run", choices=ABOUT, help=argparse.SUPPRESS)
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options.run, options.control)))
        return 0
    results, right = [], True
    for case in [options.case] if options.case else ABOUT:
        results += [measured_apart(case), measured_apart(case, control=True)]
        right &= show(results[-2])
        right &= not show(results[-1])
    print("gradient bytes are parameter bytes" if right else "WRONG: gradient bytes are not parameter bytes")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
