"""Progress of training: a bar on a terminal, plain lines elsewhere, and a file of comma-separated values."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import ownt
from nn import train
from nn.errors import InputError
from ownt.report import human_bytes


class Display:
    """Shows steps and losses: `with Display(steps, device) as display: ... display.show(progress)`.

    On a terminal a progress bar with losses, speed and bytes by kind; elsewhere the losses on standard output, a
    line each, and the rest on standard error.
    """

    def __init__(self, steps: int, device: str = "cpu") -> None:
        self.steps = steps
        self.device = device
        self.val_loss: float | None = None  # the last one: it stays on the bar until the next
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
        speed = [] if progress.tokens_per_s is None else [f"{progress.tokens_per_s:,.0f} tokens/s"]
        if self.live is not None:
            self.val_loss = self.val_loss if progress.val_loss is None else progress.val_loss
            shown = " | ".join([*losses(progress.loss, self.val_loss), *speed])
            self.bar.update(self.task, completed=progress.step, description=shown)
            self.live.update(Group(self.bar, bytes_by_kind(self.device)))
            return
        step = f"step {progress.step:4d} / {self.steps:4d}"
        print(" | ".join([step, *losses(progress.loss, progress.val_loss)]), flush=True)
        print(" | ".join([*speed, bytes_by_kind(self.device)]), file=sys.stderr, flush=True)


def losses(loss: float | None, val_loss: float | None) -> list[str]:
    """The losses there are, in words: "loss 1.9000", "val 1.9500"."""
    return [f"{name} {value:.4f}" for name, value in (("loss", loss), ("val", val_loss)) if value is not None]


def bytes_by_kind(device: str) -> str:
    """Bytes on a device at the peak by kind, those kinds that hold any."""
    kinds = ownt.device.get(device).ledger.by_kind(at_peak=True)
    return ", ".join(f"{kind} {human_bytes(size_bytes)}" for kind, size_bytes in kinds.items() if size_bytes)


@contextlib.contextmanager
def log_to(path: Path | None) -> Iterator[Callable[[train.Progress], None]]:
    """A function that writes each `Progress` to a file of comma-separated values, at once; without a path to none.

    Raises: InputError if the file cannot be written.
    """
    if path is None:
        yield lambda progress: None
        return
    try:
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"log: expected a file to write to; got {path}: {error.strerror}") from None

    def write(progress: train.Progress) -> None:
        values = dataclasses.astuple(progress)
        print(*("" if value is None else f"{value:.10g}" for value in values), sep=",", file=file, flush=True)

    with file:
        print(*(field.name for field in dataclasses.fields(train.Progress)), sep=",", file=file, flush=True)
        yield write
