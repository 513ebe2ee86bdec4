"""SciPy's BLAS from inside compiled kernels: matrices by their addresses and strides, on one thread."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding
import numba
import numpy
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic, overload

from ownt import threads

NORMAL, TRANSPOSED = ord("N"), ord("T")  # as BLAS calls them


@intrinsic
def address(context: Any, array: Any, offset: Any) -> Any:
    """A pointer to the element at `offset`, counted in elements from the first."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])

    return types.CPointer(array.dtype)(array, types.intp), generate


@intrinsic
def _reference(context: Any, value: Any) -> Any:
    """A pointer to a value, as Fortran takes its arguments."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return cgutils.alloca_once_value(builder, args[0])

    return types.CPointer(value)(value), generate


def _gemm(name: str, real: Any) -> Any:
    """SciPy's ?gemm: registered by name, because code that holds an address could not be cached."""
    llvmlite.binding.add_symbol(f"ownt_{name}", get_cython_function_address("scipy.linalg.cython_blas", name))
    flag, number, array = types.CPointer(types.int8), types.CPointer(types.int32), types.CPointer(real)
    arguments = (flag, flag, number, number, number, array, array, number, array, number, array, array, number)
    return types.ExternalFunction(f"ownt_{name}", types.void(*arguments))


_SGEMM, _DGEMM = _gemm("sgemm", types.float32), _gemm("dgemm", types.float64)


def gemm(
    flag_a: int, flag_b: int, m: int, n: int, k: int, alpha: float, a: Any, lead_a: int, b: Any, lead_b: int,
    beta: float, c: Any, lead_c: int,
) -> None:  # fmt: skip
    """c = alpha a b + beta c, row-major, a (m, k), b (k, n), on one thread; see `address`.

    flag: NORMAL, or TRANSPOSED for a matrix stored by columns; lead: elements from one row (column) to the next.
    """


@overload(gemm, inline="never")
def _(flag_a, flag_b, m, n, k, alpha, a, lead_a, b, lead_b, beta, c, lead_c):
    routine, real = (_SGEMM, numpy.float32) if c.dtype == types.float32 else (_DGEMM, numpy.float64)
    i8, i32 = numpy.int8, numpy.int32

    def call(flag_a, flag_b, m, n, k, alpha, a, lead_a, b, lead_b, beta, c, lead_c):
        routine(  # row-major c = a b is column-major cᵀ = bᵀ aᵀ
            _reference(i8(flag_b)), _reference(i8(flag_a)),
            _reference(i32(n)), _reference(i32(m)), _reference(i32(k)),
            _reference(real(alpha)), b, _reference(i32(lead_b)), a, _reference(i32(lead_a)),
            _reference(real(beta)), c, _reference(i32(lead_c)),
        )  # fmt: skip

    return call


def _symbol(name: str, function: Any) -> None:
    llvmlite.binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


_symbol("ownt_blas_get", threads.scipys_blas.c_function("get_num_threads"))
_symbol("ownt_blas_set", threads.scipys_blas.c_function("set_num_threads"))
_get_threads = types.ExternalFunction("ownt_blas_get", types.int32())
_set_threads = types.ExternalFunction("ownt_blas_set", types.void(types.int32))


@numba.njit
def hold_blas() -> int:
    """Hold SciPy's BLAS to one thread, in a kernel that calls `gemm`; what to give to `release_blas` at its end."""
    before = _get_threads()
    if before != 1:
        _set_threads(numpy.int32(1))
    return before


@numba.njit
def release_blas(before: int) -> None:
    """Give BLAS its threads back. Of kernels that overlap in time, the first gives back, the others found 1."""
    if before != 1:
        _set_threads(numpy.int32(before))
