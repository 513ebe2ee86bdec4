"""`ownt memory-check`: train for many steps and see whether memory grows."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ownt
from nn import presets, train
from nn.errors import InputError

STEADY_STEP = 100  # growth is counted from here: what is allocated once has been by then
ALLOWED_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """Train with the garbage collector off and print resident memory and arena capacity at the given steps.

    At each of them the loss on the part to validate on is computed too, where there is one: its memory counts.
    Exit status 1 if either grew by 1 MB or more after step 100.
    """

    preset: str = "names"  # settings of the run
    data: Path | None = None  # a text file in UTF-8, as for `ownt train`
    steps: str = "100,500,1000,5000,10000"  # where to look, separated by commas


class Figures(NamedTuple):
    """What was seen after a step."""

    step: int
    loss: float | None
    steps_per_s: float  # since the last look
    live_bytes: int
    capacity_bytes: int
    resident_bytes: int


def run(config: CheckConfig) -> int:
    """Print the table; 1 if memory grew."""
    stops = _stops(config.steps)
    settings = presets.get(config.preset)
    trainer = train.Trainer(dataclasses.replace(settings, steps=stops[-1], data=config.data or settings.data))
    print(f"{'steps':>8}  {'loss':>8}  {'steps/s':>8}  {'live bytes':>12}  {'arena capacity':>14}  {'resident':>14}")
    seen = {}
    for figures in watch(trainer, {*stops, min(STEADY_STEP, stops[-1])}):
        seen[figures.step] = figures
        if figures.step in stops:
            step, loss, speed, live, capacity, resident = figures
            print(f"{step:>8}  {loss:>8.4f}  {speed:>8.0f}  {live:>12,}  {capacity:>14,}  {resident:>14,}", flush=True)
    if STEADY_STEP not in seen:
        print(f"growth is counted from step {STEADY_STEP}; ask for more steps")
        return 0
    first, last = seen[STEADY_STEP], figures
    grown = last.resident_bytes - first.resident_bytes, last.capacity_bytes - first.capacity_bytes
    print(f"growth after step {STEADY_STEP}: resident {grown[0]:,} bytes, arena {grown[1]:,} bytes")
    return int(max(grown) >= ALLOWED_BYTES)


def watch(trainer: train.Trainer, stops: set[int]) -> Iterator[Figures]:
    """Train up to the last of `stops` with the garbage collector off, and look at memory after each of them."""
    arena = ownt.memory.scratch(trainer.config.device)
    gc.collect()
    gc.disable()
    try:
        done = 0
        for stop in sorted(stops):
            began = time.perf_counter()
            for step in range(done, stop):
                loss, _ = trainer.step(step, want_loss=step + 1 == stop)
            speed, done = (stop - done) / (time.perf_counter() - began), stop
            if trainer.config.val_fraction:
                trainer.validate()
            yield Figures(stop, loss, speed, ownt.memory.ledger.live, arena.capacity, ownt.memory.resident_bytes())
    finally:
        gc.enable()


def _stops(text: str) -> list[int]:
    try:
        stops = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"expected steps as numbers separated by commas; got {text!r}") from None
    if stops[0] < 1:
        raise InputError(f"expected steps of 1 or more; got {stops[0]}")
    return stops
