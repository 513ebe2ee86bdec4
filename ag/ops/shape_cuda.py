"""index on CUDA devices: what is indexed along its first axes is a table, of which rows are looked up as those of an
embedding; the kernel that finds which is in shape.cu."""

from __future__ import annotations

import math
from typing import Any

from ag.ops.embedding import embedding_kernel, embedding_vjp
from ag.ops.shape import index_kernel, index_vjp
from ownt import cuda_indices
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import Call, Calls
from ownt.cuda_elementwise import THREADS, blocks
from ownt.cuda_source import Source
from ownt.cuda_strided import layout
from ownt.kernel import Out
from ownt.tensor import Tensor

_source = Source(__file__)
_row_numbers = _source.kernel("row_numbers")
_MOST = 3  # arrays of indices that it takes


def _indices(key: tuple[Any, ...]) -> list[Any] | None:
    """The arrays in a key that has up to three of them for the first axes, and takes all of the others; else None."""
    parts = [part for part in key if part is not Ellipsis]
    arrays = [part for part in parts if devices.is_array(part) and cuda_indices.known(part)]
    rest = parts[len(arrays) :]
    first = all(part is array for part, array in zip(parts, arrays, strict=False))
    if not first or not 0 < len(arrays) <= _MOST or key[0] is Ellipsis or any(part != slice(None) for part in rest):
        return None
    return arrays


def _rows(calls: Calls, table: Any, key: tuple[Any, ...]) -> tuple[Tensor, int, int] | None:
    """A workspace for the number of each row that is meant; how many rows there are, and how wide they are."""
    found = _indices(key)
    if found is None or not table.flags.c_contiguous:
        return None
    sizes, width = table.shape[: len(found)], math.prod(table.shape[len(found) :])
    shape = devices.cpu.xp.broadcast_shapes(*[array.shape for array in found])
    numbers = calls.workspace(shape, dtypes.int64)
    lies = layout(numbers.array, *found, in_order=True)
    if lies is None or not width:
        return None
    given: list[Any] = []
    for array, strides, size in zip(found, lies.strides[1:], sizes, strict=True):
        given += (*cuda_indices.given(array), strides, size)
    for _ in range(_MOST - len(found)):
        given += (None, 0, lies.sizes, 0)
    launch = _row_numbers.launch(devices.of(table), table.dtype, blocks(numbers.array), THREADS)
    calls.add(launch, *given, numbers.array, lies.sizes)
    return numbers.view((numbers.size,)), math.prod(sizes), width


@index_kernel.on("cuda", *_source.dtypes)
def _(x: Any, key: tuple[Any, ...], *, out: Out) -> Call | None:
    calls = Calls(out.tensor)
    found = _rows(calls, x, key)
    if found is None or not out.array.flags.c_contiguous or x.dtype != out.array.dtype:
        return None
    numbers, rows, width = found
    calls.launch(embedding_kernel, numbers.array, x.reshape(rows, width), out=out.view((numbers.size, width)))
    return calls.bound()


@index_vjp.on("cuda", *_source.dtypes)
def _(g: Any, key: tuple[Any, ...], *, out: Out) -> Call | None:
    calls = Calls(out.tensor)
    found = _rows(calls, out.array, key)
    if found is None or not g.flags.c_contiguous or g.dtype != out.array.dtype:
        return None
    numbers, rows, width = found
    calls.launch(embedding_vjp, g.reshape(numbers.size, width), numbers.array, out=out.view((rows, width)))
    return calls.bound()
