"""The gradient of a linear layer of a GELU on CUDA: one product, where the GEMM library multiplies by the slope too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.ops.fused import FLOATS, in_two_steps, matmul_gelu_vjp
from ownt import gemm
from ownt.kernel import Out


@matmul_gelu_vjp.on("cuda", *FLOATS)
def _(g: Any, w: Any, x: Any, approximate: str, *, out: Out) -> tuple[Callable[..., None], tuple]:
    whole = gemm.bind(g, w, out.array, out.beta, "dgelu", None, x) if approximate == "tanh" else None
    return whole or in_two_steps(g, w, x, approximate, out=out)
