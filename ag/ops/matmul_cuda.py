"""Matrix products on CUDA: by the device's GEMM library, adding into their destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag import kernels
from ag.ops.matmul import affine_kernel, matmul_kernel
from ownt import gemm
from ownt.kernel import Out

_DTYPES = "float32", "float64", "float16", "bfloat16"


@matmul_kernel.on("cuda", *_DTYPES)
def _(a: Any, b: Any, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    if not a.shape[-1]:  # sums of nothing
        return kernels.fill.bind(0.0, out=out)
    return gemm.bind(a, b, out.array, out.beta)


@affine_kernel.on("cuda", *_DTYPES)
def _(x: Any, w: Any, b: Any, residual: Any = None, *, out: Out) -> tuple[Callable[..., None], tuple] | None:
    if residual is not None and out.beta:
        return None
    beta = out.beta if residual is None else 1
    return gemm.bind(x, w.T, out.array, beta, "" if b is None else "bias", b, added=residual)
