"""Matrix products as libraries take them: matrices by rows, columns and leading dimension, stacks by their stride.

`bind` turns arrays into a launch. A device whose library this is has it as `device.gemm`, with one function:
`device.gemm.product(problem)`, cached, gives what computes it, a callable `product(beta, a, b, out, vector, aux,
workspace, added)` of arrays with the attribute `workspace_bytes`, or raises NoAlgorithmError; see ownt.cublaslt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ownt import capture, memory
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import in_order
from ownt.launch import nothing
from ownt.layout import stored

EPILOGUES = (  # what is done to the product before it is stored; `vector` is (N,) but for bgrada, `aux` (M, N)
    "",
    "bias",  # out = a b + beta out + vector; what is added may be another matrix than out
    "gelu",  # out = gelu(a b), by its tanh formula
    "gelu_bias",  # out = gelu(a b + vector)
    "gelu_aux",  # as gelu; aux = a b
    "gelu_aux_bias",  # as gelu_bias; aux = a b + vector
    "dgelu",  # out = a b gelu'(aux): the gradient of aux, for that of the GELU's result a b
    "dgelu_bgrad",  # as dgelu; vector = the sum of out's rows, which is written over, never added to
    "bgrada",  # vector = the sum of a (M, K) over K, (M,): of a bias, where a is gᵀ; written over likewise
    "bgradb",  # vector = the sum of b (K, N) over K, written over likewise
)
_OVERWRITES = ("gelu", "dgelu")  # begin those that would take beta out into the GELU
_PAIRS = {  # dtypes of a and b, and of out
    *((dtype, dtype) for dtype in (dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)),
    (dtypes.float16, dtypes.float32),
    (dtypes.bfloat16, dtypes.float32),
}
_AUX_GRAIN = 8  # elements of which aux's leading dimension is a multiple, says cublasLt.h
_LARGEST = 2**31 - 1  # rows, columns or matrices: cuBLASLt says that usually only those of an int32 are supported
_MOST_ALIGNED = 256  # bytes: what cuBLASLt assumes where nothing is said; more makes no difference
_tf32 = False


def allow_tf32(allowed: bool = True) -> None:
    """Whether float32 products may round what they multiply to TF32, 10 bits of fraction instead of 23: not, unless
    this says so, as in PyTorch. They run several times as fast on tensor cores. Sums stay float32.
    """
    global _tf32
    if allowed != _tf32:
        _tf32 = allowed
        capture.changed()  # launches recorded before are as they were


class NoAlgorithmError(RuntimeError):
    """The library cannot compute a problem on this device."""


class Matrix(NamedTuple):
    """A matrix, or a stack of them, where it lies.

    lead:       elements from one row to the next; from one column to the next of one that is stored by columns
    transposed: whether it is stored by columns
    number:     of matrices in the stack
    stride:     elements from one to the next; 0 for the same again and again
    aligned:    bytes of which its address is a multiple, a power of two
    """

    dtype: dtypes.DType
    rows: int
    columns: int
    lead: int
    transposed: bool
    number: int
    stride: int
    aligned: int

    def __str__(self) -> str:
        stack = f"{self.number} x " if self.number > 1 else ""
        apart = f", {self.stride} apart" if self.number > 1 else ""
        order = "columns" if self.transposed else "rows"
        place = f"{order} {self.lead} apart{apart}, {self.aligned}-byte aligned"
        return f"{stack}({self.rows}, {self.columns}) {self.dtype} ({place})"


class Problem(NamedTuple):
    """out = a b, and what an epilogue does to it: all that the choice of an algorithm depends on.

    Shapes: a (M, K), b (K, N), out (M, N), which is stored by rows
    epilogue:       one of EPILOGUES
    vector_aligned: as Matrix.aligned, of the epilogue's vector; 0 without
    aux:            the epilogue's; None without
    tf32:           see `allow_tf32`
    added:          what is added with beta 1, if that is another matrix than out
    """

    a: Matrix
    b: Matrix
    out: Matrix
    epilogue: str = ""
    vector_aligned: int = 0
    aux: Matrix | None = None
    tf32: bool = False
    added: Matrix | None = None

    def __str__(self) -> str:
        parts = [f"a {self.a}, b {self.b}, out {self.out}"]
        if self.epilogue:
            parts.append(f"epilogue {self.epilogue}")
        if self.vector_aligned:
            parts.append(f"its vector {self.vector_aligned}-byte aligned")
        if self.aux:
            parts.append(f"its aux {self.aux}")
        if self.added:
            parts.append(f"added to {self.added}")
        return ", ".join(parts) + (", TF32 allowed" if self.tf32 else "")


def bind(
    a: Any, b: Any, out: Any, beta: int = 0, epilogue: str = "", vector: Any = None, aux: Any = None, added: Any = None
) -> tuple[Callable[..., None], tuple] | None:
    """The launch of out = a b + beta out, or with an epilogue: a function and its arguments. `added`, a matrix like
    out, takes its place after beta.

    None for what the library does not take, which is left to a reference: other dtypes, strides that are neither of
    rows nor of columns, sums of nothing (K = 0), a GELU with beta 1, an epilogue for which it has no algorithm.
    Shapes: a (..., M, K), b (..., K, N) -> out (..., M, N), the stacks broadcast; with an epilogue, matrices
    Raises: NoAlgorithmError if the library has none for a product without an epilogue
    """
    if (a.dtype, out.dtype) not in _PAIRS or b.dtype != a.dtype or min(a.ndim, b.ndim, out.ndim) < 2:
        return None
    if epilogue and not _takes(epilogue, out, beta, vector, aux):
        return None
    if added is not None and (added.dtype != out.dtype or added.ndim > 2 or (stored(added) or (True,))[0]):
        return None
    if not out.size and "bgrad" not in epilogue:
        return nothing, ()
    if not (out.size and a.shape[-1]):
        return None
    try:
        return _bind_stack(a, b, out, beta, epilogue, vector, aux, added)
    except NoAlgorithmError:
        if epilogue or added is not None:
            return None
        raise


def _takes(epilogue: str, out: Any, beta: int, vector: Any, aux: Any) -> bool:
    """Whether the library can do what an epilogue says."""
    if out.ndim > 2 or (beta and epilogue.startswith(_OVERWRITES)):
        return False
    if vector is not None and (vector.dtype != out.dtype or not vector.flags.c_contiguous):
        return False
    if aux is None:
        return True
    by_columns, lead = stored(aux) or (True, 0)
    return aux.dtype == out.dtype and not by_columns and lead % _AUX_GRAIN == 0


def _bind_stack(
    a: Any, b: Any, out: Any, beta: int, epilogue: str = "", vector: Any = None, aux: Any = None, added: Any = None
) -> tuple[Callable[..., None], tuple] | None:
    steps = _steps(a, b, out)
    if steps is None:  # no one stride goes from each matrix to the next: one launch for each of the outermost axis
        each = [_bind_stack(_part(a, out, i), _part(b, out, i), out[i], beta) for i in range(len(out))]
        return in_order(*each) if None not in each else None  # type: ignore[arg-type]
    place: Any = devices.of(out)
    left, right, target = (_matrix(x, steps[0], step, place) for x, step in zip((a, b, out), steps[1:], strict=True))
    if left is None or right is None or target is None or max(*left[1:3], *right[1:3], left.number) > _LARGEST:
        return None
    if target.transposed:  # outᵀ = bᵀ aᵀ is stored by rows
        if epilogue or added is not None:
            return None
        return _bind_stack(_turned(b), _turned(a), _turned(out), beta)
    vector_aligned = 0 if vector is None else _aligned(vector, place)
    extra, other = (None if x is None else _matrix(x, 1, 0, place) for x in (aux, added))
    tf32 = _tf32 and left.dtype == dtypes.float32
    product = place.gemm.product(Problem(left, right, target, epilogue, vector_aligned, extra, tf32, other))
    workspace = None
    if product.workspace_bytes:
        workspace = memory.scratch(place).empty((product.workspace_bytes,), dtypes.uint8, "workspace").array
    return product, (beta, a, b, out, vector, aux, workspace, added)


def _steps(a: Any, b: Any, out: Any) -> tuple[int, int, int, int] | None:
    """(count, bytes from one matrix of the stack to the next in a, b and out); None without such numbers."""
    count, steps = 1, (0, 0, 0)
    for axis in range(out.ndim - 2, 0, -1):  # from the innermost
        size = out.shape[axis - 1]
        here = tuple(_step(x, axis - 1 - out.ndim) for x in (a, b, out))
        if size == 1:
            continue
        if min(here) < 0 or (count > 1 and here != tuple(count * step for step in steps)):
            return None
        steps = steps if count > 1 else here  # type: ignore[assignment]
        count *= size
    return count, *steps


def _step(x: Any, axis: int) -> int:
    """Bytes from one matrix to the next along an axis, counted from the last; 0 where it is broadcast."""
    return x.strides[axis] if x.ndim >= -axis and x.shape[axis] > 1 else 0


def _part(x: Any, out: Any, i: int) -> Any:
    """What belongs to out[i]."""
    return x if x.ndim < out.ndim else x[i if x.shape[0] > 1 else 0]


def _turned(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _matrix(x: Any, count: int, step: int, place: Any) -> Matrix | None:
    found = stored(x)
    if found is None:
        return None
    transposed, lead = found
    rows, columns = x.shape[-2:]
    return Matrix(x.dtype, rows, columns, lead, transposed, count, step // x.itemsize, _aligned(x, place))


def _aligned(x: Any, place: Any) -> int:
    address = place.pointer(x)
    return min(address & -address, _MOST_ALIGNED) or _MOST_ALIGNED
