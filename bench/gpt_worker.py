"""One framework's GPT in a process: trains as many steps as it is asked to, for bench/train_gpt.py.

    python bench/gpt_worker.py FRAMEWORK VARIANT SIZE FILE THREADS

Questions: {"steps": n} trains n steps and answers with their times and losses; {"heap": n, "small": file} makes the
model and trains n steps under memray, after some of the small model, whose file it is.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import gpt_peers
import numpy
import workers
from gpt_peers import Batch, Step, Weights
from gpt_sizes import BETAS, EPS, LR, SIZES, SMALL, TARGETS, TOKENS, WEIGHT_DECAY, Size

WARMING_STEPS = 10  # until products have met in all threads: each such meeting may take workspace for good

Build = Callable[[Size, Weights], Step]


def ours(size: Size, weights: Weights, replayed: bool) -> Step:
    """A plain loop or, `replayed`, nn.Step."""
    import nn

    config = nn.GPTConfig(size.vocab, size.block, size.layers, size.heads, size.width)
    model = nn.GPT(config)
    for name, node in model.state_dict().items():
        node[...] = weights[name]
    adam = nn.AdamW(nn.decay_groups(model, WEIGHT_DECAY), lr=LR, betas=BETAS, eps=EPS)

    def step(tokens: Any, targets: Any) -> float:
        loss = model.loss(tokens, targets)
        loss.backward()
        adam.step()
        adam.zero_grad()
        return loss.item()

    if not replayed:
        return step
    captured = nn.Step(lambda tokens, targets: model.loss(tokens, targets), adam)
    return lambda tokens, targets: captured(tokens, targets).item()


def our_batch(tokens: numpy.ndarray, targets: numpy.ndarray) -> Batch:
    import ownt

    return ownt.asarray(tokens), ownt.asarray(targets)


def builder(framework: str, variant: str) -> tuple[Build, Callable[[numpy.ndarray, numpy.ndarray], Batch]]:
    """What makes the framework's trainer, and what makes a batch of its arrays."""
    if framework.startswith("ownt"):
        return partial(ours, replayed=framework == "ownt-step"), our_batch
    if framework == "jax":
        return partial(gpt_peers.jax_trainer, attention=variant), gpt_peers.jax_batch
    optimizer, _, mode = variant.partition(", ")
    return partial(gpt_peers.torch_trainer, optimizer=optimizer, compiled=mode or None), gpt_peers.torch_batch


class Trainer:
    """A model that trains on the batches of a file, in turn."""

    def __init__(self, framework: str, variant: str, size: Size, file: str) -> None:
        build, to_batch = builder(framework, variant)
        with numpy.load(file) as arrays:
            batches = [to_batch(*pair) for pair in zip(arrays[TOKENS], arrays[TARGETS], strict=True)]
            self._step = build(size, arrays)
        self._batches = cycle(batches)

    def train(self, steps: int) -> dict[str, Any]:
        times, losses = [], []
        for _ in range(steps):
            batch = next(self._batches)
            start = time.perf_counter()
            loss = self._step(*batch)
            times.append(time.perf_counter() - start)
            losses.append(loss)
        return {"times_s": times, "losses": losses, "resident_peak_bytes": workers.resident_peak_bytes()}


def warm_up(framework: str, make: Callable[[], Trainer]) -> None:
    """Some steps of a small model and a large product: libraries take workspace of their own at their first."""
    make().train(WARMING_STEPS)
    if framework.startswith("torch"):
        import torch

        torch.ones(1024, 1024) @ torch.ones(1024, 1024)
    elif framework == "jax":
        from jax import numpy as jnp

        (jnp.ones((1024, 1024)) @ jnp.ones((1024, 1024))).block_until_ready()
    else:
        from scipy.linalg import blas

        a = numpy.ones((1024, 1024), numpy.float32)
        blas.sgemm(1, a, a @ a)


def heap_peak_bytes(framework: str, small: Callable[[], Trainer], make: Callable[[], Trainer], steps: int) -> int:
    """The most bytes on the heap at any time from before the model is made to the end of the last step.

    Libraries are warmed up by a small model, in a thread of its own: our scratch of it ends with the thread.
    """
    import memray

    warming = threading.Thread(target=warm_up, args=(framework, small))
    warming.start()
    warming.join()
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "heap.bin"
        with memray.Tracker(file, file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS):
            make().train(steps)
        return memray.FileReader(file).metadata.peak_memory


def start(framework: str, variant: str, size: str, file: str, threads: str) -> workers.Answer:
    workers.hold(framework, int(threads))
    make = partial(Trainer, framework, variant, SIZES[size], file)
    trainer: Trainer | None = None

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        nonlocal trainer
        if "heap" in question:
            small = partial(Trainer, framework, variant, SIZES[SMALL], question["small"])
            return {"heap_peak_bytes": heap_peak_bytes(framework, small, make, question["heap"])}
        trainer = trainer or make()
        return trainer.train(question["steps"])

    return answer


if __name__ == "__main__":
    workers.serve(partial(start, *sys.argv[1:]))
