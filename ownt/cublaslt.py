"""cuBLASLt by ctypes: matrix products on CUDA that add into their destination, with epilogues.

CuPy has no binding to it, and refuses its own cuBLAS while a stream is captured. Here stream and workspace are said at
each launch, nothing is allocated or waited for, and so a launch can be captured in a graph.

cuBLASLt's matrices are stored by columns. Row-major out = a b is column-major outᵀ = bᵀ aᵀ: what it is told to be A is
our b, its B our a, its D our out; rows and columns trade places, leading dimensions stay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from ctypes import byref, c_double, c_float, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p, sizeof
from typing import Any, final

from ownt import cublaslt_api as api
from ownt import dtype as dtypes
from ownt.gemm import Matrix, NoAlgorithmError, Problem

WORKSPACE_BYTES = 32 << 20  # at most: what Hopper's best algorithms want; what the chosen one needs is taken

_TYPES = {
    dtypes.float32: api.CUDA_R_32F,
    dtypes.float64: api.CUDA_R_64F,
    dtypes.float16: api.CUDA_R_16F,
    dtypes.bfloat16: api.CUDA_R_16BF,
}
_EPILOGUES = {
    "": api.CUBLASLT_EPILOGUE_DEFAULT,
    "bias": api.CUBLASLT_EPILOGUE_BIAS,
    "gelu": api.CUBLASLT_EPILOGUE_GELU,
    "gelu_bias": api.CUBLASLT_EPILOGUE_GELU_BIAS,
    "gelu_aux": api.CUBLASLT_EPILOGUE_GELU_AUX,
    "gelu_aux_bias": api.CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
    "dgelu": api.CUBLASLT_EPILOGUE_DGELU,
    "dgelu_bgrad": api.CUBLASLT_EPILOGUE_DGELU_BGRAD,
    "bgrada": api.CUBLASLT_EPILOGUE_BGRADB,  # our a is its B
    "bgradb": api.CUBLASLT_EPILOGUE_BGRADA,
}
_SINGLE = byref(c_float(0)), byref(c_float(1))  # alpha and beta: in host memory, read before the launch returns
_DOUBLE = byref(c_double(0)), byref(c_double(1))


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@final
class CublasLt:
    """The library on one device, launching on one stream: what `device.gemm` is there.

    One handle serves all threads of a device: cuBLASLt keeps no stream and no workspace in it, but it belongs to the
    device that was current when it was made. The lock is for the addresses of biases, which cuBLASLt takes from a
    descriptor instead of with the call: putting one there and launching must not be parted by another thread.

    pointer: gives the address of an array's first element
    stream:  gives, at each launch, the address of the CUDA stream that it is for; 0 for the default one
    library: cuBLASLt as ownt.cublaslt_api.load gives it, or what stands in for it
    here:    here(function, *arguments) calls the function with the device current; it is to be current already here
    Raises: RuntimeError where there is no library, driver or device
    """

    def __init__(
        self,
        pointer: Callable[[Any], int],
        stream: Callable[[], int] = int,
        library: Any = None,
        here: Callable[..., Any] = _call,
    ) -> None:
        self.pointer = pointer
        self.stream = stream
        self.here = here
        self.library = api.load() if library is None else library
        self.lock = threading.Lock()
        self.handle = c_void_p()
        self.check("cublasLtCreate", byref(self.handle))
        self._products: dict[Problem, Product | NoAlgorithmError] = {}  # for good: about a kilobyte each

    def product(self, problem: Problem) -> Product:
        """What computes a problem; its algorithm is chosen once.

        Raises: ownt.gemm.NoAlgorithmError if cuBLASLt has none.
        """
        found = self._products.get(problem) or self._products.setdefault(problem, self._made(problem))
        if type(found) is Product:
            return found
        raise NoAlgorithmError(*found.args)

    def _made(self, problem: Problem) -> Product | NoAlgorithmError:
        try:
            return self.here(Product, self, problem)
        except NoAlgorithmError as error:
            return NoAlgorithmError(*error.args)  # without its traceback, which would hold a caller's arrays

    def check(self, name: str, *arguments: Any, problem: Problem | None = None) -> None:
        """Call a function. Raises: RuntimeError naming it, its status and the problem unless it succeeds."""
        status = getattr(self.library, name)(*arguments)
        if status:
            self.fail(name, status, problem)

    def fail(self, name: str, status: int, problem: Problem | None) -> None:
        """Raise the error for a status."""
        refused = name == _CHOOSE and status in _REFUSALS
        remedy = _NO_ALGORITHM if refused else _REMEDIES.get(name, _OTHERWISE)
        what = f" of {problem}" if problem else ""
        found = self.library.cublasLtGetStatusName(status).decode()
        error = NoAlgorithmError if refused else RuntimeError
        raise error(f"{name}{what}: expected CUBLAS_STATUS_SUCCESS; got {found} ({status}). {remedy}")

    def set(self, kind: str, thing: c_void_p, attribute: int, value: Any) -> None:
        """Set an attribute of a MatmulDesc, a MatrixLayout or a MatmulPreference."""
        self.check(f"cublasLt{kind}SetAttribute", thing, attribute, byref(value), sizeof(value))


_CHOOSE = "cublasLtMatmulAlgoGetHeuristic"
_REFUSALS = api.CUBLAS_STATUS_INVALID_VALUE, api.CUBLAS_STATUS_ARCH_MISMATCH, api.CUBLAS_STATUS_NOT_SUPPORTED
_NO_ALGORITHM = (
    "No algorithm on this device takes it: make the matrices contiguous and 16-byte aligned, widths multiples of 16 "
    "bytes, or leave out the epilogue"
)
_OTHERWISE = "Run with CUBLASLT_LOG_LEVEL=2 in the environment to hear why"
_REMEDIES = {"cublasLtCreate": "Look whether nvidia-smi lists a device, and whether its driver fits this CUDA version"}


@final
class Product:
    """A problem as cuBLASLt knows it: descriptor, layouts, algorithm. Calling it is one launch.

    workspace_bytes: what the algorithm needs, at most WORKSPACE_BYTES
    """

    def __init__(self, owner: CublasLt, problem: Problem) -> None:
        self.problem = problem
        self._owner = owner
        self._pointer = owner.pointer
        self._numbers = _DOUBLE if problem.out.dtype == dtypes.float64 else _SINGLE
        self.descriptor = self._described()
        self.a, self.b, self.d = (self._laid_out(x) for x in (problem.b, problem.a, problem.out))
        self.c = self.d if problem.added is None else self._laid_out(problem.added)
        found = self._chosen()
        self.workspace_bytes = found.workspaceSize
        self._algorithm = byref(found.algo)
        self._launch = owner.library.cublasLtMatmul

    def __call__(
        self, beta: int, a: Any, b: Any, out: Any, vector: Any, aux: Any, workspace: Any, added: Any = None
    ) -> None:
        """Launch it, for arrays as they were described; `vector` and `aux` are the epilogue's, None without."""
        owner, pointer = self._owner, self._pointer
        target = pointer(out)
        source = target if added is None else pointer(added)
        with owner.lock:
            if vector is not None:
                self._point(api.CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointer(vector))
            if aux is not None:
                self._point(api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pointer(aux))
            status = owner.here(
                self._launch, owner.handle, self.descriptor, self._numbers[1], pointer(b), self.a, pointer(a), self.b,
                self._numbers[beta], source, self.c, target, self.d, self._algorithm,
                None if workspace is None else pointer(workspace), self.workspace_bytes, c_void_p(owner.stream()),
            )  # fmt: skip
        if status:
            owner.fail("cublasLtMatmul", status, self.problem)

    def _point(self, attribute: int, address: int) -> None:
        self._owner.set("MatmulDesc", self.descriptor, attribute, c_void_p(address))

    def _described(self) -> c_void_p:
        """The operation: in which type to compute, what to transpose, the epilogue."""
        problem, owner, made = self.problem, self._owner, c_void_p()
        compute = api.CUBLAS_COMPUTE_32F_FAST_TF32 if problem.tf32 else api.CUBLAS_COMPUTE_32F
        types = (compute, api.CUDA_R_32F)
        if problem.out.dtype == dtypes.float64:
            types = (api.CUBLAS_COMPUTE_64F, api.CUDA_R_64F)
        owner.check("cublasLtMatmulDescCreate", byref(made), *types, problem=problem)
        values: dict[int, Any] = {
            api.CUBLASLT_MATMUL_DESC_TRANSA: c_int32(_operation(problem.b)),
            api.CUBLASLT_MATMUL_DESC_TRANSB: c_int32(_operation(problem.a)),
            api.CUBLASLT_MATMUL_DESC_EPILOGUE: c_uint32(_EPILOGUES[problem.epilogue]),
        }
        if problem.vector_aligned:  # while an algorithm is chosen, addresses only say how they are aligned
            values[api.CUBLASLT_MATMUL_DESC_BIAS_POINTER] = c_void_p(problem.vector_aligned)
        if problem.aux:
            values[api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER] = c_void_p(problem.aux.aligned)
            values[api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD] = c_int64(problem.aux.lead)
        for attribute, value in values.items():
            owner.set("MatmulDesc", made, attribute, value)
        return made

    def _laid_out(self, x: Matrix) -> c_void_p:
        """A matrix as it is stored: by columns, of which the rows of ours are one each."""
        owner, made = self._owner, c_void_p()
        shape = (x.rows, x.columns) if x.transposed else (x.columns, x.rows)
        arguments = byref(made), _TYPES[x.dtype], *shape, x.lead
        owner.check("cublasLtMatrixLayoutCreate", *arguments, problem=self.problem)
        if x.number > 1:
            owner.set("MatrixLayout", made, api.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, c_int32(x.number))
            owner.set("MatrixLayout", made, api.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, c_int64(x.stride))
        return made

    def preference(self) -> c_void_p:
        """What an algorithm may rely on: so much workspace, addresses so aligned; and how it may add up parts, by
        default in the output's type too, in which half precision has no sums.
        """
        problem, owner, made = self.problem, self._owner, c_void_p()
        owner.check("cublasLtMatmulPreferenceCreate", byref(made), problem=problem)
        limit = c_uint64(WORKSPACE_BYTES)
        owner.set("MatmulPreference", made, api.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, limit)
        half = problem.out.dtype in dtypes.HALF
        sums = api.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE if half else api.CUBLASLT_REDUCTION_SCHEME_MASK
        owner.set("MatmulPreference", made, api.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, c_uint32(sums))
        for attribute, x in (
            (api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, problem.b),
            (api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, problem.a),
            (api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, problem.added or problem.out),
            (api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, problem.out),
        ):
            owner.set("MatmulPreference", made, attribute, c_uint32(x.aligned))
        return made

    def _chosen(self) -> api.cublasLtMatmulHeuristicResult_t:
        """The algorithm that cuBLASLt thinks fastest. Raises: RuntimeError if it has none."""
        owner, preference = self._owner, self.preference()
        found, count = api.cublasLtMatmulHeuristicResult_t(), c_int()
        owner.check(
            _CHOOSE, owner.handle, self.descriptor, self.a, self.b, self.c, self.d, preference, 1, byref(found),
            byref(count), problem=self.problem,
        )  # fmt: skip
        owner.check("cublasLtMatmulPreferenceDestroy", preference)
        if not count.value or found.state:
            owner.fail(_CHOOSE, found.state or api.CUBLAS_STATUS_NOT_SUPPORTED, self.problem)
        return found


def _operation(x: Matrix) -> int:
    """Stored by rows, a matrix is its own transpose to a library of columns, which is what it wants of it."""
    return api.CUBLAS_OP_T if x.transposed else api.CUBLAS_OP_N
