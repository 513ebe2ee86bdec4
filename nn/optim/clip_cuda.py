"""Clipping on CUDA devices: one launch for all gradients of a dtype, and no wait for the norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nn.optim.clip import limit_kernel, limit_norm_kernel, norm_kernel, scale_kernel
from nn.optim.columns import columns
from nn.optim.table_cuda import THREADS, Table, table
from ownt import device as devices
from ownt import scratch
from ownt.calls import in_order
from ownt.cuda_source import CudaKernel, Source
from ownt.dtype import DType
from ownt.kernel import Kernel, Out

_source = Source(__file__)
_of_pieces = _source.kernel("norm_of_pieces")
_of_parts = _source.kernel("norm_of_parts")

_MOST = 1 << 15  # numbers of a piece: a search in the table and a reduction cost as much as reading some thousands
_JOINING = 1024  # threads of the one block that joins what pieces contribute


def _tables(grads: Sequence[Any]) -> dict[DType, Table] | None:
    """A table for each dtype; None unless all lie in one run of bytes each."""
    groups: dict[DType, list[Any]] = {}
    for grad in grads:
        groups.setdefault(grad.dtype, []).append(grad)
    made = {}
    for dtype, group in groups.items():
        found = columns(group)
        if found is None or dtype.name not in _source.dtypes:
            return None
        made[dtype] = table(devices.of(group[0]), found, _MOST)
    return made


@norm_kernel.on("cuda", "float64")
def _(grads: tuple[Any, ...], order: float, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    tables = _tables(grads)
    if tables is None or out.beta:
        return None
    place = devices.of(out.array)
    count = sum(made.pieces for made in tables.values())
    parts = scratch.workspace((count,), out.array)
    calls, first = [], 0
    for dtype, made in tables.items():
        launch = _of_pieces.launch(place, dtype, made.pieces, THREADS)
        calls.append((launch, (*made.arguments, order, parts.array[first:])))
        first += made.pieces
    join = _of_parts.launch(place, next(iter(tables), out.array.dtype), 1, _JOINING)
    return in_order(*calls, (join, (parts.array, count, order, out.array)))


def _of_all(kernel: Kernel, code: CudaKernel) -> None:
    """Override a kernel that changes each number of many arrays, given further arguments."""

    @kernel.on("cuda", *_source.dtypes)
    def bind(*arguments: Any, out: list[Out]) -> tuple[Callable[..., None], tuple] | None:
        tables = _tables([each.array for each in out])
        if tables is None:
            return None
        place = devices.of(out[0].array)
        return in_order(
            *(
                (code.launch(place, dtype, made.pieces, THREADS), (*made.arguments, *arguments))
                for dtype, made in tables.items()
            )
        )


_of_all(scale_kernel, _source.kernel("scale"))
_of_all(limit_kernel, _source.kernel("limit"))
_of_all(limit_norm_kernel, _source.kernel("limit_norm"))
