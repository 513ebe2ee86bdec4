"""The binding to cuBLASLt without a GPU: constants against the headers, descriptors against the library, errors.

What needs a GPU, choosing an algorithm and multiplying, is done by the stand-in.
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from lt_stand_in import StandIn

from ownt import cublaslt, gemm
from ownt import cublaslt_api as api
from ownt import dtype as dtypes
from ownt.gemm import Matrix, Problem


def headers():
    """The text of the headers that name what is used, without comments."""
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="needs cuda-pathfinder, which comes with CuPy")
    folders = [pathfinder.find_nvidia_header_directory(library) for library in ("cublas", "cudart")]
    found = {}
    for name in ("cublasLt.h", "cublas_api.h", "library_types.h"):
        paths = [Path(folder) / name for folder in folders if folder and (Path(folder) / name).exists()]
        if not paths:
            pytest.skip(f"needs {name}: pip install nvidia-cublas nvidia-cuda-runtime")
        text = paths[0].read_text("utf-8", "replace")
        found[name] = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    return found


def library():
    try:
        return api.load()
    except RuntimeError as error:
        pytest.skip(f"needs cuBLASLt: {error}")


def constants():
    return {name: value for name, value in vars(api).items() if re.match(r"CUBLAS|CUDA_R", name)}


def enumerators(text):
    """name -> number of all in C enums; one may be made of those before it."""
    found = {}
    for body in re.findall(r"enum\s*\w*\s*\{(.*?)\}", text, flags=re.DOTALL):
        for name, value in re.findall(r"(\w+)\s*=\s*([^,]+)", body):
            try:
                found[name] = eval(value, {}, found)
            except (NameError, SyntaxError):
                continue  # of another library
    return found


def test_every_constant_is_that_of_the_headers():
    said = enumerators("\n".join(headers().values()))
    assert len(constants()) > 30
    assert constants() == {name: said.get(name) for name in constants()}


def test_structures_are_those_of_the_header():
    text = headers()["cublasLt.h"]
    assert re.search(r"struct \{\s*uint64_t data\[8\];\s*\} cublasLtMatmulAlgo_t;", text)
    body = re.search(r"struct \{([^{}]*)\} cublasLtMatmulHeuristicResult_t;", text)[1]
    declared = re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body)
    kinds = {"size_t": ctypes.c_size_t, "cublasStatus_t": ctypes.c_int, "float": ctypes.c_float, "int": ctypes.c_int}
    kinds["cublasLtMatmulAlgo_t"] = api.cublasLtMatmulAlgo_t
    expected = [(name, kinds[kind] * int(count) if count else kinds[kind]) for kind, name, count in declared]
    assert list(api.cublasLtMatmulHeuristicResult_t._fields_) == expected


def test_prototypes_have_as_many_arguments_as_in_the_header():
    text = headers()["cublasLt.h"]
    for name, arguments in api.PROTOTYPES.items():
        declared = re.search(rf"\b{name}\(([^)]*)\)", text)[1]
        assert len(declared.split(",")) == len(arguments), name


def test_types_of_attributes_are_those_of_the_library():
    """Which checks their sizes: what the stand-in expects is what cuBLASLt expects."""
    from lt_stand_in import TYPES

    lt = library()
    made = {"MatmulDesc": (68, 0), "MatrixLayout": (0, 4, 4, 4), "MatmulPreference": ()}
    for kind, types in TYPES.items():
        thing, written = ctypes.c_void_p(), ctypes.c_size_t()
        assert getattr(lt, f"cublasLt{kind}Create")(ctypes.byref(thing), *made[kind]) == 0
        for attribute, ctype in types.items():
            getter = getattr(lt, f"cublasLt{kind}GetAttribute")
            assert getter(thing, attribute, None, 0, ctypes.byref(written)) == 0
            assert written.value == ctypes.sizeof(ctype), (kind, attribute)


class Described(StandIn):
    """The library's own descriptors; only what needs a GPU is the stand-in's."""

    def __init__(self, lt):
        super().__init__()
        self.lt = lt

    def __getattr__(self, name):
        return getattr(self.__dict__["lt"], name)

    def cublasLtMatmulAlgoGetHeuristic(self, handle, descriptor, a, b, c, d, preference, *rest):
        self.preference = {
            attribute: read(self.lt, "MatmulPreference", preference, attribute, ctype)
            for attribute, ctype in PREFERENCES.items()
        }
        rest[2]._obj.value = 1
        return 0


PREFERENCES = {
    api.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: ctypes.c_uint64,
    api.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: ctypes.c_uint32,
    api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: ctypes.c_uint32,
    api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: ctypes.c_uint32,
    api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: ctypes.c_uint32,
    api.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: ctypes.c_uint32,
}
COMPUTE_TYPE, SCALE_TYPE = 0, 1  # CUBLASLT_MATMUL_DESC_...
TYPE, ROWS, COLUMNS, LEAD, COUNT, STRIDE = 0, 2, 3, 4, 5, 6  # CUBLASLT_MATRIX_LAYOUT_...


def read(lt, kind, thing, attribute, ctype):
    """An attribute, from the library itself."""
    value, written = ctype(), ctypes.c_size_t()
    arguments = thing, attribute, ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written)
    assert getattr(lt, f"cublasLt{kind}GetAttribute")(*arguments) == 0
    assert written.value == ctypes.sizeof(ctype)
    return value.value


def problem(dtype="bfloat16", target="bfloat16", **options):
    """A product with a number of its own in each place."""
    dtype, target = dtypes.get(dtype), dtypes.get(target)
    a = Matrix(dtype, 3, 40, 48, False, 5, 1000, 16)
    b = Matrix(dtype, 40, 24, 56, True, 5, 0, 32)
    return Problem(a, b, Matrix(target, 3, 24, 64, False, 5, 2000, 8), **options)


@pytest.mark.parametrize(
    ("dtype", "target", "tf32", "numbers"),
    [
        ("float32", "float32", False, (68, 0, 0, 0)),
        ("float32", "float32", True, (77, 0, 0, 0)),
        ("float64", "float64", False, (70, 1, 1, 1)),
        ("float16", "float16", False, (68, 0, 2, 2)),
        ("float16", "float32", False, (68, 0, 2, 0)),
        ("bfloat16", "bfloat16", False, (68, 0, 14, 14)),
        ("bfloat16", "float32", False, (68, 0, 14, 0)),
    ],
)
def test_the_library_reads_back_what_a_problem_says(dtype, target, tf32, numbers):
    lt = library()
    described = Described(lt)
    options = {
        "epilogue": "gelu_aux_bias",
        "vector_aligned": 4,
        "aux": Matrix(dtypes.get(target), 3, 24, 72, False, 1, 0, 128),
        "tf32": tf32,
    }
    product = cublaslt.CublasLt(id, library=described).product(problem(dtype, target, **options))
    compute, scale, input_type, output_type = numbers
    expected = {
        COMPUTE_TYPE: compute,
        SCALE_TYPE: scale,
        api.CUBLASLT_MATMUL_DESC_TRANSA: api.CUBLAS_OP_T,  # our b, stored by columns
        api.CUBLASLT_MATMUL_DESC_TRANSB: api.CUBLAS_OP_N,
        api.CUBLASLT_MATMUL_DESC_EPILOGUE: api.CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
    }
    found = {key: read(lt, "MatmulDesc", product.descriptor, key, ctypes.c_int32) for key in expected}
    assert found == expected
    for attribute, value in (
        (api.CUBLASLT_MATMUL_DESC_BIAS_POINTER, 4),
        (api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, 128),
        (api.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 72),
    ):
        assert read(lt, "MatmulDesc", product.descriptor, attribute, ctypes.c_uint64) == value
    kinds = {TYPE: ctypes.c_uint32, COUNT: ctypes.c_int32}
    for layout, values in (
        (product.a, (input_type, 40, 24, 56, 5, 0)),
        (product.b, (input_type, 40, 3, 48, 5, 1000)),
        (product.d, (output_type, 24, 3, 64, 5, 2000)),
    ):
        attributes = (TYPE, ROWS, COLUMNS, LEAD, COUNT, STRIDE)
        got = [read(lt, "MatrixLayout", layout, key, kinds.get(key, ctypes.c_int64)) for key in attributes]
        assert tuple(got) == values
    sums = 2 if target in ("float16", "bfloat16") else 7  # of half precision only in the type that is computed in
    assert tuple(described.preference.values()) == (cublaslt.WORKSPACE_BYTES, sums, 32, 16, 8, 8)


@pytest.mark.parametrize("epilogue", gemm.EPILOGUES)
def test_the_library_takes_every_epilogue(epilogue):
    lt = library()
    aux = (
        {"aux": Matrix(dtypes.bfloat16, 3, 24, 24, False, 1, 0, 16)} if "aux" in epilogue or "dgelu" in epilogue else {}
    )
    product = cublaslt.CublasLt(id, library=Described(lt)).product(problem(epilogue=epilogue, **aux))
    attribute = api.CUBLASLT_MATMUL_DESC_EPILOGUE
    turned = {"bgrada": "BGRADB", "bgradb": "BGRADA", "": "DEFAULT"}.get(epilogue, epilogue.upper())
    assert read(lt, "MatmulDesc", product.descriptor, attribute, ctypes.c_int32) == getattr(
        api, f"CUBLASLT_EPILOGUE_{turned}"
    )


def test_no_device_is_an_error_with_a_remedy():
    lt = library()
    if lt.cublasLtCreate(ctypes.byref(ctypes.c_void_p())) == 0:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"cublasLtCreate: .*CUBLAS_STATUS_NOT_INITIALIZED \(1\).*nvidia-smi"):
        cublaslt.CublasLt(id)


def test_a_missing_library_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(RuntimeError, match=r'cublasLt for matrix products.*Install "ownt\[cuda12\]"'):
        api.load()


def test_no_algorithm_is_an_error_that_describes_the_problem():
    stand_in = StandIn(none=True)
    lt = cublaslt.CublasLt(id, library=stand_in)
    for _ in range(2):  # but it is searched for once
        with pytest.raises(gemm.NoAlgorithmError) as error:
            lt.product(problem(epilogue="bias", vector_aligned=2, tf32=True))
    assert stand_in.searches == 1
    for part in (
        "cublasLtMatmulAlgoGetHeuristic of a 5 x (3, 40) bfloat16 (rows 48 apart, 1000 apart, 16-byte aligned)",
        "b 5 x (40, 24) bfloat16 (columns 56 apart",
        "epilogue bias",
        "2-byte aligned",
        "TF32",
        "CUBLAS_STATUS_NOT_SUPPORTED (15)",
        "make the matrices contiguous",
    ):
        assert part in str(error.value)


def test_a_launch_that_fails_says_for_which_problem(monkeypatch):
    lt = cublaslt.CublasLt(lambda x: x.ctypes.data, library=StandIn(0))
    x, y = np.zeros((4, 4), "float32"), np.zeros((4, 4), "float32")
    square = Matrix(dtypes.float32, 4, 4, 4, False, 1, 0, 4)
    product = lt.product(Problem(square, square, square))
    monkeypatch.setattr(product, "_launch", lambda *_: 7)
    with pytest.raises(RuntimeError, match=r"cublasLtMatmul of a \(4, 4\) float32.*CUBLAS_STATUS_INVALID_VALUE \(7\)"):
        product(0, x, x, y, None, None, None)


def test_threads_do_not_mix_up_their_biases():
    """The address of a bias is in a descriptor that all share."""
    stand_in = StandIn(0)
    lt = cublaslt.CublasLt(lambda x: x.ctypes.data, library=stand_in)
    x = np.zeros((2, 2), "float32")
    square = Matrix(dtypes.float32, 2, 2, 2, False, 1, 0, 4)
    product = lt.product(Problem(square, square, square, "bias", 4))
    wrong = []

    def work(number):
        bias, out = np.full(2, number, "float32"), np.empty((2, 2), "float32")
        for _ in range(200):
            product(0, x, x, out, bias, None, None)
            wrong.extend(out[out != number])

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert not wrong and stand_in.launches == 800
