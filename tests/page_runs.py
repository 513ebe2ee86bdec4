"""Runs for the tests of the memory page, and what is to be read on it, counted here from the same data."""

from __future__ import annotations

import random
from collections import Counter

from ownt import page
from ownt.report import human_bytes

KINDS = ["parameter", "gradient", "optimizer", "buffer", "activation", "workspace"]


class Recorder:
    """Writes a run down event by event, a millisecond or so each."""

    def __init__(self, title: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.strings: dict[str, int] = {"": 0}
        self.blocks = {column: [] for column in page.COLUMNS}
        self.times: list[float] = []
        self.phases: list[list] = []
        self.title = title

    def tick(self) -> int:
        self.times.append((self.times[-1] if self.times else 0.0) + self.random.uniform(1e-5, 2e-3))
        return len(self.times) - 1

    def make(self, size_bytes: int, kind: str, path: str, op: str = "", name: str = "", before: bool = False) -> int:
        texts = {"path": path, "op": op, "name": name, "shape": f"({size_bytes // 4},) float32", "line": "train.py:12"}
        row = {"start": -1 if before else self.tick(), "end": -1, "bytes": size_bytes, "kind": KINDS.index(kind)}
        row |= {column: self.strings.setdefault(text, len(self.strings)) for column, text in texts.items()}
        for column, value in row.items():
            self.blocks[column].append(value)
        return len(self.blocks["start"]) - 1

    def release(self, block: int) -> None:
        self.blocks["end"][block] = self.tick()

    def phase(self, name: str, first: int) -> None:
        self.phases.append([name, first, len(self.times)])

    def run(self) -> dict:
        arena = {"used": 0, "peak": 96_500_000, "capacity": 134_217_728, "blocks": 7, "fragmented": 4_096_000}
        return {
            "title": self.title,
            "device": "cpu",
            "resident_bytes": 734_567_890,
            "kinds": KINDS,
            "strings": list(self.strings),
            "times": self.times,
            "phases": self.phases,
            "blocks": self.blocks,
            "arenas": [{"device": "cpu", **arena}],
        }


def training_run(
    title: str = "resnet, batch 8", layers: int = 24, steps: int = 1, batch: int = 8, seed: int = 0
) -> dict:
    """Steps of a residual network: its parameters are there before, its gradients from the first backward on."""
    recorder = Recorder(title, seed)
    paths = [f"layer{1 + 4 * index // layers}.{index % max(1, layers // 4)}" for index in range(layers)]
    weights = [36_864 * 4 ** (4 * index // layers) for index in range(layers)]
    for path, size_bytes in zip(paths, weights):
        recorder.make(size_bytes, "parameter", f"{path}.conv", name="weight", before=True)
        recorder.make(512, "buffer", f"{path}.norm", name="running_mean", before=True)
        recorder.make(2 * size_bytes, "optimizer", f"{path}.conv", name="moments", before=True)
    gradients: dict[int, int] = {}
    for _ in range(steps):
        _step(recorder, paths, weights, gradients, batch)
    return recorder.run()


def _step(recorder: Recorder, paths: list[str], weights: list[int], gradients: dict[int, int], batch: int) -> None:
    first, held = len(recorder.times), []
    batch_block = recorder.make(batch * 602_112, "activation", "", name="images")
    for index, path in enumerate(paths):
        size_bytes = batch * 401_408 // (1 + 4 * index // len(paths))
        columns = recorder.make(2 * size_bytes, "workspace", f"{path}.conv", "conv2d", "columns")
        held.append(recorder.make(size_bytes, "activation", f"{path}.conv", "conv2d", "output"))
        recorder.release(columns)
        held.append(recorder.make(size_bytes, "activation", f"{path}.norm", "batch_norm", "output"))
        held.append(recorder.make(size_bytes, "activation", path, "add", "output"))
    recorder.phase("forward", first)
    first = len(recorder.times)
    for index in reversed(range(len(paths))):
        incoming = recorder.make(
            recorder.blocks["bytes"][held[-2]], "gradient", f"{paths[index]}.norm", "batch_norm", "dx"
        )
        if index not in gradients:
            gradients[index] = recorder.make(
                weights[index], "gradient", f"{paths[index]}.conv", "conv2d", "weight.grad"
            )
        for _ in range(3):
            recorder.release(held.pop())
        recorder.release(incoming)
    recorder.release(batch_block)
    recorder.phase("backward", first)
    first = len(recorder.times)
    recorder.release(recorder.make(8_192, "workspace", "", "adamw", "rates"))
    recorder.phase("update", first)


HOSTILE = "</script><script>window.stolen = 1</script><!--<img src=x onerror=alert(1)> {{script}} \u2028 &amp;"


def hostile_run() -> dict:
    run = training_run(HOSTILE, layers=4)
    run["strings"] = [text and f"{HOSTILE}{text}" for text in run["strings"]]
    run["phases"] = [[HOSTILE, first, after] for _, first, after in run["phases"]]
    return run | {"device": HOSTILE, "kinds": [*KINDS[:5], HOSTILE]}


def column(run: dict, name: str, block: int) -> str:
    return run["strings"][run["blocks"][name][block]]


def live(run: dict, event: int) -> list[int]:
    """Blocks live after an event in the order of the stack: by kind, then by age."""
    blocks = run["blocks"]
    found = [i for i, (a, b) in enumerate(zip(blocks["start"], blocks["end"])) if a <= event and (b == -1 or b > event)]
    return sorted(found, key=lambda block: (blocks["kind"][block], blocks["start"][block], block))


def totals(run: dict) -> list[int]:
    """Bytes after each event."""
    changes = [0] * (len(run["times"]) + 1)
    for start, end, size_bytes in zip(*(run["blocks"][name] for name in ("start", "end", "bytes"))):
        changes[max(start, 0)] += size_bytes
        changes[end] -= size_bytes if end >= 0 else 0
    total, found = 0, []
    for change in changes[:-1]:
        total += change
        found.append(total)
    return found


def peak(run: dict) -> int:
    found = totals(run)
    return found.index(max(found))


def by_kind(run: dict, event: int) -> dict[str, int]:
    found = dict.fromkeys(run["kinds"], 0)
    for block in live(run, event):
        found[run["kinds"][run["blocks"]["kind"][block]]] += run["blocks"]["bytes"][block]
    return found


def by_module(run: dict, event: int) -> Counter:
    """Bytes of each module with all that is in it."""
    found = Counter()
    for block in live(run, event):
        names = (column(run, "path", block) or "(no module)").split(".")
        for depth in range(len(names)):
            found[".".join(names[: depth + 1])] += run["blocks"]["bytes"][block]
    return found


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%"


def difference(a: int, b: int) -> str:
    return ("+" if b > a else "−" if b < a else "") + human_bytes(abs(b - a))


def block_at(run: dict, event: int, level: float) -> int:
    """The block at a height of the stack, in bytes."""
    for block in live(run, event):
        level -= run["blocks"]["bytes"][block]
        if level < 0:
            return block
    return -1
