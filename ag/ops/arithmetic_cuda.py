"""Arithmetic on CUDA devices; kernels in arithmetic.cu."""

from __future__ import annotations

from ag.ops import arithmetic
from ownt.cuda_source import Source
from ownt.cuda_strided import strided

_source = Source(__file__)

strided(arithmetic.add_kernel, _source.kernel("add"))
strided(arithmetic.sub_kernel, _source.kernel("sub"))
strided(arithmetic.mul_kernel, _source.kernel("mul"))
strided(arithmetic.div_kernel, _source.kernel("divide"))
strided(arithmetic.div_vjp_divisor, _source.kernel("divide_vjp"))
strided(arithmetic.neg_kernel, _source.kernel("negate"))
strided(arithmetic.pow_kernel, _source.kernel("power"))
strided(arithmetic.pow_vjp_base, _source.kernel("power_vjp_base"))
strided(arithmetic.pow_vjp_exponent, _source.kernel("power_vjp_exponent"))
