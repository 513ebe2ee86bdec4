"""CUDA sources as the launcher sees them: what is declared is what is taken."""

from __future__ import annotations

import numpy as np
import pytest
from compile_for_cpu import missing
from simulated import simulated

import ownt
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import in_order
from ownt.cuda_signature import signatures
from ownt.cuda_source import FLOATS, Source, compile_with_cupy, options

executes = pytest.mark.skipif(bool(missing()), reason=missing())
SCALE = """
#include "common.cuh"
extern "C" __global__ void __launch_bounds__(64)
scale(const real* x, const int* shifts, wide factor, real* out, bool twice, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = narrow<real>(widen(x[i]) * factor * (twice ? 2 : 1) + (shifts ? shifts[i] : 0));
}
"""


def source(tmp_path, text=SCALE, name="scale.cu"):
    path = tmp_path / name
    path.write_text(text)
    return Source(path)


def array(values, dtype):
    return simulated.from_host(np.asarray(values, dtypes.get(dtype)))


def test_parameters_are_read_from_the_text():
    found = signatures(SCALE)["scale"]
    assert found.threads == 64
    assert [str(parameter) for parameter in found.parameters] == [
        "const real*",
        "const int*",
        "wide",
        "real*",
        "bool",
        "int",
    ]
    assert [parameter.name for parameter in found.parameters][-2:] == ["twice", "count"]


@pytest.mark.parametrize(
    "text",
    [
        "__global__ void f(int n) {}",
        'extern "C" __global__ void f(int n) {} extern "C" __global__ void f(int m) {}',
        'extern "C" __global__ void f(size_t n) {}',
        'extern "C" __global__ void f(real** x) {}',
    ],
)
def test_a_kernel_that_is_declared_otherwise_is_an_error(text):
    with pytest.raises(ValueError, match="expected"):
        signatures(text, "f.cu")


def test_what_a_comment_says_is_no_kernel():
    assert signatures('// extern "C" __global__ void f(int n) {}\n/* __global__ */') == {}


def test_headers_are_part_of_the_text_once_and_lines_keep_their_places(tmp_path):
    made = source(tmp_path, SCALE + '#include "reduce.cuh"\nint last;\n')
    assert made.text.count("struct Sum {") == 1
    assert made.lines[-1] == (made.path, len(SCALE.splitlines()) + 2, "int last;")
    assert '#include "' not in made.text
    with pytest.raises(FileNotFoundError, match=r"lost\.cuh"):
        _ = source(tmp_path, '#include "lost.cuh"\n', "lost.cu").text


def test_an_unknown_kernel_is_an_error_that_names_those_there_are(tmp_path):
    with pytest.raises(KeyError, match="expected one of scale"):
        source(tmp_path).kernel("skale")


def test_each_dtype_has_options_of_its_own():
    assert len({options(dtype) for dtype in FLOATS}) == 4
    assert "-Dreal=__nv_bfloat16" in options("bfloat16", "sm_90a")


@executes
@pytest.mark.parametrize("dtype", FLOATS)
def test_arguments_are_converted(tmp_path, dtype):
    x, shifts, out = array([1, 2, 3], dtype), array([1, 0, 5], "int32"), array([0, 0, 0], dtype)
    launch = source(tmp_path).kernel("scale").launch(simulated, x.dtype, 1, 32)
    launch(x, shifts, 3, out, True, 3)
    assert out.tolist() == [7, 12, 23]
    launch(x, None, 0.5, out, False, 2)
    assert out.tolist() == [0.5, 1, 23]


@executes
def test_a_grid_of_no_blocks_launches_nothing(tmp_path):
    out = array([1.0], "float32")
    source(tmp_path).kernel("scale").launch(simulated, out.dtype, 0, 32)(out, None, 3, out, True, 1)
    assert out.tolist() == [1]


@executes
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({0: "float64"}, r"expected an array of float32 on simulated, or None, for const real\* x; got .* float64"),
        ({1: "int64"}, r"expected an array of int32 .* shifts"),
        ({2: "float32"}, "expected a number, float32, for wide factor"),
        ({5: 2**40}, "expected a number, int32, for int count"),
        ({0: 3.0}, r"x; got 3\.0"),
        ({0: np.zeros(3, np.float32)}, "on simulated"),
        ({6: 1}, "expected 6 arguments, x, shifts, factor, out, twice, count; got 7"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, change, match):
    given = [array([1, 2, 3], "float32"), None, 2.0, array([0, 0, 0], "float32"), False, 3]
    for place, value in change.items():
        given[place : place + 1] = [array([1, 2, 3], value) if isinstance(value, str) else value]
    with pytest.raises(TypeError, match=match):
        source(tmp_path).kernel("scale").launch(simulated, dtypes.float32, 1, 32)(*given)


@executes
def test_what_does_not_compile_says_where(tmp_path):
    made = source(tmp_path, SCALE.replace("factor *", "faktor *"))
    with pytest.raises(RuntimeError, match=r"(?s)scale\.cu.*faktor"):
        made.kernel("scale").launch(simulated, dtypes.float32, 1, 1)(*[None] * 2, 1.0, None, False, 0)


@pytest.fixture
def modules(monkeypatch):
    """What CuPy would be asked for, with no GPU: (code, options), then what is launched and granted.

    Kernels have 128 bytes of shared memory of their own.
    """
    cupy = pytest.importorskip("cupy")
    calls = []

    class Function:
        ptr = 7

        def __call__(self, *call):
            calls.append(call)

    class Module:
        def __init__(self, *, code, options):
            calls.append((code, options))
            self.module = self

        def get_function(self, name):
            return Function()

    monkeypatch.setattr(cupy, "RawModule", Module)
    monkeypatch.setattr(cupy.cuda.driver, "funcSetAttribute", lambda *call: calls.append(call))
    return calls


def test_cupy_compiles_once_and_launches_on_the_stream(tmp_path, modules):
    made = source(tmp_path)
    run = compile_with_cupy(made, dtypes.float16, "sm_90a", lambda: "stream")("scale")
    run((3,), (64,), 0, [1, 2])
    run((3,), (64,), 48 << 10, [1, 2])  # too much beside a source's own arrays, unless granted
    run((3, 2), (64,), 60_000, [1])
    run((3, 2), (64,), 60_000, [1])
    assert modules == [
        (made.text, ("-std=c++17", "-Dreal=__half", "-arch=sm_90a")),
        ((3,), (64,), [1, 2], 0, "stream"),
        (7, 8, 48 << 10),  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        ((3,), (64,), [1, 2], 48 << 10, "stream"),
        (7, 8, 60_000),
        ((3, 2), (64,), [1], 60_000, "stream"),
        ((3, 2), (64,), [1], 60_000, "stream"),
    ]


def test_launches_of_one_binder_run_in_order():
    seen = []
    function, arguments = in_order((seen.append, (1,)), (seen.append, (2,)))
    function(*arguments)
    assert seen == [1, 2]


def test_the_simulated_device_is_a_device():
    with ownt.device.use(simulated):
        x = ownt.ones((2, 3))
    assert x.device == "simulated"
    assert devices.of(x.array) is simulated
    np.testing.assert_array_equal(x.to("cpu").numpy(), np.ones((2, 3)))
