"""Activations on CUDA devices; kernels in activation.cu, called as ours are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.kernels_cuda import elementwise
from ag.ops import activation
from ownt.calls import in_order
from ownt.cuda_source import Source
from ownt.kernel import Out

_source = Source(__file__)
_KERNELS = (
    *activation.relu.kernels,
    *activation.sigmoid.kernels,
    *activation.silu.kernels,
    *activation.mish.kernels,
    activation.leaky_relu_kernel,
    activation.leaky_relu_vjp,
    activation.elu_kernel,
    activation.elu_vjp,
    activation.softplus_kernel,
    activation.softplus_vjp,
    activation.hardtanh_kernel,
    activation.hardtanh_vjp,
    activation.gelu_kernel,
    activation.gelu_vjp,
    activation.gelu_tanh_kernel,
    activation.gelu_tanh_vjp,
)

for _kernel in _KERNELS:
    elementwise(_kernel, _source.kernel(_kernel.name.removesuffix("_kernel")))


@activation.gelu_and_vjp.on("cuda", *_source.dtypes)
def _(g: Any, x: Any, approximate: str, *, out: Out, hidden: Out) -> tuple[Callable[..., None], tuple]:
    forward, backward = activation.GELU[approximate]
    return in_order(forward.bind(x, out=hidden), backward.bind(g, x, out=out))
