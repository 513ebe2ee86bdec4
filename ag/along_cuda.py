"""Results of all that lies along axes, on CUDA devices: how they are shared out among threads, and sums of functions
of several arrays. The other half is along.cuh."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from ag import kernels
from ownt import Tensor
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import Calls
from ownt.cuda_source import CudaKernel
from ownt.cuda_strided import Sizes, along, broadcast_stride, merged
from ownt.kernel import Out

_WARP, _BLOCK = 32, 256
_FEW = 1 << 10  # elements of which a warp makes a result; of more a block does
_BLOCKS = 1 << 10  # of all parts together, at most
_LEAST = 16  # elements for each thread, at least, where a result is made in parts
_RESULTS, _COUNT = 1 << 31, 1 << 32  # blocks of a grid, and elements of a result, are fewer


class Cut(NamedTuple):
    """How results are shared out.

    grid:    blocks, the second axis of which is parts
    block:   threads, the first axis of which is a group
    kept:    sizes of the axes of the results; `along`: of those along which lies what they are made of
    strides: of each array, along these and along those
    """

    grid: tuple[int, int]
    block: tuple[int, int]
    kept: Sizes
    along: Sizes
    strides: tuple[tuple[Sizes, Sizes], ...]

    @property
    def parts(self) -> int:
        return self.grid[1]

    @property
    def results(self) -> int:
        return math.prod(self.kept)


def cut(shape: Sizes, target: Sizes, *arrays: Any) -> Cut | None:
    """For results of shape `target`, 1 along the axes that are reduced, of arrays that are broadcast to `shape`.

    Results are counted in their order, and so is what lies along the axes. None where there are too many axes.
    """
    return _cut(shape, target, tuple([(x.shape, x.strides, x.itemsize) for x in arrays]))


@functools.lru_cache(1 << 12)
def _cut(shape: Sizes, target: Sizes, arrays: tuple[tuple[Sizes, Sizes, int], ...]) -> Cut | None:
    if any(stride % itemsize for _, strides, itemsize in arrays for stride in strides):
        return None
    target = (1,) * (len(shape) - len(target)) + target
    axes = [
        (size, tuple([broadcast_stride(axis - len(shape), size, *array) for array in arrays]))
        for axis, size in enumerate(shape)
    ]
    kept = merged([axis for axis, left in zip(axes, target, strict=True) if axis[0] == left != 1])
    reduced = merged([axis for axis, left in zip(axes, target, strict=True) if axis[0] != left])
    results, count = (math.prod(size for size, _ in part) for part in (kept, reduced))
    there, here = along(kept, len(arrays)), along(reduced, len(arrays))
    if there is None or here is None or results >= _RESULTS or count >= _COUNT:
        return None
    strides = tuple(zip(there[1:], here[1:], strict=True))
    return Cut(*shared_out(results, count), there[0], here[0], strides)


def shared_out(results: int, count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block, as in Cut, for results of `count` elements each."""
    if count <= _FEW:
        rows = _BLOCK // _WARP
        return (-(-results // rows), 1), (_WARP, rows)
    parts = max(1, min(_BLOCKS // max(results, 1), count // (_BLOCK * _LEAST)))
    return (results, parts), (_BLOCK, 1)


def sums(calls: Calls, code: CudaKernel, shape: Sizes, target: Sizes, *inputs: Any) -> Tensor | None:
    """A workspace, of shape `target` and in the dtype that is computed in, for the sums that a kernel makes.

    Its parameters are each input, `const real* x, Axes x_kept, Axes x_along`, numbers, and
    `Axes kept, Axes along, wide* out`; it calls `Group{kept, along}.sum`. An input may be None.
    """
    arrays = [x for x in inputs if devices.is_array(x)]
    numbers = [x for x in inputs if isinstance(x, (int, float))]
    found = cut(shape, target, *arrays)
    if found is None:
        return None
    x, strides = arrays[0], iter(found.strides)
    given: list[Any] = []
    for part in inputs:
        if not isinstance(part, (int, float)):
            given += (None, found.kept, found.along) if part is None else (part, *next(strides))
    parts = calls.workspace((found.parts, *target), dtypes.wide(x.dtype))
    launch = code.launch(devices.of(x), x.dtype, found.grid, found.block)
    calls.add(launch, *given, *numbers, found.kept, found.along, parts.array)
    if found.parts == 1:
        return parts.view(target)
    whole = calls.workspace(target, dtypes.wide(x.dtype))
    calls.launch(kernels.sum_to, parts.array, out=Out(whole.view((1, *target))))
    return whole
