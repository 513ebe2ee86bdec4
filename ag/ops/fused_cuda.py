"""The gradient of a linear layer of a GELU on CUDA: one product, where the GEMM library multiplies by the slope too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag.ops.activation import GELU
from ag.ops.fused import FLOATS, in_two_steps, matmul_gelu_vjp
from ownt import gemm
from ownt.calls import in_order
from ownt.kernel import Out


@matmul_gelu_vjp.on("cuda", *FLOATS)
def _(g: Any, w: Any, x: Any, approximate: str, *, out: Out, hidden: Out | None) -> tuple[Callable[..., None], tuple]:
    whole = gemm.bind(g, w, out.array, out.beta, "dgelu", None, x) if approximate == "tanh" else None
    if whole is None:
        return in_two_steps(g, w, x, approximate, out=out, hidden=hidden)
    return in_order(GELU[approximate][0].bind(x, out=hidden), whole) if hidden else whole
