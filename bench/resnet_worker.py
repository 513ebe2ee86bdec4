"""One framework's ResNet in a process, for bench/resnet_mem.py.

    python bench/resnet_worker.py FRAMEWORK MODEL BATCH IMAGE OPTIMIZER DEVICE FILE THREADS

FILE has the weights. Questions: {"steps": n} trains n steps and answers with their times and losses; {"heap": n} says
the most bytes on the heap, or taken from the GPU, while a model is made and trained n steps; {"counts": control}
counts gradients, every one allocated twice if control; {"tensors": n} says the most bytes that PyTorch's tensors hold
in n steps.
"""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
import workers

Step = Callable[[], float]
RATE = 1e-3


class Task:
    """What is trained: names and sizes."""

    def __init__(self, model: str, batch: str, image: str, optimizer: str, device: str, file: str) -> None:
        self.model = model
        self.device = device
        self.optimizer = optimizer
        self.file = file
        stream = numpy.random.default_rng(0)
        self.images = stream.standard_normal((int(batch), 3, int(image), int(image)), numpy.float32)
        self.labels = stream.integers(0, 1000, int(batch))

    def weights(self) -> dict[str, numpy.ndarray]:
        with numpy.load(self.file) as arrays:
            return dict(arrays)


def ours(task: Task) -> tuple[Any, Any]:
    import nn

    model = getattr(nn, task.model)()
    model.load_state_dict(task.weights())
    model.to(task.device)
    sgd = partial(nn.SGD, momentum=0.9)
    return model, {"adamw": nn.AdamW, "sgd": sgd}[task.optimizer](model.parameters(), lr=RATE)


def our_step(task: Task, fused: bool) -> Step:
    import nn

    model, optimizer = ours(task)
    step = nn.Step(model.loss, optimizer, fuse_optimizer=fused)
    return lambda: step(task.images, task.labels).item()


def torchs(task: Task) -> tuple[Any, Any]:
    """torchvision's model with its channels last, which is PyTorch's faster layout."""
    import torch

    library = torch.library.Library("torchvision", "DEF")  # what its build for the CPU lacks, and nobody calls here
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    torchs.library = library  # type: ignore[attr-defined]
    model = getattr(torchvision.models, task.model)()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in task.weights().items()})
    model = model.to(device=task.device, memory_format=torch.channels_last)
    adamw = partial(torch.optim.AdamW, fused=True, weight_decay=0.01)
    sgd = partial(torch.optim.SGD, momentum=0.9)
    return model, {"adamw": adamw, "sgd": sgd}[task.optimizer](model.parameters(), lr=RATE)


def torch_step(task: Task) -> Step:
    import torch

    model, optimizer = torchs(task)
    images = torch.from_numpy(task.images).to(device=task.device, memory_format=torch.channels_last)
    labels = torch.from_numpy(task.labels).to(task.device)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def counts(task: Task, control: bool) -> dict[str, Any]:
    """Gradients counted three ways after a backward, and a step at its peak."""
    import mlp_mem

    import ownt

    if control:
        mlp_mem.allocate_twice()
    model, optimizer = ours(task)
    by_allocator = kept_by_gradients(lambda: model.loss(task.images, task.labels).backward(), task.device)
    parameters = model.parameters()
    unseen = 1024 if task.device == "cpu" else 0
    found = {
        "parameters": sum(p.size for p in parameters),
        "tensors": len(parameters),
        "parameter_bytes": sum(p.nbytes for p in parameters),
        "small_bytes": sum(p.nbytes for p in parameters if p.nbytes < unseen),  # which memray's count leaves out
        "gradient_bytes_by_ledger": ownt.memory.report(task.device).by_kind()["gradient"],
        "gradient_bytes_by_allocator": by_allocator,
        "allocator": "memray" if task.device == "cpu" else "CuPy's hook",
    }
    optimizer.zero_grad()
    return found


def kept_by_gradients(run: Callable[[], Any], device: str) -> int:
    """Bytes of parameters' gradients that `run` allocated and did not free, by who watches the device's allocator."""
    if device == "cpu":
        import heap

        return heap.kept_bytes(run, ("empty", "device.py"), ("allocate", "slot.py"))
    from ownt.cuda_watch import counter

    with counter(("allocate", "slot.py"), name=device) as counted:
        run()
    return counted.live


def steps_of(framework: str, task: Task) -> Step:
    return torch_step(task) if framework == "torch" else our_step(task, framework.endswith("fused"))


def at_peak(framework: str, task: Task, steps: int) -> dict[str, Any]:
    """By the ledger."""
    import ownt

    step = steps_of(framework, task)
    step()
    with ownt.memory.record(f"{task.model}, batch {len(task.labels)}", task.device) as timeline:
        for _ in range(steps):
            step()
    return {"by_kind": timeline.report.by_kind(at_peak=True), "peak_bytes": timeline.report.peak_bytes}


def torch_tensor_bytes(task: Task, steps: int) -> dict[str, Any]:
    """The most bytes of tensors alive at any time: storages that operations gave, until they die."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Count(TorchDispatchMode):
        live = peak = 0

        def __init__(self) -> None:
            super().__init__()
            self.known: dict[int, Any] = {}

        def see(self, value: Any) -> None:
            if hasattr(value, "untyped_storage"):
                storage = value.untyped_storage()
                key, size = id(storage), storage.nbytes()
                if key not in self.known:
                    self.known[key] = weakref.ref(storage, lambda _: self.forget(key, size))
                    self.live += size
                    self.peak = max(self.peak, self.live)

        def forget(self, key: int, size: int) -> None:
            del self.known[key]
            self.live -= size

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for value in tree_leaves((args, kwargs, result)):
                self.see(value)
            return result

    step = torch_step(task)
    step()
    gc.collect()
    if task.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        for _ in range(steps):
            step()
        return {"peak_bytes": torch.cuda.max_memory_allocated()}
    with Count() as count:
        for _ in range(steps):
            step()
    return {"peak_bytes": count.peak}


def most_taken(framework: str, run: Callable[[], None], device: str) -> int:
    """The most bytes taken from the system: on the heap, or of a GPU."""
    if device == "cpu":
        import heap

        return heap.peak_bytes(run)
    run()
    if framework == "torch":
        import torch

        return torch.cuda.max_memory_reserved()
    import ownt

    report = ownt.memory.report(device)
    return report.occupied["pool"] + report.occupied["cupy"] + sum(arena.capacity for arena in report.arenas)


def start(framework: str, *settings: str) -> workers.Answer:
    *sizes, threads = settings
    workers.hold(framework, int(threads))
    task = Task(*sizes)
    step: Step | None = None

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        nonlocal step
        if "counts" in question:
            return counts(task, question["counts"])
        if "peak" in question:
            return at_peak(framework, task, question["peak"])
        if "tensors" in question:
            return torch_tensor_bytes(task, question["tensors"])
        if "heap" in question:

            def train() -> None:
                trained = steps_of(framework, task)
                for _ in range(question["heap"]):
                    trained()

            return {"heap_peak_bytes": most_taken(framework, train, task.device)}
        step = step or steps_of(framework, task)
        times, losses = [], []
        for _ in range(question["steps"]):
            began = time.perf_counter()
            losses.append(step())
            times.append(time.perf_counter() - began)
        return {"times_s": times, "losses": losses}

    return answer


if __name__ == "__main__":
    workers.serve(partial(start, *sys.argv[1:]))
