"""What stands in for cuBLASLt where there is no GPU: the same C functions, computing on host memory with NumPy.

It knows nothing of the binding's ideas: only descriptors, layouts and attributes in bytes, and addresses. Matrices are
stored by columns. Given as `library` to ownt.cublaslt.CublasLt: `CublasLt(device.pointer, library=StandIn())`. Misuse
that cuBLASLt would refuse, or would not survive, is CUBLAS_STATUS_INVALID_VALUE or an AssertionError here.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_uint32, c_uint64, c_void_p
from itertools import count

import ml_dtypes
import numpy as np

from ownt import cublaslt_api as api

SUCCESS, INVALID, NOT_SUPPORTED = 0, 7, 15
NAMES = {0: b"CUBLAS_STATUS_SUCCESS", 7: b"CUBLAS_STATUS_INVALID_VALUE", 15: b"CUBLAS_STATUS_NOT_SUPPORTED"}
DTYPES = {
    api.CUDA_R_32F: np.dtype("float32"),
    api.CUDA_R_64F: np.dtype("float64"),
    api.CUDA_R_16F: np.dtype("float16"),
    api.CUDA_R_16BF: np.dtype(ml_dtypes.bfloat16),
}
COMPUTE = {  # the type that is computed in, by compute type and scale type
    (api.CUBLAS_COMPUTE_32F, api.CUDA_R_32F): np.dtype("float32"),
    (api.CUBLAS_COMPUTE_32F_FAST_TF32, api.CUDA_R_32F): np.dtype("float32"),
    (api.CUBLAS_COMPUTE_64F, api.CUDA_R_64F): np.dtype("float64"),
}
TYPES = {  # of attributes, by the kind of thing
    "MatmulDesc": {
        api.CUBLASLT_MATMUL_DESC_TRANSA: c_int32,
        api.CUBLASLT_MATMUL_DESC_TRANSB: c_int32,
        api.CUBLASLT_MATMUL_DESC_EPILOGUE: c_uint32,
        api.CUBLASLT_MATMUL_DESC_BIAS_POINTER: c_uint64,
        api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: c_uint64,
        api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: c_int64,
    },
    "MatrixLayout": {
        api.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: c_int32,
        api.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: c_int64,
    },
    "MatmulPreference": {
        api.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: c_uint64,
        api.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: c_uint32,
        api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: c_uint32,
        api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: c_uint32,
        api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: c_uint32,
        api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: c_uint32,
    },
}
AUX, BGRAD = 128, 16 | api.CUBLASLT_EPILOGUE_BGRADA | api.CUBLASLT_EPILOGUE_BGRADB  # bits of epilogues
GELU, DGELU, BIAS = api.CUBLASLT_EPILOGUE_GELU, 64, api.CUBLASLT_EPILOGUE_BIAS


class Thing(dict):
    """A descriptor, layout or preference: attributes, and what it was created with as `made`."""

    def __init__(self, kind, *made):
        super().__init__()
        self.kind, self.made = kind, made


class StandIn:
    """workspace_bytes: what each of its algorithms asks for, and fills; none: whether it finds no algorithms"""

    def __init__(self, workspace_bytes=96, none=False):
        self.workspace_bytes, self.none = workspace_bytes, none
        self.searches = self.launches = 0
        self._things, self._ids = {}, count(1)
        self._chosen = {}  # by the number in an algorithm: what it was chosen for, and the alignments relied on

    def __getattr__(self, name):
        """cublasLt<Kind>Create, Destroy, SetAttribute and GetAttribute of each kind of thing."""
        for kind in TYPES:
            if name.startswith(f"cublasLt{kind}"):
                action = getattr(self, "_" + name.removeprefix(f"cublasLt{kind}").lower())
                return lambda *arguments: action(kind, *arguments)
        raise AttributeError(name)

    def cublasLtCreate(self, handle):
        handle._obj.value = 1
        return SUCCESS

    def cublasLtGetStatusName(self, status):
        return NAMES[status]

    def _create(self, kind, made, *arguments):
        made._obj.value = next(self._ids)
        self._things[made._obj.value] = Thing(kind, *arguments)
        return SUCCESS

    def _destroy(self, kind, thing):
        assert self._things.pop(thing.value).kind == kind
        return SUCCESS

    def _setattribute(self, kind, thing, attribute, buffer, size):
        expected = TYPES[kind].get(attribute)
        if self._things[thing.value].kind != kind or expected is None or ctypes.sizeof(expected) != size:
            return INVALID
        self._things[thing.value][attribute] = expected.from_buffer_copy(buffer._obj).value
        return SUCCESS

    def _getattribute(self, kind, thing, attribute, buffer, size, written):
        expected = TYPES[kind].get(attribute)
        if self._things[thing.value].kind != kind or expected is None or ctypes.sizeof(expected) != size:
            return INVALID
        value = bytes(expected(self._things[thing.value].get(attribute, 0)))
        ctypes.memmove(buffer, value, size)
        written._obj.value = size
        return SUCCESS

    def _problem(self, descriptor, *layouts):
        """All that a choice of an algorithm depends on, but the addresses."""
        thing = self._things[descriptor.value]
        pointers = (api.CUBLASLT_MATMUL_DESC_BIAS_POINTER, api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER)
        fixed = sorted((key, value) for key, value in thing.items() if key not in pointers)
        matrices = [(self._things[x.value].made, sorted(self._things[x.value].items())) for x in layouts]
        addresses = [thing.get(pointer, 0) for pointer in pointers]
        return repr((thing.made, fixed, matrices)), addresses

    def cublasLtMatmulAlgoGetHeuristic(self, handle, descriptor, a, b, c, d, preference, requested, results, found):
        assert handle.value == 1 and requested == 1
        self.searches += 1
        if self.none:
            found._obj.value = 0
            return SUCCESS
        wanted = self._things[preference.value]
        assert wanted[api.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES] >= self.workspace_bytes
        sums = wanted.get(api.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 7)
        is_half = DTYPES[self._things[d.value].made[0]].itemsize == 2
        assert not is_half or sums == 2, "parts may be added up in half precision"
        aligned = [wanted.get(getattr(api, f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{name}_BYTES"), 256) for name in "ABCD"]
        problem, addresses = self._problem(descriptor, a, b, c, d)
        results._obj.algo.data[0] = number = next(self._ids)
        results._obj.workspaceSize = self.workspace_bytes
        self._chosen[number] = problem, aligned, [address & -address for address in addresses]
        found._obj.value = 1
        return SUCCESS

    def cublasLtMatmul(
        self, handle, descriptor, alpha, a, layout_a, b, layout_b, beta, c, layout_c, d, layout_d, algorithm,
        workspace, workspace_bytes, stream,
    ):  # fmt: skip
        self.launches += 1
        self._check_choice(algorithm._obj.data[0], (a, b, c, d), descriptor, layout_a, layout_b, layout_c, layout_d)
        assert handle.value == 1 and isinstance(stream, c_void_p) and (c == d) == (layout_c is layout_d)
        if workspace_bytes < self.workspace_bytes or (self.workspace_bytes and not workspace):
            return INVALID
        if self.workspace_bytes:
            ctypes.memset(workspace, 0xFF, self.workspace_bytes)
        thing = self._things[descriptor.value]
        wide = COMPUTE[thing.made]
        assert alpha._obj.value == 1 and alpha._obj._type_ == beta._obj._type_ == {4: "f", 8: "d"}[wide.itemsize]
        given = (a, layout_a), (b, layout_b), (c, layout_c), (d, layout_d)
        left, right, added, out = (self._matrices(*x) for x in given)
        if thing.get(api.CUBLASLT_MATMUL_DESC_TRANSA):
            left = [x.T for x in left]
        if thing.get(api.CUBLASLT_MATMUL_DESC_TRANSB):
            right = [x.T for x in right]
        if not len(left) == len(right) == len(out):
            return INVALID
        for x, y, before, target in zip(left, right, added, out):
            if x.shape[1] != y.shape[0] or not before.shape == target.shape == (x.shape[0], y.shape[1]):
                return INVALID
            self._multiply(thing, wide, x, y, before if beta._obj.value else None, target)
        return SUCCESS

    def _check_choice(self, number, addresses, *things):
        """An algorithm is for the problem it was chosen for, and relies on the alignments that it was promised."""
        problem, aligned, extras = self._chosen[number]
        found, pointers = self._problem(*things)
        assert found == problem, f"an algorithm for {problem} is used for {found}"
        for address, least in (*zip(addresses, aligned), *zip(pointers, extras)):
            assert not least or address % least == 0, f"address {address:#x} is not a multiple of {least}"

    def _matrices(self, address, layout):
        """The matrices of a stack, in the memory that they are said to lie in, and no more of it."""
        thing = self._things[layout.value]
        dtype, rows, columns, lead = thing.made
        assert rows > 0 and columns > 0 and lead >= rows
        size = DTYPES[dtype].itemsize
        stride = thing.get(api.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 0) * size
        assert stride >= 0  # of others nothing is said in cublasLt.h
        number = thing.get(api.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1)
        return [_view(address + i * stride, DTYPES[dtype], rows, columns, lead) for i in range(number)]

    def _multiply(self, thing, wide, x, y, added, target):
        tf32 = thing.made[0] == api.CUBLAS_COMPUTE_32F_FAST_TF32
        x, y = (_tf32(part.astype(wide)) if tf32 else part.astype(wide) for part in (x, y))
        value = x @ y
        if added is not None:
            value += added.astype(wide)
        epilogue = thing.get(api.CUBLASLT_MATMUL_DESC_EPILOGUE, 1)
        vector = aux = None
        if epilogue & (BIAS | BGRAD):
            length = target.shape[1] if epilogue == api.CUBLASLT_EPILOGUE_BGRADB else target.shape[0]
            address = thing[api.CUBLASLT_MATMUL_DESC_BIAS_POINTER]
            vector = _view(address, target.dtype, length, 1, length)[:, 0]
        if epilogue & AUX:
            lead = thing[api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD]
            assert lead % 8 == 0
            aux = _view(thing[api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER], target.dtype, *target.shape, lead)
        if epilogue & BIAS:
            value += vector.astype(wide)[:, None]
        if epilogue & GELU:
            if aux is not None:
                aux[...] = value
            value = _gelu(value)
        if epilogue & DGELU:
            value *= _gelu_slope(aux.astype(wide))
        if epilogue & BGRAD:
            sums = {api.CUBLASLT_EPILOGUE_BGRADA: x.sum(1), api.CUBLASLT_EPILOGUE_BGRADB: y.sum(0)}
            vector[...] = sums[epilogue] if epilogue in sums else value.sum(1)
        target[...] = value


def _view(address, dtype, rows, columns, lead):
    """A matrix stored by columns at an address."""
    assert address % dtype.itemsize == 0
    extent = ((columns - 1) * lead + rows) * dtype.itemsize
    memory = np.frombuffer((ctypes.c_char * extent).from_address(address), np.uint8)
    return np.ndarray((rows, columns), dtype, memory, strides=(dtype.itemsize, lead * dtype.itemsize))


def _tf32(x):
    """float32 with 10 bits of fraction, rounded to nearest."""
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def _inner(x):
    return np.sqrt(2 / np.pi).astype(x.dtype) * (x + x.dtype.type(0.044715) * x**3)


def _gelu(x):
    return x.dtype.type(0.5) * x * (1 + np.tanh(_inner(x)))


def _gelu_slope(x):
    tanh = np.tanh(_inner(x))
    slope = np.sqrt(2 / np.pi).astype(x.dtype) * (1 + 3 * x.dtype.type(0.044715) * x**2)
    return x.dtype.type(0.5) * (1 + tanh + x * (1 - tanh**2) * slope)
