"""nll_loss on CUDA devices; kernels in nll.cu."""

from __future__ import annotations

from typing import Any

from ag.ops.nll import nll_kernel, nll_vjp
from ownt import cuda_indices
from ownt import device as devices
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__)
_forward = _source.kernel("nll_forward")
_backward = _source.kernel("nll_backward")

_BLOCK = 256


def _fits(targets: Any, *arrays: Any) -> bool:
    return cuda_indices.known(targets) and all(a is None or a.flags.c_contiguous for a in (targets, *arrays))


@nll_kernel.on("cuda", *_source.dtypes)
def _(x: Any, targets: Any, weight: Any, ignore: int, *, out: Out) -> Any:
    if not _fits(targets, x, weight, out.array):
        return None
    launch = _forward.launch(devices.of(x), x.dtype, -(-targets.size // _BLOCK), _BLOCK)
    return launch, (x, *cuda_indices.given(targets), weight, ignore, out.array, out.beta, targets.size, x.shape[-1])


@nll_vjp.on("cuda", *_source.dtypes)
def _(share: Any, targets: Any, weight: Any, ignore: int, *, out: Out) -> Any:
    if not _fits(targets, share, weight, out.array):
        return None
    launch = _backward.launch(devices.of(share), share.dtype, -(-targets.size // _BLOCK), _BLOCK)
    return launch, (share, *cuda_indices.given(targets), weight, ignore, out.array, targets.size, out.array.shape[-1])
