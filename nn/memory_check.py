"""`ownt memory-check`: train for many steps and see whether memory grows."""

from __future__ import annotations

import dataclasses
import gc
import time

import ownt
from nn import presets, train
from nn.errors import InputError

STEADY_STEP = 100  # growth is counted from here: what is allocated once has been by then
ALLOWED_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """Train with the garbage collector off and print resident memory and arena capacity at the given steps.

    Exit status 1 if either grew by 1 MB or more after step 100.
    """

    preset: str = "names"  # settings of the run
    steps: str = "100,500,1000,5000,10000"  # where to look, separated by commas


def run(config: CheckConfig) -> int:
    """Print the table; 1 if memory grew."""
    stops = _stops(config.steps)
    trainer = train.Trainer(dataclasses.replace(presets.get(config.preset), steps=stops[-1]))
    arena = ownt.memory.scratch(trainer.config.device)
    print(f"{'steps':>8}  {'loss':>8}  {'steps/s':>8}  {'live bytes':>12}  {'arena capacity':>14}  {'resident':>14}")
    gc.collect()
    gc.disable()
    try:
        steady, done = None, 0
        for stop in stops:
            began = time.perf_counter()
            for step in range(done, stop):
                loss, _ = trainer.step(step, want_loss=step + 1 == stop)
                if step + 1 == STEADY_STEP:
                    steady = ownt.memory.resident_bytes(), arena.capacity
            speed, done = (stop - done) / (time.perf_counter() - began), stop
            live, resident = ownt.memory.ledger.live, ownt.memory.resident_bytes()
            print(f"{stop:>8}  {loss:>8.4f}  {speed:>8.0f}  {live:>12,}", end="")
            print(f"  {arena.capacity:>14,}  {resident:>14,}", flush=True)
    finally:
        gc.enable()
    if steady is None:
        print(f"growth is counted from step {STEADY_STEP}; ask for more steps")
        return 0
    grown = resident - steady[0], arena.capacity - steady[1]
    print(f"growth after step {STEADY_STEP}: resident {grown[0]:,} bytes, arena {grown[1]:,} bytes")
    return int(max(grown) >= ALLOWED_BYTES)


def _stops(text: str) -> list[int]:
    try:
        stops = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"expected steps as numbers separated by commas; got {text!r}") from None
    if stops[0] < 1:
        raise InputError(f"expected steps of 1 or more; got {stops[0]}")
    return stops
