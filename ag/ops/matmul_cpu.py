"""Matrix products on the CPU through SciPy's BLAS, which adds into its destination without a temporary."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy
from scipy.linalg import cython_blas

from ag.ops.matmul import affine_kernel, matmul_kernel
from ownt import dtype as dtypes
from ownt import threads
from ownt.kernel import Out

_SMALL = 1 << 23  # multiplications below which a second thread does not pay: some 0.2 ms of work
_INT = ctypes.POINTER(ctypes.c_int)


def _routine(name: str, scalar: Any) -> Callable[..., None]:
    """The BLAS routine `name` as a C function, from SciPy's table for Cython."""
    capsule = cython_blas.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    number, address, flag = ctypes.POINTER(scalar), ctypes.c_void_p, ctypes.c_char_p
    prototype = ctypes.CFUNCTYPE(
        None, flag, flag, _INT, _INT, _INT, number, address, _INT, address, _INT, number, address, _INT
    )
    return prototype(get_pointer(capsule, get_name(capsule)))


_GEMM = {
    dtypes.float32: (_routine("sgemm", ctypes.c_float), ctypes.c_float),
    dtypes.float64: (_routine("dgemm", ctypes.c_double), ctypes.c_double),
}


def _layout(matrix: Any) -> tuple[bytes, int] | None:
    """How BLAS, which counts by columns, sees a matrix: (flag, leading dimension); None if it cannot."""
    count, width = matrix.shape
    down, across = (stride // matrix.itemsize for stride in matrix.strides)
    if (across == 1 or width == 1) and (down >= width or count == 1):
        return b"N", max(down if count > 1 else width, 1)
    if (down == 1 or count == 1) and (across >= count or width == 1):
        return b"T", max(across if width > 1 else count, 1)
    return None


def gemm(a: Any, b: Any, out: Any, beta: int) -> None:
    """out = a b + beta out. Shapes: a (M, K), b (K, N), out (M, N), any strides."""
    target = _layout(out)
    if target is None or not (out.size and a.shape[1]):
        _plain(a, b, out, beta)
    elif target[0] == b"T":
        gemm(b.T, a.T, out.T, beta)
    else:
        a, (flag_a, lead_a) = _ready(a)
        b, (flag_b, lead_b) = _ready(b)
        routine, scalar = _GEMM[out.dtype]
        (m, k), n, integer = a.shape, b.shape[1], ctypes.c_int
        with threads.scipys_blas if m * n * k < _SMALL else contextlib.nullcontext():
            routine(  # row-major out = a b is column-major outᵀ = bᵀ aᵀ
                flag_b, flag_a, integer(n), integer(m), integer(k), scalar(1),
                b.ctypes.data, integer(lead_b), a.ctypes.data, integer(lead_a),
                scalar(beta), out.ctypes.data, integer(target[1]),
            )  # fmt: skip


def _ready(matrix: Any) -> tuple[Any, tuple[bytes, int]]:
    """A matrix with a layout that BLAS knows; copied if it had none."""
    layout = _layout(matrix)
    if layout is None:
        matrix = numpy.ascontiguousarray(matrix)
        layout = b"N", max(matrix.shape[1], 1)
    return matrix, layout


def _plain(a: Any, b: Any, out: Any, beta: int) -> None:
    """NumPy's product: for stacks of matrices, and for what BLAS cannot take."""
    with threads.numpys_blas:
        if beta:
            numpy.add(out, numpy.matmul(a, b), out=out)
        else:
            numpy.matmul(a, b, out=out)


def _affine(x: Any, w: Any, b: Any, out: Any, beta: int) -> None:
    if b is None:
        gemm(x, w.T, out, beta)
        return
    if beta:
        numpy.add(out, b, out=out)
    else:
        out[...] = b
    gemm(x, w.T, out, 1)


@matmul_kernel.on("cpu", "float32", "float64")
def _(a: Any, b: Any, *, out: Out) -> tuple[Callable[..., None], tuple]:
    return (gemm if a.ndim == b.ndim == 2 else _plain), (a, b, out.array, out.beta)


@affine_kernel.on("cpu", "float32", "float64")
def _(x: Any, w: Any, b: Any, *, out: Out) -> tuple[Callable[..., None], tuple]:
    return _affine, (x, w, b, out.array, out.beta)
