"""Random bits that depend on a seed and a counter alone: the same on every device, in any order.

Element i of a draw is the SplitMix64 output number `offset + i`, so a kernel on any device computes just
the bits it needs, and a draw is done again by setting the offset back.
Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any, final

from ownt import device as devices
from ownt.launch import not_repeatable
from ownt.thread import state

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@final
class Generator:
    """Hands out stretches of the counter."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the stream of `seed` at its beginning."""
        not_repeatable("the random stream was set")
        self.key = _mix(int(seed) & _MASK)  # mixed, so that neighbouring seeds are far apart
        self.offset = 0

    def take(self, count: int) -> Any:
        """(key, offset) of the next `count` outputs, which are nobody else's: an array, for a replay to write to."""
        if state.replay is not None:
            key, offset = state.replay
            state.replay = key, offset + count
        else:
            with self._lock:
                key, offset = self.key, self.offset
                self.offset += count
        position = devices.cpu.xp.array((key, offset), "uint64")
        if state.recording is not None:
            state.recording.draw(position, offset)
        return position

    @property
    def state(self) -> tuple[int, int]:
        """Where the stream is: all there is to save and restore."""
        return state.replay or (self.key, self.offset)

    @state.setter
    def state(self, position: tuple[int, int]) -> None:
        not_repeatable("the random stream was set")
        self.key, self.offset = position

    @contextlib.contextmanager
    def replaying(self, position: tuple[int, int]) -> Iterator[None]:
        """Have this thread, and no other, draw again from an earlier position."""
        outer, state.replay = state.replay, position
        try:
            yield
        finally:
            state.replay = outer


def _mix(value: int) -> int:
    """SplitMix64's finishing function: every bit of the result depends on every bit of the value."""
    value = (value + _GAMMA) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


generator = Generator()


def manual_seed(seed: int) -> None:
    """Seed all random numbers of ownt, ag and nn."""
    generator.seed(seed)


def bits(xp: Any, key: int, offset: int, count: int) -> Any:
    """Outputs offset ... offset + count - 1 of the stream, an array of uint64."""
    z = xp.arange(offset + 1, offset + count + 1, dtype="uint64")
    z *= xp.uint64(_GAMMA)
    z += xp.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> xp.uint64(shift)
        z *= xp.uint64(factor)
    z ^= z >> xp.uint64(31)
    return z


def uniform(xp: Any, key: int, offset: int, count: int, digits: int = 53) -> Any:
    """Numbers in [0, 1), float64, of `digits` random bits each: as many as the dtype they go to can hold."""
    return (bits(xp, key, offset, count) >> xp.uint64(64 - digits)) * 2.0**-digits


def normal(xp: Any, key: int, offset: int, count: int) -> Any:
    """Standard normal numbers, float64, of two outputs each: 2 * offset and on.

    Source: Box and Muller, 1958.
    """
    u = uniform(xp, key, 2 * offset, 2 * count)
    return xp.sqrt(-2.0 * xp.log1p(-u[::2])) * xp.cos((2.0 * math.pi) * u[1::2])


def fill(array: Any, draw: Any, outputs: int) -> None:
    """Fill a contiguous array from `draw`, each element of `outputs` outputs, in pieces that fit a cache."""
    not_repeatable("random numbers were drawn by no op")
    flat = array.reshape(-1)
    key, offset = map(int, generator.take(flat.size * outputs + (outputs > 1)))
    place = devices.of(array)
    if not place.runs():
        return
    offset = -(-offset // outputs)  # a multiple of `outputs`, so that no output serves two draws
    for start in range(0, flat.size, 1 << 16):
        part = flat[start : start + (1 << 16)]
        with place.quiet():
            part[...] = draw(place.xp, key, offset + start, part.size)
