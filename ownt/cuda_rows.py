"""Rows of a matrix on CUDA devices, each read by a group of threads: a warp, several to a block, or a whole block.

The other half is rows.cuh.
"""

from __future__ import annotations

from typing import Any

from ownt import device as devices
from ownt.cuda_source import PLAIN_SHARED_BYTES, CudaKernel, Launch

WARP, BLOCK = 32, 256
_MOST = 1 << 30  # rows, and numbers of one, that kernels count in ints
_NARROW = 1 << 12  # bytes of a row that a warp reads; a wider one has a block


def fits(rows: int, width: int) -> bool:
    """Whether there are numbers, and not too many to a row, or rows, for kernels to count."""
    return 0 < rows < _MOST and 0 < width < _MOST


def threads_of(row_bytes: int) -> int:
    """How many threads read a row."""
    return BLOCK if row_bytes > _NARROW else WARP


def block_of(row_bytes: int, shared_bytes: int = 0) -> tuple[tuple[int, int], int]:
    """Threads of a block, (of a row, rows), and its bytes of shared memory, of which each row wants `shared_bytes`."""
    if threads_of(row_bytes) == BLOCK:
        return (BLOCK, 1), shared_bytes
    rows = max(1, min(BLOCK // WARP, PLAIN_SHARED_BYTES // max(shared_bytes, 1)))
    return (WARP, rows), rows * shared_bytes


def launch(kernel: CudaKernel, x: Any, rows: int, width: int) -> Launch:
    """The launch of a kernel with a group for each row, on the device and of the dtype of x."""
    block, _ = block_of(width * x.itemsize)
    return kernel.launch(devices.of(x), x.dtype, -(-rows // block[1]), block)
