"""Shared kernels on CUDA devices; kernels in kernels.cu. How sums are cut depends on shapes and strides alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ag import kernels
from ag.along_cuda import shared_out
from ownt import device as devices
from ownt import dtype as dtypes
from ownt import scratch
from ownt.calls import Call, Calls, in_order
from ownt.cuda_elementwise import THREADS, alike, blocks
from ownt.cuda_signature import FLOATS
from ownt.cuda_source import CudaKernel, Source
from ownt.cuda_strided import Axis, Sizes, along, layout, merged, strided
from ownt.kernel import Kernel, Out

_source = Source(__file__)
_cast = _source.kernel("cast")
_sum_rows = _source.kernel("sum_rows")
_sum_axes = _source.kernel("sum_axes")
_sum_parts = _source.kernel("sum_parts")

_WARP, _BLOCK = 32, THREADS
_BLOCKS = 1 << 10  # of all parts together, at most
_LEAST_ROWS = 4  # that a thread adds up, at least, where work is cut into parts
_MOST = 1 << 30  # rows, columns and blocks that are counted in ints
_COUNT = 1 << 32  # numbers along several axes, at most: see Place of strided.cuh
_STACKS = 65535  # blocks along the second and third axis of a grid, at most

strided(kernels.fill, _source.kernel("copy"))
strided(kernels.copy, _source.kernel("copy"))
strided(kernels.scale, _source.kernel("scale"))


def elementwise(kernel: Kernel, code: CudaKernel) -> None:
    """Override a kernel by one in CUDA C++ that calls `elementwise` of elementwise.cuh, for the dtypes of its source.

    Its parameters are the inputs, arrays first and then numbers, and `real* out, int beta, long long count`. Arrays
    that do not lie alike are copied into workspaces that do.
    """

    @kernel.on("cuda", *code.source.dtypes)
    def bind(*inputs: Any, out: Out) -> Call | None:
        y = out.array
        arrays = [x for x in inputs if devices.is_array(x)]
        if any(x.dtype != y.dtype for x in arrays) or not all(
            devices.is_array(x) or isinstance(x, (int, float)) for x in inputs
        ):
            return None
        if alike(y, *arrays):
            return code.launch(devices.of(y), y.dtype, blocks(y), THREADS), (*inputs, y, out.beta, y.size)
        calls = Calls(out.tensor)
        given = [in_line(calls, x, y.shape) if devices.is_array(x) else x for x in inputs]
        work = calls.workspace(y.shape)
        launch = code.launch(devices.of(y), y.dtype, blocks(y), THREADS)
        calls.add(launch, *given, work.array, 0, work.size)
        calls.launch(kernels.copy, work.array, out=out)
        return calls.bound()


def in_line(calls: Calls, x: Any, shape: tuple[int, ...]) -> Any:
    """x broadcast to a shape, in one run of bytes: itself, or a copy."""
    if x.shape == shape and x.flags.c_contiguous:
        return x
    line = calls.workspace(shape)
    calls.launch(kernels.copy, x, out=Out(line))
    return line.array


@kernels.cast_by.on("cuda", *_source.dtypes)
def _(x: Any, factor: Any, *, out: Out) -> Call | None:
    return _cast_by(x, factor, out) if factor.dtype == dtypes.wide(out.array.dtype) else None


@kernels.cast.on("cuda", *_source.dtypes)
def _(x: Any, *, out: Out) -> Call | None:
    return _cast_by(x, None, out)


def _cast_by(x: Any, factor: Any, out: Out) -> Call | None:
    y = out.array
    found = layout(y, x)
    if found is None or x.dtype.name not in FLOATS or not dtypes.is_float(y.dtype):
        return None
    launch = _cast.launch(devices.of(y), y.dtype, blocks(y), THREADS)
    strides, x_strides = found.strides
    return launch, (x, FLOATS.index(x.dtype.name), x_strides, factor, y, strides, out.beta, found.sizes)


class _Cut(NamedTuple):
    """How a sum is shared out among blocks, and what its kernel is told of x; the second axis of the grid is parts."""

    grid: tuple[int, ...]
    block: tuple[int, int]
    lies: tuple[Any, ...]
    sizes: tuple[Any, ...]


@kernels.sum_to.on("cuda", *_source.dtypes)
def _(x: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y, wide, device = out.array, dtypes.wide(x.dtype), devices.of(x)
    axes = _axes(x.shape, x.strides, x.itemsize, y.shape)
    if axes is None or not y.flags.c_contiguous or y.dtype not in (x.dtype, wide):
        return None
    of_rows = _are_rows(*axes)
    cut = _cut_rows(x, *axes) if of_rows else _cut_axes(*axes)
    if cut.grid[0] >= _MOST:
        return None
    parts = cut.grid[1]
    target = (y, None, out.beta) if y.dtype == x.dtype else (None, y, out.beta)
    work = scratch.workspace((parts, y.size), x, wide) if parts > 1 else None
    there = target if work is None else (None, work.array, 0)
    adding = (_sum_rows if of_rows else _sum_axes).launch(device, x.dtype, cut.grid, cut.block)
    arguments = (x, *cut.lies, *there, *cut.sizes)
    if work is None:
        return adding, arguments
    last = _sum_parts.launch(device, x.dtype, -(-y.size // _WARP), (_WARP, _WARP))
    return in_order((adding, arguments), (last, (work.array, *target, parts, y.size)))


@functools.lru_cache(1 << 12)
def _axes(shape: Sizes, strides: Sizes, itemsize: int, target: Sizes) -> tuple[list[Axis], list[Axis]] | None:
    """The axes of x that are kept, in their order, and those that are summed, in that of memory.

    None for too many, and for too many numbers along several that are kept or summed.
    """
    target = (1,) * (len(shape) - len(target)) + target
    if any(stride % itemsize for stride in strides):
        return None
    axes = [
        (size, (stride // itemsize,), size == left) for size, stride, left in zip(shape, strides, target, strict=True)
    ]
    kept = merged([(size, stride) for size, stride, stays in axes if stays and size != 1])
    summed = merged(sorted([(size, stride) for size, stride, stays in axes if not stays], key=lambda axis: -axis[1][0]))
    fits = all(along(axes) is not None and (len(axes) == 1 or _count(axes) < _COUNT) for axes in (kept, summed))
    return (kept, summed) if fits else None


def _count(axes: list[Axis]) -> int:
    return math.prod(size for size, _ in axes)


def _are_rows(kept: list[Axis], summed: list[Axis]) -> bool:
    """Whether rows are added up, whose columns lie side by side: of a matrix, or of each of a stack of them."""
    are = len(summed) == 1 and 0 < len(kept) < 3 and kept[-1][1] == (1,) and (len(kept) == 1 or kept[0][0] <= _STACKS)
    return are and summed[0][0] < _MOST and kept[-1][0] < _MOST


def _cut_rows(x: Any, kept: list[Axis], summed: list[Axis]) -> _Cut:
    width, ((rows, (row_stride,)),) = kept[-1][0], summed
    stacks, (stack_stride,) = kept[0] if len(kept) > 1 else (1, (0,))
    full = 16 // x.itemsize
    packs = not any(n % full for n in (width, row_stride, stack_stride)) and devices.of(x).pointer(x) % 16 == 0
    lanes = max(1, width // full if packs else width)
    across = min(_WARP, 1 << (lanes - 1).bit_length())
    down = min(_WARP, _BLOCK // across)
    tiles = -(-lanes // across)
    parts = max(1, min(_BLOCKS // max(tiles * stacks, 1), rows // (down * _LEAST_ROWS)))
    return _Cut((tiles, parts, stacks), (across, down), (stack_stride, row_stride), (rows, width, packs))


def _cut_axes(kept: list[Axis], summed: list[Axis]) -> _Cut:
    results, count = _count(kept), _count(summed)
    lies = (*along(kept), *along(summed))  # type: ignore[misc]
    return _Cut(*shared_out(results, count), lies, ())
