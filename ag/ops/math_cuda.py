"""Functions of one number on CUDA devices; kernels in math.cu, called <op>_forward and <op>_vjp."""

from __future__ import annotations

from ag.kernels_cuda import elementwise
from ag.op import Op
from ag.ops import math
from ownt.cuda_source import Source

_source = Source(__file__)

for _op in [value for value in vars(math).values() if isinstance(value, Op)]:
    _forward, _vjp = _op.kernels
    elementwise(_forward, _source.kernel(f"{_op.name}_forward"))
    elementwise(_vjp, _source.kernel(f"{_op.name}_vjp"))
