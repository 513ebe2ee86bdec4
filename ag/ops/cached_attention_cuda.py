"""Attention with kept keys and values on CUDA; kernels in cached_attention.cu."""

from __future__ import annotations

from typing import Any

from ag.ops.attention import cached_attention_kernel
from ownt import device as devices
from ownt.calls import Call, in_order
from ownt.cuda_source import FLOATS, Source
from ownt.kernel import Out

_source = Source(__file__)
_keep, _attend = _source.kernel("cached_attention_keep"), _source.kernel("cached_attention")

_THREADS = 256
_WIDEST = 256  # columns of a head, as in cached_attention.cu
_MOST = (1 << 16) - 1  # blocks along the second axis of a grid


@cached_attention_kernel.on("cuda", *FLOATS)
def _(qkv: Any, start: Any, *, out: Out, keys: Out, values: Out) -> Call | None:
    arrays = qkv, out.array, keys.array, values.array
    b, heads, room, depth = keys.array.shape
    fits = 0 < depth <= _WIDEST and b * heads <= _MOST
    if out.beta or not fits or start.dtype != "int64" or not all(array.flags.c_contiguous for array in arrays):
        return None
    device, count = devices.of(qkv), qkv.shape[1]
    size = b * count * heads * depth
    keep = _keep.launch(device, qkv.dtype, -(-size // _THREADS), _THREADS)
    attend = _attend.launch(device, qkv.dtype, (count, b * heads), _THREADS)
    kept = keys.array, values.array
    return in_order(
        (keep, (qkv, start, *kept, size, count, heads, room, depth)),
        (attend, (qkv, start, *kept, out.array, count, heads, room, depth, depth**-0.5)),
    )
