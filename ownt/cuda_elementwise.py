"""Elementwise work on CUDA devices: how many threads, and which arrays can be gone through as if they were lines."""

from __future__ import annotations

from typing import Any

from ownt.layout import by_strides

THREADS = 256  # of a block
_BLOCKS = 1 << 14  # at most: more work is done in turns


def alike(y: Any, *arrays: Any) -> bool:
    """Whether arrays are of one shape and lie alike, each in one run of bytes with its axes in the same order."""
    if any(x.shape != y.shape for x in arrays):
        return False
    if all(x.flags.c_contiguous for x in (y, *arrays)):
        return True
    order, _ = by_strides(y)
    return all(x.transpose(order).flags.c_contiguous for x in (y, *arrays))


def blocks(y: Any) -> int:
    """How many blocks go through an array 16 bytes a thread at a time, in turns if it is large; none if it is empty."""
    return min(_BLOCKS, -(-y.nbytes // (16 * THREADS)))
