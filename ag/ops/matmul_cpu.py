"""Matrix products on the CPU: SciPy's BLAS, split over the kernels' threads, adding into its destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy

from ag import kernels
from ag.ops.matmul import affine_kernel, matmul_kernel
from ownt import dtype as dtypes
from ownt import threads
from ownt.blas_cpu import NORMAL, TRANSPOSED, address, gemm, hold_blas, release_blas
from ownt.calls import Call, in_order
from ownt.compiled_cpu import SMALL, blocks, compiled, prange
from ownt.kernel import Out
from ownt.layout import stored

_SMALL = 1 << 18  # multiplications below which a second thread does not pay
_FEW = 4  # rows
_PARTS = threads.cores()  # that a large product is cut into, however many threads there are: BLAS rounds by its sizes
_GRAIN = 16  # rows or columns of which each thread's part is a multiple: BLAS works in tiles


@compiled(
    "void(int64, int64, int64, int64, int64, real[:, :], int64, real[:, :], int64, real[::1], int64, real[:, :], "
    "int64, int64)",
    parallel=True,
)
def product(flag_a, flag_b, m, n, k, a, lead_a, b, lead_b, bias, beta, out, lead_out, parts):
    """out = a b + bias + beta out, rows or columns shared out in `parts`; a bias of size 0 is none"""
    before = hold_blas()
    by_rows = m >= n
    count = m if by_rows else n
    for part in prange(parts):
        start = part * count // parts // _GRAIN * _GRAIN
        stop = count if part == parts - 1 else (part + 1) * count // parts // _GRAIN * _GRAIN
        first, last = (0, n) if by_rows else (start, stop)  # columns
        top, end = (start, stop) if by_rows else (0, m)
        if start < stop:
            if bias.size:
                some = bias[first:last]
                for i in range(top, end):
                    row = numba.carray(address(out, i * lead_out + first), (last - first,))  # in one run: vectorises
                    if beta:
                        for j in range(some.size):
                            row[j] += some[j]
                    else:
                        for j in range(some.size):
                            row[j] = some[j]
            gemm(
                flag_a, flag_b, end - top, last - first, k, 1.0,
                address(a, top * (lead_a if flag_a == NORMAL else 1)), lead_a,
                address(b, first * (1 if flag_b == NORMAL else lead_b)), lead_b,
                1.0 if bias.size else float(beta), address(out, top * lead_out + first), lead_out,
            )  # fmt: skip
    release_blas(before)


@compiled("void(real[:, ::1], real[:, ::1], real[::1], int64, real[:, ::1])", parallel=True)
def dots(x, w, bias, beta, out):
    """out = x wᵀ + bias + beta out, for few rows of x: BLAS would copy w, which is read only once."""
    count, width = w.shape
    for block in prange(blocks(count, _GRAIN)):
        for j in range(block * _GRAIN, min(count, (block + 1) * _GRAIN)):
            row = w[j]
            for i in range(x.shape[0]):
                given = x[i]
                total = x.dtype.type(0)
                for k in range(width):
                    total += given[k] * row[k]
                if bias.size:
                    total += bias[j]
                out[i, j] = total + (out[i, j] if beta else x.dtype.type(0))


def _layout(matrix: Any) -> tuple[int, int] | None:
    """How BLAS sees a matrix: (flag, elements from one row or column to the next); None if it cannot."""
    found = stored(matrix)
    return found and (TRANSPOSED if found[0] else NORMAL, found[1])


def _bound(a: Any, b: Any, bias: Any, out: Any, beta: int) -> tuple[Callable[..., None], tuple]:
    """The product of matrices, any strides. Shapes: a (M, K), b (K, N), bias (N,) or (0,), out (M, N)"""
    target, left, right = _layout(out), _layout(a), _layout(b)
    if target is None or left is None or right is None or not (out.size and a.shape[1]):
        return _plain, (a, b, bias, out, beta)
    if target[0] == TRANSPOSED:
        return _bound(b.T, a.T, bias, out.T, beta) if not bias.size else (_plain, (a, b, bias, out, beta))
    (m, k), n = a.shape, b.shape[1]
    parts = _PARTS if m * n * k > _SMALL else 1
    arguments = (left[0], right[0], m, n, k, a, left[1], b, right[1], bias, beta, out, target[1], parts)
    return product[out.dtype, parts > 1], arguments


def _plain(a: Any, b: Any, bias: Any, out: Any, beta: int) -> None:
    """NumPy's product: for stacks of matrices, and for what BLAS cannot take."""
    with threads.numpys_blas, numpy.errstate(all="ignore"):
        if beta or bias.size:
            value = numpy.matmul(a, b)
            value = value + bias if bias.size else value
            out[...] = out + value if beta else value
        else:
            numpy.matmul(a, b, out=out)


_NO_BIAS = {dtype: numpy.empty(0, dtype) for dtype in (dtypes.float32, dtypes.float64)}


@matmul_kernel.on("cpu", "float32", "float64")
def _(a: Any, b: Any, *, out: Out) -> tuple[Callable[..., None], tuple]:
    none = _NO_BIAS[out.array.dtype]
    if a.ndim == b.ndim == 2:
        return _bound(a, b, none, out.array, out.beta)
    return _plain, (a, b, none, out.array, out.beta)


@affine_kernel.on("cpu", "float32", "float64")
def _(x: Any, w: Any, b: Any, residual: Any = None, *, out: Out) -> Call | None:
    if b is not None and not b.flags.c_contiguous:
        return None
    if residual is not None:
        return in_order(affine_kernel.bind(x, w, b, out=out), kernels.copy.bind(residual, out=out.then_add()))
    y, bias = out.array, _NO_BIAS[out.array.dtype] if b is None else b
    if x.shape[0] <= _FEW and x.flags.c_contiguous and w.flags.c_contiguous and y.flags.c_contiguous:
        return dots[y.dtype, w.size > 4 * SMALL], (x, w, bias, out.beta, y)
    return _bound(x, w.T, bias, y, out.beta)
