"""Matrix products on CUDA: on a GPU, and executed on host memory, where only the library is a stand-in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from host_device import Host, HostArray
from matrices import close, destination, laid, multiplied, numbers, there

import ownt
from ag.ops.matmul import affine_kernel, matmul_kernel
from ownt import capture, device, gemm
from ownt.cublaslt import CublasLt
from ownt.kernel import Kernel

FLOATS = ("float32", "float64", "float16", "bfloat16")
PAIRS = [*((name, name) for name in FLOATS), ("float16", "float32"), ("bfloat16", "float32")]


@pytest.fixture
def host(monkeypatch):
    place = Host()
    monkeypatch.setitem(device._DEVICES, place.name, place)
    monkeypatch.setitem(device._BY_ARRAY, HostArray, place)
    for kernel in (matmul_kernel, affine_kernel):
        monkeypatch.setattr(kernel, "_by_array", dict(kernel._by_array))
    return place


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request):
    """Where products are computed."""
    if request.param == "host":
        return request.getfixturevalue("host")
    if not pytest.importorskip("cupy").cuda.is_available():
        pytest.skip("needs a GPU")
    return device.get("cuda")


@pytest.fixture
def no_references(monkeypatch):
    """References of the products fail: what a binder declined is seen."""

    def refuse(kernel, *rest):
        assert kernel not in (matmul_kernel, affine_kernel), "left to the reference"
        return run(kernel, *rest)

    run = Kernel._run_reference
    monkeypatch.setattr(Kernel, "_run_reference", refuse)


LAYOUTS = ("rows", "columns", "window", "window of columns")
SHAPES = [(1, 1, 1), (1, 5, 1), (7, 1, 1), (1, 1, 9), (3, 4, 5), (17, 33, 9), (64, 8, 16)]


@pytest.mark.parametrize(("dtype", "target"), PAIRS)
@pytest.mark.parametrize("beta", [0, 1])
def test_matrices_of_all_layouts(place, no_references, dtype, target, beta):
    for m, k, n in SHAPES:
        a, b = numbers((m, k), dtype, 1), numbers((k, n), dtype, 2)
        product = a.astype("float64") @ b.astype("float64")
        for left, right, how in itertools.product(LAYOUTS, LAYOUTS, LAYOUTS):
            before, out = destination((m, n), how, target, beta)
            found = multiplied(place, matmul_kernel, (laid(a, left), laid(b, right)), out, beta)
            close(found, product + before.astype("float64") if beta else product, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("beta", "residual"), [(0, False), (1, False), (0, True)])
@pytest.mark.parametrize("bias", [True, False])
def test_affine(place, no_references, dtype, beta, bias, residual):
    for (m, k, n), how in itertools.product(SHAPES, ("rows", "window")):
        x, w, b = numbers((m, k), dtype, 1), numbers((n, k), dtype, 2), numbers((n,), dtype, 3)
        r = numbers((m, n), dtype, 4)
        expected = x.astype("float64") @ w.T.astype("float64") + (b.astype("float64") if bias else 0)
        expected += r.astype("float64") if residual else 0
        before, out = destination((m, n), how, dtype, beta)
        given = laid(x, how), laid(w, how), b if bias else None, laid(r, how) if residual else None
        found = multiplied(place, affine_kernel, given, out, beta)
        close(found, expected + before.astype("float64") if beta else expected, dtype)


STACKS = [((2,), (2,)), ((2, 3), (2, 3)), ((2, 1), (5,)), ((), (4,)), ((4,), ()), ((2, 1, 3), (4, 1)), ((1, 3), (2, 1))]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("beta", [0, 1])
def test_stacks_broadcast(place, no_references, dtype, beta):
    hows = ("rows", "columns", "window", "stack inside")
    for (one, other), left, right, how in itertools.product(STACKS, hows, hows, hows):
        a, b = numbers((*one, 3, 4), dtype, 1), numbers((*other, 4, 5), dtype, 2)
        expected = a.astype("float64") @ b.astype("float64")
        before, out = destination(expected.shape, how, dtype, beta)
        found = multiplied(place, matmul_kernel, (laid(a, left), laid(b, right)), out, beta)
        close(found, expected + before.astype("float64") if beta else expected, dtype)


def test_a_stack_backwards(place, no_references):
    a, b = numbers((3, 4, 5)), numbers((3, 5, 6))
    found = multiplied(place, matmul_kernel, (a[::-1], b), np.empty((3, 4, 6), "float32"), 0)
    close(found, a[::-1] @ b, "float32")


def test_a_stack_of_one_stride_is_one_launch(host):
    a, b, out = (laid(numbers((4, 6, 8, 8)), how) for how in ("rows", "columns", "rows"))
    multiplied(host, matmul_kernel, (a, b), out, 0)
    assert host.lt.launches == 1
    heads = (
        numbers((4, 8, 6, 8)).view(HostArray).swapaxes(1, 2)
    )  # each of 4 examples has another step to it than 6 heads
    multiplied(host, matmul_kernel, (heads, b), out, 0)
    assert host.lt.launches == 1 + 4


def test_an_algorithm_is_searched_for_once_a_problem(host):
    a, b = (laid(numbers((8, 8)), "rows") for _ in "ab")
    for beta in (0, 1, 0):
        multiplied(host, matmul_kernel, (a, b), host.empty((8, 8), "float32"), beta)
    searches = host.lt.searches
    assert host.lt.launches == 3 and searches <= 3  # the destinations' addresses may be aligned in different ways
    room = np.zeros(4096, np.uint8).view(HostArray)
    start = -room.ctypes.data % 256
    for lead, offset in ((8, 0), (8, 4), (8, 64), (9, 0)):  # elements and bytes
        a = HostArray((8, 8), "float32", room, start + offset, (lead * 4, 4))
        multiplied(host, matmul_kernel, (a, b), room[start + 1024 :][:256].view("float32").reshape(8, 8), 0)
    assert host.lt.searches - searches in (3, 4)  # the first may be aligned as `a` was
    assert host.lt.launches == 7


@pytest.mark.parametrize(
    ("left", "right", "how"),
    [
        ("apart", "rows", "rows"),
        ("rows", "backwards", "rows"),
        ("columns backwards", "rows", "rows"),
        ("rows", "rows", "apart"),
    ],
)
def test_what_a_gemm_cannot_take_is_left_to_the_reference(host, left, right, how):
    a, b = numbers((3, 4), "float32", 1), numbers((4, 5), "float32", 2)
    before, out = destination((3, 5), how, "float32", 1)
    multiplied(host, matmul_kernel, (laid(a, left), laid(b, right)), out, 1)
    close(out, a @ b + before, "float32")
    assert not host.lt.launches


def test_bias_along_a_destination_of_columns_is_left_to_the_reference(host):
    x, w, b = numbers((3, 4)), numbers((5, 4)), numbers((5,))
    _, out = destination((3, 5), "columns", "float32", 0)
    multiplied(host, affine_kernel, [part.view(HostArray) for part in (x, w, b)], out, 0)
    close(out, x @ w.T + b, "float32")
    assert not host.lt.launches


@pytest.mark.parametrize("beta", [0, 1])
def test_no_results(host, beta):
    for m, k, n in ((0, 4, 5), (3, 4, 0)):
        before, out = destination((m, n), "rows", "float32", beta)
        a, b = (numbers((6, 6)).view(HostArray)[:rows, :columns] for rows, columns in ((m, k), (k, n)))
        multiplied(host, matmul_kernel, (a, b), out, beta)
        close(out, before if beta else np.zeros((m, n)), "float32")


def test_dtypes_that_do_not_go_together_are_an_error(host):
    a, b = laid(numbers((3, 4), "float64"), "rows"), laid(numbers((4, 5), "float32"), "rows")
    with pytest.raises(TypeError, match="expected float32 like its output; got float64"):
        multiplied(host, matmul_kernel, (a, b), host.empty((3, 5), "float32"), 0)


def test_integers_are_multiplied_by_the_reference(host):
    a, b = (np.arange(12).reshape(shape).view(HostArray) for shape in ((3, 4), (4, 3)))
    out = host.empty((3, 3), "int64")
    multiplied(host, matmul_kernel, (a, b), out, 0)
    assert np.array_equal(out, a @ b) and not host.lt.launches


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_slope(x):
    return gelu(x + 1e-20j).imag / 1e-20  # of an analytic function, without a difference


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("epilogue", [epilogue for epilogue in gemm.EPILOGUES if epilogue])
def test_epilogues(place, dtype, epilogue):
    """Each as gemm.EPILOGUES says it, for rows: which of its operands is whose is the binding's to turn."""
    m, k, n = 6, 5, 16
    a, b, aux = numbers((m, k), dtype, 1), numbers((k, n), dtype, 2), numbers((m, n), dtype, 3)
    vector = numbers((m if epilogue == "bgrada" else n,), dtype, 4)
    left, right, extra, slope = (x.astype("float64") for x in (a, b, vector, aux))
    value = left @ right + (extra if epilogue.endswith("bias") else 0)
    expected = {"gelu": gelu(value), "dgelu": value * gelu_slope(slope)}.get(epilogue.split("_")[0], value)
    made_aux, sums = value, {"bgrada": left.sum(1), "bgradb": right.sum(0), "dgelu_bgrad": expected.sum(0)}
    room = np.full((m, n + 8), np.nan).astype(aux.dtype)
    if epilogue.startswith("dgelu"):
        room[:, :n] = aux
    given, out = there(place, room[:, :n]), place.empty((m, n), a.dtype)
    has_vector, has_aux = "bias" in epilogue or "bgrad" in epilogue, "aux" in epilogue or "dgelu" in epilogue
    added = there(place, vector) if has_vector else None
    bound = gemm.bind(there(place, a), there(place, b), out, 0, epilogue, added, given if has_aux else None)
    if bound is None and place.name == "cuda":
        pytest.skip(f"cuBLASLt has no algorithm with {epilogue} of {dtype} for these matrices here")
    bound[0](*bound[1])
    close(place.to_host(out), expected, dtype)
    if "aux" in epilogue:
        close(place.to_host(given), made_aux, dtype)
    if epilogue in sums:
        close(place.to_host(added), sums[epilogue], dtype)


def test_epilogues_that_the_library_cannot_do_are_declined(host):
    a, b, out = (laid(numbers(shape), "rows") for shape in ((6, 5), (5, 16), (6, 16)))
    aux = laid(numbers((6, 16)), "rows")
    none = laid(numbers((0, 5)), "rows")
    assert gemm.bind(none, b, out[:0], 0, "bgradb", laid(numbers((1, 16)), "rows")[0]) is None  # which is to be written
    assert gemm.bind(a, b, out, 1, "gelu") is None  # out would be inside the GELU
    assert gemm.bind(a, b, out, 1, "dgelu", None, aux) is None
    assert gemm.bind(a, b, out, 0, "dgelu", None, laid(numbers((6, 16)), "columns").view(HostArray)) is None
    assert gemm.bind(a, b, out, 0, "dgelu", None, laid(numbers((6, 23)), "rows")[:, :16]) is None  # 23 apart
    assert gemm.bind(a, b, out, 0, "bias", numbers((16,), "float64").view(HostArray)) is None
    assert gemm.bind(a, b, out, 0, "bias", numbers((32,)).view(HostArray)[::2]) is None


def test_without_an_algorithm_an_epilogue_is_declined_and_a_product_is_an_error(host):
    host.lt.none = True
    x, w, b = (numbers(shape).view(HostArray) for shape in ((3, 4), (5, 4), (5,)))
    out = host.empty((3, 5), "float32")
    multiplied(host, affine_kernel, (x, w, b), out, 0)
    close(out, x @ w.T + b, "float32")
    with pytest.raises(gemm.NoAlgorithmError, match=r"\(3, 4\) float32"):
        multiplied(host, affine_kernel, (x, w, None), out, 0)


def test_tf32_is_off_unless_allowed(host):
    a, b = laid(np.full((4, 4), 1 + 2.0**-20, "float32"), "rows"), laid(np.eye(4, dtype="float32"), "rows")
    found = []
    for allowed in (False, True, False):
        gemm.allow_tf32(allowed)
        out = host.empty((4, 4), "float32")
        multiplied(host, matmul_kernel, (a, b), out, 0)
        found.append(float(out[0, 0]))
    assert found == [1 + 2.0**-20, 1.0, 1 + 2.0**-20]
    out = host.empty((4, 4), "float64")
    gemm.allow_tf32()
    try:
        multiplied(
            host, matmul_kernel, (a.astype("float64").view(HostArray), b.astype("float64").view(HostArray)), out, 0
        )
    finally:
        gemm.allow_tf32(False)
    assert out[0, 0] == 1 + 2.0**-20


def test_tf32_changes_what_was_recorded(host):
    before = capture._changes
    gemm.allow_tf32(False)
    assert capture._changes == before
    gemm.allow_tf32()
    gemm.allow_tf32(False)
    assert capture._changes == before + 2


def test_a_workspace_is_scratch_memory_of_what_the_algorithm_needs(host):
    ledger = host.ledger
    ownt.memory.scratch(host)
    peak = []
    for size in (0, 1 << 20):
        host.lt.workspace_bytes = size
        host.gemm = CublasLt(host.pointer, library=host.lt)
        ledger.reset_peak()
        a, b = (laid(numbers((4, 4)), "rows") for _ in "ab")
        multiplied(host, matmul_kernel, (a, b), host.empty((4, 4), "float32"), 0)
        peak.append(ledger.peak)
    assert peak[1] - peak[0] == 1 << 20
