"""Functions of one number on CUDA devices; kernels in math.cu."""

from __future__ import annotations

from ag.ops import math
from ownt.cuda_elementwise import elementwise
from ownt.cuda_source import Source

_source = Source(__file__)
_tanh, _tanh_vjp = math.tanh.kernels

elementwise(_tanh, _source.kernel("tanh_forward"))
elementwise(_tanh_vjp, _source.kernel("tanh_vjp"))
