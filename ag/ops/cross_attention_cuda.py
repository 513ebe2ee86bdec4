"""Attention on CUDA, of queries to keys and values given apart: cuDNN's without a mask, else kernels of our own."""

from __future__ import annotations

from typing import Any

from ag.ops.attention_cuda import Heads, attend, attend_back
from ag.ops.cross_attention import attend_kernel, attend_vjp
from ownt.calls import Call, Calls
from ownt.cuda_source import FLOATS
from ownt.kernel import Out


@attend_kernel.on("cuda", *FLOATS)
def _(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float, *, out: Out, lse: Out) -> Call | None:
    if out.beta or not (q.shape[-1] and v.shape[-1]):
        return None
    calls = Calls(out.tensor)
    attend(calls, Heads(q, k, v, mask, causal, scale), out, lse)
    return calls.bound()


@attend_vjp.on("cuda", *FLOATS)
def _(
    g: Any, q: Any, k: Any, v: Any, mask: Any, y: Any, lse: Any, causal: bool, scale: float,
    *, dq: Out | None, dk: Out | None, dv: Out | None, dmask: Out | None,
) -> Call | None:  # fmt: skip
    if not (q.shape[-1] and v.shape[-1]):
        return None
    calls = Calls(next(out for out in (dq, dk, dv, dmask) if out is not None).tensor)
    attend_back(calls, Heads(q, k, v, mask, causal, scale), g, y, lse, dq=dq, dk=dk, dv=dv, dmask=dmask)
    return calls.bound()
