"""Elementwise kernels for CUDA devices on arrays that lie in any way: the binder of those that call `strided` of
strided.cuh.

```
# (const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out, Axes out_strides, int beta,
#  Axes sizes)
strided(mul_kernel, source.kernel("mul"))
```
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from ownt import device as devices
from ownt.cuda_elementwise import THREADS, blocks
from ownt.cuda_source import CudaKernel
from ownt.kernel import Kernel, Out

MOST = 4  # axes that Axes of strided.cuh has room for
_COUNT = 1 << 32  # numbers of arrays with more axes than one, at most
Sizes = tuple[int, ...]
Axis = tuple[int, Sizes]  # a size, and the strides of each array


class Layout(NamedTuple):
    """How the arrays of a launch lie, along as few axes as there can be.

    sizes:   of MOST axes, the first of which may be 1
    strides: of each array along these axes, in elements; 0 where it is broadcast
    """

    sizes: Sizes
    strides: tuple[Sizes, ...]


def strided(kernel: Kernel, code: CudaKernel) -> None:
    """Override a kernel by one in CUDA C++, for the dtypes of its source.

    Its parameters are each input with its strides, a number, and `real* out, Axes out_strides, int beta, Axes sizes`.
    The number stands for an input that is one. Other dtypes, and axes too many, are left to the reference.
    """

    @kernel.on("cuda", *code.source.dtypes)
    def bind(*inputs: Any, out: Out) -> Any:
        y = out.array
        arrays = [x for x in inputs if devices.is_array(x)]
        rest = [x for x in inputs if not devices.is_array(x)]
        found = layout(y, *arrays)
        fits = len(rest) < 2 and all(isinstance(x, (int, float)) for x in rest)
        if found is None or not fits or any(x.dtype != y.dtype for x in arrays):
            return None
        launch = code.launch(devices.of(y), y.dtype, blocks(y), THREADS)
        number = rest[0] if rest else 0
        return launch, (*operands(inputs, found), number, y, found.strides[0], out.beta, found.sizes)


def operands(inputs: tuple[Any, ...], found: Layout) -> list[Any]:
    """Each input, None for a number, and its strides: the layout is of the output and of the arrays among them."""
    strides = iter(found.strides[1:])
    given: list[Any] = []
    for x in inputs:
        given += (x, next(strides)) if devices.is_array(x) else (None, found.sizes)
    return given


def layout(y: Any, *arrays: Any, in_order: bool = False) -> Layout | None:
    """How arrays that are broadcast to the shape of `y` lie, its axes from the farthest apart to the nearest in memory;
    or, `in_order`, as they are counted. None where they need more than MOST.
    """
    return _layout(y.shape, in_order, tuple([(x.shape, x.strides, x.itemsize) for x in (y, *arrays)]))


@functools.lru_cache(1 << 12)
def _layout(shape: Sizes, in_order: bool, arrays: tuple[tuple[Sizes, Sizes, int], ...]) -> Layout | None:
    if any(stride % itemsize for _, strides, itemsize in arrays for stride in strides):
        return None
    axes = [
        (size, tuple([broadcast_stride(axis - len(shape), size, *array) for array in arrays]))
        for axis, size in enumerate(shape)
        if size != 1
    ]
    if not in_order:
        axes.sort(key=lambda axis: -abs(axis[1][0]))
    found = merged(axes)
    if len(found) > 1 and math.prod(shape) >= _COUNT:
        return None
    lies = along(found, len(arrays))
    return None if lies is None else Layout(lies[0], lies[1:])


def broadcast_stride(axis: int, size: int, shape: Sizes, strides: Sizes, itemsize: int) -> int:
    """Elements from one to the next along an axis, counted from the last, of `size`."""
    return 0 if -axis > len(shape) or shape[axis] != size else strides[axis] // itemsize


def merged(axes: list[Axis]) -> list[Axis]:
    """Axes, those as one that follow each other in all arrays."""
    found: list[Axis] = []
    for size, strides in axes:
        if found and all(outer == inner * size for outer, inner in zip(found[-1][1], strides, strict=True)):
            found[-1] = found[-1][0] * size, strides
        else:
            found.append((size, strides))
    return found


def along(axes: list[Axis], arrays: int = 1) -> tuple[Sizes, ...] | None:
    """Sizes, and the strides of each array, of MOST axes, the first of which may be 1; None for more axes."""
    if len(axes) > MOST:
        return None
    whole = [(1, (0,) * arrays)] * (MOST - len(axes)) + axes
    return tuple([size for size, _ in whole]), *zip(*[strides for _, strides in whole], strict=True)
