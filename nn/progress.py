"""Progress of training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import ownt
from nn import train
from ownt.report import human_bytes


class Display:
    """Shows steps and losses.

    On a terminal a progress bar with loss, speed and bytes by kind; elsewhere the losses on standard output, a
    line each, and the rest on standard error.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        if sys.stdout.isatty() and self.console.is_terminal:
            columns: list[Any] = [
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            ]
            self.bar = Progress(*columns, TextColumn("{task.fields[details]}"), console=self.console)
            self.task = self.bar.add_task("training", total=steps, details="")

    def __enter__(self) -> Display:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, progress: train.Progress) -> None:
        """Show the state after a step."""
        details = f"{progress.tokens_per_s:,.0f} tokens/s | {bytes_by_kind()}"
        if self.bar is not None:
            text = f"loss {progress.loss:.4f} | {details}"
            self.bar.update(self.task, completed=progress.step, details=text)
            return
        print(f"step {progress.step:4d} / {self.steps:4d} | loss {progress.loss:.4f}", flush=True)
        print(details, file=sys.stderr, flush=True)


def bytes_by_kind() -> str:
    """Bytes at the peak by kind, those kinds that hold any."""
    kinds = ownt.memory.ledger.by_kind(at_peak=True)
    return ", ".join(f"{kind} {human_bytes(size_bytes)}" for kind, size_bytes in kinds.items() if size_bytes)
