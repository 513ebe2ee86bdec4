"""What an op costs beside its kernels: microseconds of Python for each op forward, and for each gradient backward.

    python bench/eager.py [--peers torch] [--json FILE]

Chains of DEPTH ops on tensors of 16 x 16, whose kernels take next to nothing. The kernels' own time is that of the same
launches alone, called with the arrays that they were bound to. What a backward takes at any rate is measured by a
graph of one op and taken off. The least of ROUNDS runs counts: what other processes take is no part of it. PyTorch, on
one thread, is given whole: nobody can call its kernels alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import workers

WIDTH = 16
DEPTH = 20
ROUNDS = 200
OPS = {"linear": 3, "gelu": 1, "mul": 2, "layer_norm": 3}  # and how many gradients each has


class Ours:
    """Chains of our ops, with parameters of their own."""

    def __init__(self) -> None:
        import ag
        import ownt

        self.seed = ownt.ones(WIDTH, WIDTH)
        self.backward = ag.backward

    def parameters(self, shapes: list[tuple[int, ...]]) -> list[Any]:
        import ag
        import ownt

        return [ag.param(ownt.randn(shape)) for shape in shapes]

    def op(self, name: str) -> Callable[..., Any]:
        import ag

        return getattr(ag, name)

    def clear(self, parameters: list[Any]) -> None:
        import ag

        ag.zero_grad(parameters)

    def kernels(self, run: Callable[[], Any]) -> float:
        """Microseconds that the kernels of a run take."""
        from ownt.thread import state

        calls: list[tuple[Any, Any]] = []

        def watch(launch: Any) -> None:
            launch.run()
            calls.append((getattr(launch.function, "settled", launch.function), launch.bound))

        state.launch = watch
        try:
            kept = run()
        finally:
            state.launch = None

        def alone() -> None:
            for function, bound in calls:
                function(*bound)

        found = least(lambda: None, lambda _: alone())
        del kept
        return found


class Torch:
    """The same with PyTorch."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.seed = torch.ones(WIDTH, WIDTH)

    def backward(self, y: Any, seed: Any) -> None:
        y.backward(seed)

    def parameters(self, shapes: list[tuple[int, ...]]) -> list[Any]:
        import torch

        return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]

    def op(self, name: str) -> Callable[..., Any]:
        import torch

        functions = torch.nn.functional
        if name == "layer_norm":
            return lambda x, gain, shift: functions.layer_norm(x, (WIDTH,), gain, shift)
        return getattr(torch if name == "mul" else functions, name)

    def clear(self, parameters: list[Any]) -> None:
        for parameter in parameters:
            parameter.grad = None


def least(prepare: Callable[[], Any], run: Callable[[Any], Any]) -> float:
    """Microseconds of a run, the least of all rounds; what is prepared for it is not counted."""
    best = float("inf")
    for _ in range(ROUNDS):
        given = prepare()
        began = time.perf_counter()
        kept = run(given)
        best = min(best, time.perf_counter() - began)
        del kept
    return best * 1e6


def measured(side: Any, name: str) -> dict[str, float]:
    """{"forward", "backward"}: microseconds an op, and a gradient."""
    shape = (WIDTH, WIDTH)
    others = {"linear": [shape, (WIDTH,)], "gelu": [], "mul": [shape], "layer_norm": [(WIDTH,), (WIDTH,)]}[name]
    layers = [side.parameters(others) for _ in range(DEPTH)]
    (x,) = side.parameters([shape])
    leaves = [x, *(node for layer in layers for node in layer)]
    op = side.op(name)

    def chain(depth: int) -> Any:
        y = x
        for layer in layers[:depth]:
            y = op(y, *layer)
        return y

    def fresh(depth: int) -> Any:
        side.clear(leaves)
        return chain(depth)

    def back(y: Any) -> None:
        side.backward(y, side.seed)

    forward = least(lambda: side.clear(leaves), lambda _: chain(DEPTH))
    backward = least(lambda: fresh(DEPTH), back) - least(lambda: fresh(1), back)
    side.clear(leaves)
    if isinstance(side, Ours):
        forward -= side.kernels(lambda: chain(DEPTH))
        y, one = chain(DEPTH), chain(1)
        backward -= side.kernels(lambda: back(y)) - side.kernels(lambda: back(one))
    return {"forward": forward / DEPTH, "backward": backward / (DEPTH - 1) / OPS[name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=workers.chosen_from(["torch"]), default=[], help="torch: beside PyTorch")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    given = parser.parse_args()
    sides: dict[str, Any] = {"ownt": Ours()}
    if workers.installed(given.peers):
        sides["PyTorch, with its kernels"] = Torch()
    found = {name: {op: measured(side, op) for op in OPS} for name, side in sides.items()}
    print(f"{'microseconds':28}" + "".join(f"{op:>22}" for op in OPS))
    for name, figures in found.items():
        shown = [f"{each['forward']:.1f} | {each['backward']:.1f}" for each in figures.values()]
        print(f"{name:28}" + "".join(f"{text:>22}" for text in shown))
    print("an op forward | a gradient backward")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
