"""One framework's GPT in a process: trains as many steps as it is asked to, for bench/train_gpt.py.

    python bench/gpt_worker.py FRAMEWORK VARIANT SIZE FILE DEVICE DTYPE THREADS

Questions: {"steps": n} trains n steps and answers with their times, each to the loss as a number, and losses;
{"queue": n, "groups": m} trains m times n steps, each time waiting for the device at the end alone, and answers with
the time of a step in each group; {"bytes": true} says what is held on the device; {"gradients": file} writes the
gradients of the first batch; {"heap": n, "small": file} makes the model and trains n steps under memray, after some of
the small model, whose file it is.
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
from gpt_sizes import ALL_SIZES, BETAS, EPS, LR, SIZES, SMALL, TARGETS, TOKENS, WEIGHT_DECAY, Size

WARMING_STEPS = 10  # until products have met in all threads: each such meeting may take workspace for good

Build = Callable[[Size, Weights], Step]


def our_model(size: Size, weights: Weights, device: str, dtype: str) -> Any:
    import nn
    import ownt

    with ownt.device.use(device):
        model = nn.GPT(nn.GPTConfig(size.vocab, size.block, size.layers, size.heads, size.width, dtype=dtype))
    for name, node in model.state_dict().items():
        node[...] = weights[name]
    return model


def ours(size: Size, weights: Weights, replayed: bool, device: str = "cpu", dtype: str = "float32") -> Step:
    """A plain loop or, `replayed`, nn.Step; for float16 a step that scales losses, which is not replayed."""
    import nn

    model = our_model(size, weights, device, dtype)
    adam = nn.AdamW(nn.decay_groups(model, WEIGHT_DECAY), lr=LR, betas=BETAS, eps=EPS)
    if dtype == "float16":
        return nn.ScaledStep(model.loss, adam)
    if replayed:
        return nn.Step(model.loss, adam)

    def step(tokens: Any, targets: Any) -> Any:
        loss = model.loss(tokens, targets)
        loss.backward()
        adam.step()
        adam.zero_grad()
        return loss

    return step


def our_batch(tokens: numpy.ndarray, targets: numpy.ndarray) -> Batch:
    import ownt

    return ownt.asarray(tokens), ownt.asarray(targets)


def builder(
    framework: str, variant: str, device: str, dtype: str
) -> tuple[Build, Callable[[numpy.ndarray, numpy.ndarray], Batch]]:
    """What makes the framework's trainer, and what makes a batch of its arrays."""
    if framework.startswith("ownt"):
        return partial(ours, replayed=framework == "ownt-step", device=device, dtype=dtype), our_batch
    if framework == "jax":
        return partial(gpt_peers.jax_trainer, attention=variant), gpt_peers.jax_batch
    way, _, mode = variant.partition(", ")
    options = {"compiled": mode or None, "device": device, "dtype": dtype, "autocast": way == "autocast"}
    if way in ("fused", "foreach", "loop"):
        options["optimizer"] = way
    return partial(gpt_peers.torch_trainer, **options), gpt_peers.torch_batch


class Trainer:
    """A model that trains on the batches of a file, in turn."""

    def __init__(
        self, framework: str, variant: str, size: Size, file: str, device: str = "cpu", dtype: str = "float32"
    ) -> None:
        build, to_batch = builder(framework, variant, device, dtype)
        self._wait = partial(wait, framework, device)
        with numpy.load(file) as arrays:
            batches = [to_batch(*pair) for pair in zip(arrays[TOKENS], arrays[TARGETS], strict=True)]
            self._step = build(size, arrays)
        self._batches = cycle(batches)

    def train(self, steps: int) -> dict[str, Any]:
        times, losses = [], []
        for _ in range(steps):
            batch = next(self._batches)
            start = time.perf_counter()
            loss = self._step(*batch).item()
            times.append(time.perf_counter() - start)
            losses.append(loss)
        return {"times_s": times, "losses": losses, "resident_peak_bytes": workers.resident_peak_bytes()}

    def queue(self, steps: int, groups: int) -> dict[str, Any]:
        """Steps are launched one after the other, inputs sent meanwhile, no loss looked at but a group's last."""
        times = []
        for _ in range(groups):
            self._wait()
            start = time.perf_counter()
            for _ in range(steps):
                loss = self._step(*next(self._batches))
            last = loss.item()
            self._wait()
            times.append((time.perf_counter() - start) / steps)
            del loss
        return {"times_s": times, "loss": last}


def wait(framework: str, device: str) -> None:
    """Until the device has done all that was launched."""
    if framework.startswith("ownt"):
        import ownt

        ownt.device.get(device).synchronize()
    elif device != "cpu":
        import torch

        torch.cuda.synchronize()


def used_bytes(framework: str, device: str) -> dict[str, int | None]:
    """peak: of tensors, by the framework's own books; held: taken from the device for them, at the most or now."""
    if framework.startswith("ownt"):
        import ownt

        report = ownt.memory.report(device)
        pools = sum(report.occupied.get(name, 0) for name in ("pool", "cupy"))
        return {"peak": report.peak_bytes, "held": pools + sum(arena.capacity for arena in report.arenas)}
    if device == "cpu":
        return {"peak": None, "held": None}
    import torch

    return {"peak": torch.cuda.max_memory_allocated(), "held": torch.cuda.max_memory_reserved()}


def write_gradients(framework: str, variant: str, size: Size, file: str, device: str, dtype: str, to: str) -> None:
    """Those of the first batch, in float64."""
    with numpy.load(file) as arrays:
        tokens, targets = arrays[TOKENS][0], arrays[TARGETS][0]
        if framework.startswith("ownt"):
            model = our_model(size, arrays, device, dtype)
            model.loss(*our_batch(tokens, targets)).backward()
            found = {name: node.grad.numpy().astype("float64") for name, node in model.named_parameters()}
        else:
            found = gpt_peers.torch_gradients(size, arrays, tokens, targets, device, dtype, variant == "autocast")
    numpy.savez(to, **found)


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


def start(framework: str, variant: str, size: str, file: str, device: str, dtype: str, threads: str) -> workers.Answer:
    workers.hold(framework, int(threads))
    make = partial(Trainer, framework, variant, ALL_SIZES[size], file, device, dtype)
    trainer: Trainer | None = None

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        nonlocal trainer
        if "heap" in question:
            small = partial(Trainer, framework, variant, SIZES[SMALL], question["small"])
            return {"heap_peak_bytes": heap_peak_bytes(framework, small, make, question["heap"])}
        if "gradients" in question:
            to = question["gradients"]
            write_gradients(framework, variant, ALL_SIZES[size], file, device, dtype, to)
            return {"file": to}
        if "bytes" in question:
            return used_bytes(framework, device)
        trainer = trainer or make()
        if "queue" in question:
            return trainer.queue(question["queue"], question["groups"])
        return trainer.train(question["steps"])

    return answer


if __name__ == "__main__":
    workers.serve(partial(start, *sys.argv[1:]))
