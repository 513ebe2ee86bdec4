"""Progress of training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import ownt
from nn import train
from ownt.report import human_bytes


class Display:
    """Shows steps and losses: `with Display(steps) as display: ... display.show(progress)`.

    On a terminal a progress bar with loss, speed and bytes by kind; elsewhere the losses on standard output, a
    line each, and the rest on standard error.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        console = Console(stderr=True)
        self.live: Live | None = None
        if sys.stdout.isatty() and console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self.bar = Progress(*columns)
            self.task = self.bar.add_task("", total=steps)
            self.live = Live(self.bar, console=console)

    def __enter__(self) -> Display:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, progress: train.Progress) -> None:
        """Show the state after a step."""
        speed = f"{progress.tokens_per_s:,.0f} tokens/s"
        if self.live is not None:
            self.bar.update(self.task, completed=progress.step, description=f"loss {progress.loss:.4f} | {speed}")
            self.live.update(Group(self.bar, bytes_by_kind()))
            return
        print(f"step {progress.step:4d} / {self.steps:4d} | loss {progress.loss:.4f}", flush=True)
        print(f"{speed} | {bytes_by_kind()}", file=sys.stderr, flush=True)


def bytes_by_kind() -> str:
    """Bytes at the peak by kind, those kinds that hold any."""
    kinds = ownt.memory.ledger.by_kind(at_peak=True)
    return ", ".join(f"{kind} {human_bytes(size_bytes)}" for kind, size_bytes in kinds.items() if size_bytes)
