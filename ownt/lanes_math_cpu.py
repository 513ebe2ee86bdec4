"""Functions of vectors in compiled kernels (ownt.lanes_cpu): of float32 by polynomials, of float64 number by number."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic, overload

from ownt.compiled_cpu import exp
from ownt.lanes_cpu import DOUBLES, FLOATS, I32, larger, llvm_call, smaller, spread

__all__ = ["exp", "log", "sqrt"]

_HALF_ROOT = 0x3F3504F3  # the bits of the square root of 1/2 in float32
_DIGITS = 23  # bits of a float32's fraction


def _function(name: str) -> Any:
    @intrinsic
    def function(context, x):
        return x(x), lambda context, builder, _, args: llvm_call(builder, f"{name}.{x.suffix}", x.llvm, list(args))

    return function


floor, sqrt = _function("floor"), _function("sqrt")
_exp_of_each, _log_of_each = _function("exp"), _function("log")


@intrinsic
def _constant(context, like, number):
    return like(like, types.float64), lambda context, builder, _, args: spread(
        builder, like, builder.fptrunc(args[1], like.llvm.element)
    )


@intrinsic
def _power_of_two(context, n):
    """2^n in float32, of whole numbers from -127 (where it is 0) to 128 (Inf)."""

    def generate(context, builder, signature, args):
        biased = builder.add(builder.fptosi(args[0], n.of(I32)), n.constant(I32, [127] * n.count))
        return builder.bitcast(builder.shl(biased, n.constant(I32, [23] * n.count)), n.llvm)

    return n(n), generate


@overload(exp, inline="never")
def _(x):
    if x == FLOATS:
        return _exp_of_floats
    return (lambda x: _exp_of_each(x)) if x == DOUBLES else None


def _exp_of_floats(x):
    """As exp of one number (ownt.compiled_cpu)."""
    y = smaller(larger(x, _constant(x, -88.0)), _constant(x, 89.0))
    n = floor(y * _constant(x, 1.44269504) + _constant(x, 0.5))
    r = (y - n * _constant(x, 0.693359375)) - n * _constant(x, -2.12194440e-4)
    p = _constant(x, 1.9875691500e-4)
    p = p * r + _constant(x, 1.3981999507e-3)
    p = p * r + _constant(x, 8.3334519073e-3)
    p = p * r + _constant(x, 4.1665795894e-2)
    p = p * r + _constant(x, 1.6666665459e-1)
    p = p * r + _constant(x, 5.0000001201e-1)
    return (p * r * r + r + _constant(x, 1.0)) * _power_of_two(n)


def log(x: Any) -> Any:
    """The natural logarithm, of float32 to 2e-7 of its value; NaN of NaN.

    For positive numbers that are neither denormal nor Inf: of others it gives numbers that mean nothing.
    """


@intrinsic
def _exponent(context, x):
    """e of x = m 2^e in float32, m from the root of 1/2 to that of 2."""

    def generate(context, builder, signature, args):
        return builder.sitofp(_exponent_bits(builder, x, args[0]), x.llvm)

    return x(x), generate


@intrinsic
def _mantissa(context, x):
    """m of x = m 2^e; see `_exponent`."""

    def generate(context, builder, signature, args):
        bits = builder.bitcast(args[0], x.of(I32))
        power = builder.shl(_exponent_bits(builder, x, args[0]), x.constant(I32, [_DIGITS] * x.count))
        return builder.bitcast(builder.sub(bits, power), x.llvm)

    return x(x), generate


def _exponent_bits(builder: Any, kind: Any, value: Any) -> Any:
    bits = builder.bitcast(value, kind.of(I32))
    above = builder.sub(bits, kind.constant(I32, [_HALF_ROOT] * kind.count))
    return builder.ashr(above, kind.constant(I32, [_DIGITS] * kind.count))


@overload(log, inline="never")
def _(x):
    if x == FLOATS:
        return _log_of_floats
    return (lambda x: _log_of_each(x)) if x == DOUBLES else None


def _log_of_floats(x):
    """log(1 + f) + e log 2, by a polynomial of f. Source: Moshier, Cephes, logf"""
    e, f = _exponent(x), _mantissa(x) - _constant(x, 1.0)
    p = _constant(x, 7.0376836292e-2)
    p = p * f - _constant(x, 1.1514610310e-1)
    p = p * f + _constant(x, 1.1676998740e-1)
    p = p * f - _constant(x, 1.2420140846e-1)
    p = p * f + _constant(x, 1.4249322787e-1)
    p = p * f - _constant(x, 1.6668057665e-1)
    p = p * f + _constant(x, 2.0000714765e-1)
    p = p * f - _constant(x, 2.4999993993e-1)
    p = p * f + _constant(x, 3.3333331174e-1)
    y = p * f * f * f - e * _constant(x, 2.12194440e-4) - _constant(x, 0.5) * f * f
    return smaller(x, f + y + e * _constant(x, 0.693359375))  # x itself is never smaller, but NaN stays
