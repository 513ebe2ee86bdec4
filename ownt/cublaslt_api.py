"""What of cuBLASLt's C interface is used: its constants and structures, and the library loaded by ctypes.

Names and numbers are those of NVIDIA's headers cublasLt.h, cublas_api.h and library_types.h; a test compares them with
the headers where those are installed.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any

CUDA_R_32F, CUDA_R_64F, CUDA_R_16F, CUDA_R_16BF = 0, 1, 2, 14
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 70, 77
CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_INVALID_VALUE = 0, 7
CUBLAS_STATUS_ARCH_MISMATCH, CUBLAS_STATUS_NOT_SUPPORTED = 8, 15

CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT = 5  # int32
CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET = 6  # int64

CUBLASLT_MATMUL_DESC_TRANSA = 3  # int32
CUBLASLT_MATMUL_DESC_TRANSB = 4  # int32
CUBLASLT_MATMUL_DESC_EPILOGUE = 7  # uint32
CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8  # of the gradient of a bias too
CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11
CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12  # int64

CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1  # uint64
CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3  # uint32
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5  # uint32, and so the next three
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8

CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2
CUBLASLT_REDUCTION_SCHEME_MASK = 7  # all

CUBLASLT_EPILOGUE_DEFAULT = 1
CUBLASLT_EPILOGUE_BIAS = 4
CUBLASLT_EPILOGUE_GELU = 32
CUBLASLT_EPILOGUE_GELU_BIAS = 36
CUBLASLT_EPILOGUE_GELU_AUX = 160
CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 164
CUBLASLT_EPILOGUE_DGELU = 192
CUBLASLT_EPILOGUE_DGELU_BGRAD = 208
CUBLASLT_EPILOGUE_BGRADA = 256
CUBLASLT_EPILOGUE_BGRADB = 512


class cublasLtMatmulAlgo_t(ctypes.Structure):
    """An algorithm, opaque."""

    _fields_ = (("data", c_uint64 * 8),)


class cublasLtMatmulHeuristicResult_t(ctypes.Structure):
    """An algorithm found, and the workspace that it needs, in bytes."""

    _fields_ = (
        ("algo", cublasLtMatmulAlgo_t),
        ("workspaceSize", c_size_t),
        ("state", c_int),
        ("wavesCount", c_float),
        ("reserved", c_int * 4),
    )


_MADE = POINTER(c_void_p)  # where a function puts what it makes
_SET = (c_void_p, c_int, c_void_p, c_size_t)
_GET = (*_SET, POINTER(c_size_t))
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_MADE,),
    "cublasLtMatmulDescCreate": (_MADE, c_int, c_int),
    "cublasLtMatmulDescSetAttribute": _SET,
    "cublasLtMatmulDescGetAttribute": _GET,
    "cublasLtMatrixLayoutCreate": (_MADE, c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": _SET,
    "cublasLtMatrixLayoutGetAttribute": _GET,
    "cublasLtMatmulPreferenceCreate": (_MADE,),
    "cublasLtMatmulPreferenceDestroy": (c_void_p,),
    "cublasLtMatmulPreferenceSetAttribute": _SET,
    "cublasLtMatmulPreferenceGetAttribute": _GET,
    "cublasLtMatmulAlgoGetHeuristic": (
        *(c_void_p,) * 7,
        c_int,
        POINTER(cublasLtMatmulHeuristicResult_t),
        POINTER(c_int),
    ),
    "cublasLtMatmul": (*(c_void_p,) * 14, c_size_t, c_void_p),
    "cublasLtGetStatusName": (c_int,),
}


def load() -> Any:
    """cuBLASLt, of CUDA 12 or 13: whichever `cuda.pathfinder` finds, as CuPy does.

    Raises: RuntimeError where there is none.
    """
    try:
        from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib
    except ImportError as error:
        raise RuntimeError(_missing("cuda-pathfinder, which comes with CuPy, is not installed")) from error
    try:
        library = ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (DynamicLibNotFoundError, OSError) as error:
        raise RuntimeError(_missing(str(error))) from error
    for name, arguments in PROTOTYPES.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = c_int
    library.cublasLtGetStatusName.restype = c_char_p
    return library


def _missing(why: str) -> str:
    return f'expected the library cublasLt for matrix products on CUDA; got: {why}. Install "ownt[cuda12]" or [cuda13]'
