"""dropout on CUDA devices, by the same bits as on the CPU; the kernel is in dropout.cu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.ops.dropout import dropout_kernel, kept
from ownt import device as devices
from ownt import random
from ownt.cuda_elementwise import THREADS, blocks
from ownt.cuda_source import Source
from ownt.cuda_strided import layout
from ownt.kernel import Out

_source = Source(__file__)
_dropout = _source.kernel("dropout")


@dropout_kernel.on("cuda", *_source.dtypes)
def _(x: Any, p: float, position: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    y = out.array
    found = layout(y, x, in_order=True)
    if found is None or x.dtype != y.dtype:
        return None
    device = devices.of(y)
    least, factor = kept(p)
    y_strides, x_strides = found.strides
    launch = _dropout.launch(device, y.dtype, blocks(y), THREADS)
    anchor = random.anchored(position, device)
    return launch, (x, x_strides, *anchor, least, factor, y, y_strides, out.beta, found.sizes)
