"""Checks of indices on CUDA devices; the kernel is in ranges.cu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.ops.ranges import range_kernel
from ownt import cuda_indices
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.cuda_elementwise import THREADS
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__, ("float32",))  # of which it has none
_first_out_of_range = _source.kernel("first_out_of_range")
_BLOCKS = 1 << 10
_MOST = (1 << 31) - 1  # indices of which can be said where they are


@range_kernel.on("cuda", "int64")
def _(
    indices: Any, least: int, size: int, ignored: int | None, *, out: Out
) -> tuple[Callable[..., None], tuple] | None:
    if not (cuda_indices.known(indices) and indices.size < _MOST and indices.flags.c_contiguous):
        return None
    grid = min(_BLOCKS, -(-indices.size // THREADS))
    launch = _first_out_of_range.launch(devices.of(indices), dtypes.float32, grid, THREADS)
    bounds = least, size, ignored is not None, ignored or 0
    return launch, (*cuda_indices.given(indices), *bounds, out.array, indices.size)
