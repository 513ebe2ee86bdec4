"""Rows of a matrix on CUDA devices, each read by a group of threads: a warp, several to a block, or a whole block.

The other half is rows.cuh.
"""

from __future__ import annotations

from typing import Any

from ownt import device as devices
from ownt.cuda_source import CudaKernel, Launch

WARP, BLOCK = 32, 256
_MOST = 1 << 30  # rows, and numbers of one, that kernels count in ints
_NARROW = 1 << 12  # bytes of a row that a warp reads; a wider one has a block
_PACK, _MOST_WARPS = 16, 16  # of a row held in registers: bytes that are read together, warps of its group


def block_of(row_bytes: int) -> tuple[int, int]:
    """Threads of a block, (of a row, rows)."""
    return (BLOCK, 1) if row_bytes > _NARROW else (WARP, BLOCK // WARP)


def fits(rows: int, width: int) -> bool:
    """Whether there are numbers, and not too many to a row, or rows, for kernels to count."""
    return 0 < rows < _MOST and 0 < width < _MOST


def group_of(row_bytes: int) -> tuple[int, int]:
    """Threads of a block, (of a row, rows), that hold rows in registers: as many as it takes, see columns.cuh."""

    def warps(packs: int) -> int:
        return -(-row_bytes // (_PACK * WARP * packs))

    # Three packs to a thread, or two where fewer places are left empty: with one, too little is on its way at a time.
    # (Numbers one by one are always as many to a thread as it can have.)
    ways = (3, 2) if row_bytes % _PACK == 0 else (3,)
    count = min(_MOST_WARPS, warps(min(ways, key=lambda packs: packs * warps(packs))))
    return (WARP * count, BLOCK // WARP if count == 1 else 1)


def launch(kernel: CudaKernel, x: Any, rows: int, width: int) -> Launch:
    """The launch of a kernel with a group for each row, on the device and of the dtype of x."""
    block = block_of(width * x.itemsize)
    return kernel.launch(devices.of(x), x.dtype, -(-rows // block[1]), block)
