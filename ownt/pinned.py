"""Pinned: a ring of page-locked memory through which numbers go from the host to a GPU without waiting for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, final

from ownt import device as devices

RING_BYTES = 1 << 24
PIECE_BYTES = 1 << 22  # of a large transfer: while one is on its way, the next is written
_ALIGN = 64


@final
class Ring:
    """Memory that a GPU reads by itself, used round and round; a stretch is used again when it has been read.

    A transfer from memory that is not page-locked would wait until the GPU has done all that was launched before.
    It is locked when the first transfer is made.
    """

    def __init__(self, cuda: Any, size_bytes: int = RING_BYTES) -> None:
        self.cuda = cuda  # CuPy's module of that name
        self.size_bytes = size_bytes
        self._bytes: Any = None  # the memory, as NumPy sees it
        self._next = 0  # bytes given out since the beginning, those skipped at the end of a round among them
        self._flying: deque[tuple[int, Any]] = deque()  # (first byte, event after which it has been read)
        self._lock = threading.Lock()

    def send(self, pointer: int, values: Any, stream: Any) -> None:
        """Have `values`, a contiguous array of the host, copied to an address on the GPU, in the order of a stream.

        They may change as soon as this returns. It waits only where the ring is full of transfers still to be made.
        """
        source = values.reshape(-1).view("uint8")
        step = min(PIECE_BYTES, self.size_bytes // 4)
        with self._lock:
            for first in range(0, source.size, step):
                self._send_piece(pointer + first, source[first : first + step], stream)

    def _send_piece(self, pointer: int, piece: Any, stream: Any) -> None:
        if self._bytes is None:
            locked = self.cuda.alloc_pinned_memory(self.size_bytes)
            self._bytes = devices.cpu.xp.frombuffer(locked, "uint8", self.size_bytes)  # which holds on to it
        begin = self._room(piece.size)
        at = begin % self.size_bytes
        staged = self._bytes[at : at + piece.size]
        staged[...] = piece
        runtime = self.cuda.runtime
        runtime.memcpyAsync(pointer, staged.ctypes.data, piece.size, runtime.memcpyHostToDevice, stream.ptr)
        event = self.cuda.Event(disable_timing=True)
        event.record(stream)
        self._flying.append((begin, event))

    def _room(self, size: int) -> int:
        """Where the next `size` bytes begin, counted from the beginning, when they are free."""
        size = -(-size // _ALIGN) * _ALIGN
        left = self.size_bytes - self._next % self.size_bytes
        begin = self._next if size <= left else self._next + left
        while self._flying and begin + size - self._flying[0][0] > self.size_bytes:
            self._flying.popleft()[1].synchronize()
        while self._flying and self._flying[0][1].done:
            self._flying.popleft()
        self._next = begin + size
        return begin
