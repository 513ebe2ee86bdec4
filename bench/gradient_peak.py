"""Heap growth during forward + backward, in parameter bytes: a first backward, and a second that accumulates.

    python bench/gradient_peak.py [--case NAME] [--peers torch] [--json FILE]

Each case runs in a process of its own under memray, with libraries warmed up. "1.00" on the first backward
means that nothing but the gradients was allocated; "0.00" on the second, that nothing was.
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
import numpy

CASES = ("linears", "tied", "reused", "slices")
ABOUT = {
    "linears": "25 Linears 1024 x 1024",
    "tied": "tied embedding and head 50257 x 768, 8 tokens",
    "reused": "one Linear 2048 x 2048 used 4 times",
    "slices": "8 slices of one leaf of 32 M elements",
}
Case = tuple[Callable[[], Any], int]  # builds the loss; bytes of the parameters


def ours(case: str) -> Case:
    import ag
    import nn
    import ownt

    if case == "linears":
        model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(25)))
        x = ownt.randn(8, 1024)
        return lambda: ag.sum(model(x)), sum(p.nbytes for p in model.parameters())
    if case == "tied":
        w = ag.param(ownt.randn(50257, 768))
        tokens = ownt.randint(0, 50257, 1, 8)
        return lambda: ag.cross_entropy(ag.linear(ag.embedding(tokens, w), w), tokens), w.nbytes
    if case == "reused":
        layer = nn.Linear(2048, 2048, bias=False)
        x = ownt.randn(8, 2048)
        return lambda: ag.sum(layer(layer(layer(layer(x))))), layer.weight.nbytes
    leaf = ag.param(ownt.randn(8, 2000, 2000))
    x = ownt.randn(4, 2000)
    return lambda: ag.sum(ag.concat([x @ leaf[i] for i in range(8)])), leaf.nbytes


def torch_s(case: str) -> Case:
    import torch
    import torch.nn.functional as functional

    if case == "linears":
        model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024, bias=False) for _ in range(25)))
        x = torch.randn(8, 1024)
        return lambda: model(x).sum(), sum(p.nbytes for p in model.parameters())
    if case == "tied":
        w = torch.randn(50257, 768, requires_grad=True)
        tokens = torch.randint(0, 50257, (1, 8))
        return lambda: functional.cross_entropy(
            functional.linear(functional.embedding(tokens, w), w).view(8, -1), tokens.view(8)
        ), w.nbytes
    if case == "reused":
        layer = torch.nn.Linear(2048, 2048, bias=False)
        x = torch.randn(8, 2048)
        return lambda: layer(layer(layer(layer(x)))).sum(), layer.weight.nbytes
    leaf = torch.randn(8, 2000, 2000, requires_grad=True)
    x = torch.randn(4, 2000)
    return lambda: torch.cat([x @ leaf[i] for i in range(8)]).sum(), leaf.nbytes


def warm_up(framework: str, case: str) -> None:
    """Libraries take workspace of their own at their first large product, and kernels when they are compiled; have that
    behind us.

    PyTorch, which keeps nothing between steps on the CPU, runs the case itself; ours, whose arena would, does not.
    """
    if framework == "torch":
        torch_s(case)[0]().backward()
        return
    a = numpy.ones((1024, 1024), numpy.float32)
    a @ a
    import ag
    import nn

    layer = nn.Linear(1024, 1024)
    ag.sum(ag.linear(a, layer.weight)).backward()
    layer.zero_grad()
    ag.sum(layer.weight[0]).backward()  # fills a large gradient with zeros


def measure(framework: str, case: str, doubled: bool = False) -> dict[str, Any]:
    """Run one case in this process. `doubled` holds a second buffer of the gradients' size: a control."""
    warm_up(framework, case)
    build, size = (torch_s if framework == "torch" else ours)(case)
    kept = []

    def step() -> None:
        build().backward()
        if doubled:
            kept.append(numpy.empty(size, numpy.uint8))

    return {
        "case": case,
        "framework": framework,
        "parameter_bytes": size,
        "first": heap.peak_bytes(step),
        "second": heap.peak_bytes(step),
    }


def measured_apart(*arguments: str) -> dict[str, Any]:
    """The figures of one case, from a fresh process."""
    command = [sys.executable, __file__, "--run", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help="one case only")
    parser.add_argument("--peers", choices=["torch"], help="measure PyTorch beside")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--run", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options.run[0], options.run[1], doubled="doubled" in options.run)))
        return
    results = []
    print(f"{'peak heap growth / parameter bytes':<48} {'':<6} {'first':>6} {'second':>7}")
    for case in [options.case] if options.case else CASES:
        for framework in ("ownt", options.peers) if options.peers else ("ownt",):
            results.append(found := measured_apart(framework, case))
            first, second = (found[name] / found["parameter_bytes"] for name in ("first", "second"))
            print(f"{ABOUT[case]:<48} {framework:<6} {first:>6.2f} {second:>7.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
