"""Choosing elements on CUDA devices; kernels in select.cu."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ag.ops import select
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.cuda_elementwise import THREADS, blocks
from ownt.cuda_source import Source
from ownt.cuda_strided import layout, operands, strided
from ownt.kernel import Kernel, Out

_source = Source(__file__)
_clip = _source.kernel("clip")
_clip_vjp = _source.kernel("clip_vjp")
_where = _source.kernel("where")
_BYTES = {dtypes.bool_: 1, dtypes.get("uint8"): 1, dtypes.int64: 8}  # of masks that are not of the numbers' dtype

for _kernel in (select.maximum_kernel, select.minimum_kernel, select.larger_vjp):
    strided(_kernel, _source.kernel(_kernel.name))


@select.clip_kernel.on("cuda", *_source.dtypes)
def _(x: Any, low: float | None, high: float | None, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    found = layout(y, x)
    if found is None or x.dtype != y.dtype:
        return None
    launch = _clip.launch(devices.of(y), y.dtype, blocks(y), THREADS)
    return launch, (x, found.strides[1], *_bounds(low, high), y, found.strides[0], out.beta, found.sizes)


@select.clip_vjp.on("cuda", *_source.dtypes)
def _(g: Any, x: Any, low: float | None, high: float | None, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    found = layout(y, g, x)
    if found is None or not x.dtype == g.dtype == y.dtype:
        return None
    launch = _clip_vjp.launch(devices.of(y), y.dtype, blocks(y), THREADS)
    arrays = operands((g, x), found)
    return launch, (*arrays, *_bounds(low, high), y, found.strides[0], out.beta, found.sizes)


def _bounds(low: float | None, high: float | None) -> tuple[float, float]:
    return -math.inf if low is None else low, math.inf if high is None else high


@select.where_kernel.on("cuda", *_source.dtypes)
def where(mask: Any, a: Any, b: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    arrays = [x for x in (a, b) if devices.is_array(x)]
    found = layout(y, mask, *arrays)
    size = _BYTES.get(mask.dtype, 0)
    if found is None or not (size or mask.dtype == y.dtype) or any(x.dtype != y.dtype for x in arrays):
        return None
    given, mask_strides, *choices = operands((mask, a, b), found)
    number = next((x for x in (a, b) if not devices.is_array(x)), 0)
    launch = _where.launch(devices.of(y), y.dtype, blocks(y), THREADS)
    there = y, found.strides[0], out.beta, found.sizes
    return launch, (given, size, mask_strides, *choices, number, *there)


@select.chosen_vjp.on("cuda", *_source.dtypes)
def _(g: Any, mask: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    return where(mask, g, 0, out=out)


@select.rest_vjp.on("cuda", *_source.dtypes)
def _(g: Any, mask: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    return where(mask, 0, g, out=out)


def _triangle(kernel: Kernel, upper: bool) -> None:
    @kernel.on("cuda", *_source.dtypes)
    def bind(x: Any, diagonal: int, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
        y = out.array
        found = layout(y, x, in_order=True)
        if found is None or x.dtype != y.dtype:
            return None
        launch = _source.kernel("triangle").launch(devices.of(y), y.dtype, blocks(y), THREADS)
        border = *y.shape[-2:], diagonal, upper
        return launch, (x, found.strides[1], *border, y, found.strides[0], out.beta, found.sizes)


_triangle(select.tril_kernel, False)
_triangle(select.triu_kernel, True)
