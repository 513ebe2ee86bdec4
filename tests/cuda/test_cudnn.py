"""Attention and convolution through cuDNN: the binders against a stand-in of its frontend, in memory of the CPU; and
the graphs that they ask for against the frontend itself, where it is installed: it accepts a graph without a GPU."""

from __future__ import annotations

import importlib.util
import sys
import warnings

import cudnn_stand_in as stand_in
import numpy as np
import pytest
from awkward_attention import ATTENTION, CUDNN
from cases import Place, call_op, close, references_only
from compile_for_cpu import missing
from simulated import simulated

import ag
from ag.ops.conv import conv2d
from ag.sample import Sample, normal
from ownt import cudnn
from ownt import device as devices
from ownt.kernel import Kernel

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
HALF = ("float16", "bfloat16")
TOLERANCE = {"float16": 1e-2, "bfloat16": 8e-2, "float32": 5e-5}
CONVOLUTIONS = [
    *conv2d.samples,
    Sample(normal(2, 8, 9, 7), normal(16, 8, 1, 1)),
    Sample(normal(2, 3, 23, 21), normal(64, 3, 7, 7), stride=2, padding=3),
    Sample(normal(1, 64, 7, 5), normal(64, 64, 3, 3), normal(64), padding=1),
    Sample(normal(2, 16, 6, 5), normal(16, 1, 3, 3), stride=2, padding=1, groups=16),
]
SAMPLES = {"conv2d": CONVOLUTIONS, **{name: [*ag.registry[name].samples, *CUDNN[name]] for name in CUDNN}}


@pytest.fixture
def asked(monkeypatch):
    """The simulated device has cuDNN, as the stand-in has it; the graphs that it is asked for."""
    graphs = {}
    build = cudnn._Handle._build

    def noted(handle, describe, layouts, options):
        graphs[describe, layouts, tuple(options.items())] = describe, layouts, options
        return build(handle, describe, layouts, options)

    monkeypatch.setitem(sys.modules, "cudnn", stand_in)
    monkeypatch.setattr(simulated, "stream", stand_in.stream, raising=False)
    monkeypatch.setattr(cudnn, "_handles", cudnn._Handles())
    monkeypatch.setattr(cudnn._Handle, "_build", noted)
    for cached in (cudnn.missing, cudnn._warn):
        cached.cache_clear()
    stand_in.executed.clear()
    yield graphs
    for cached in (cudnn.missing, cudnn._warn):
        cached.cache_clear()


def last_strides(_, channels, height, width):
    return height * width * channels, 1, width * channels, channels


def compare(name, sample, dtype, monkeypatch):
    """A call on the simulated device against references in float64."""
    found = call_op(name, sample, Place(simulated, dtype, dtype))
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "_bind", references_only)
        expected = call_op(name, sample, Place(devices.cpu, "float64", dtype))
    for a, b in zip(found, expected, strict=True):
        close(a.astype(b.dtype), b, TOLERANCE[dtype], str(sample))


@pytest.mark.parametrize("dtype", ["float32", *HALF])
def test_convolution(dtype, asked, monkeypatch):
    for sample in CONVOLUTIONS:
        compare("conv2d", sample, dtype, monkeypatch)
    assert {"conv_fprop", "conv_dgrad", "conv_wgrad"} == set(stand_in.executed)
    for _, layouts, _ in asked.values():
        assert all(like.strides == last_strides(*like.shape) for like in layouts)
    assert stand_in.executed.count("conv_fprop") == 2 * len(CONVOLUTIONS)  # call_op calls twice, to add gradients


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", sorted(CUDNN))
def test_attention(name, dtype, asked, monkeypatch):
    for sample in CUDNN[name]:
        compare(name, sample, dtype, monkeypatch)
    assert [stand_in.executed.count(graph) for graph in ("sdpa", "sdpa_backward")] == [2 * len(CUDNN[name])] * 2


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", sorted(CUDNN))
def test_what_cudnn_does_not_serve_is_left_to_our_kernels(name, dtype, asked, monkeypatch):
    for sample in ATTENTION[name]:
        compare(name, sample, dtype, monkeypatch)
    served = {"causal_attention": 2 * 3, "attention": 0}[name]  # heads of 40, 64 and 8 columns; no masks
    assert stand_in.executed.count("sdpa") == served


def test_plans_are_built_once_and_for_the_devices_stream(asked, monkeypatch):
    stand_in.streams.clear()
    for _ in range(2):
        compare("causal_attention", CUDNN["causal_attention"][0], "bfloat16", monkeypatch)
    plans = next(iter(cudnn._handles.by_device.values()))._plans
    assert len(plans) == 3  # forward, backward that writes, backward into a workspace that is added
    assert set(stand_in.streams) == {(stand_in.HANDLE, stand_in.STREAM)}


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "served"), [(5, 64, False, 0), (5, 64, True, 2), (65, 64, True, 0)]
)
def test_a_gradient_that_cudnn_gets_wrong_is_left_to_our_kernels(queries, keys, causal, served, asked, monkeypatch):
    sample = Sample(normal(1, 2, queries, 16), normal(1, 2, keys, 16), normal(1, 2, keys, 16), causal=causal)
    compare("attention", sample, "bfloat16", monkeypatch)
    assert [stand_in.executed.count(graph) for graph in ("sdpa", "sdpa_backward")] == [2, served]


def test_a_graph_without_a_workspace(asked, monkeypatch):
    monkeypatch.setattr(stand_in, "WORKSPACE_BYTES", 0)
    compare("causal_attention", CUDNN["causal_attention"][0], "bfloat16", monkeypatch)
    assert stand_in.executed


def test_a_failure_names_the_graph_and_its_shapes(asked, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(stand_in.pygraph, "execute", fail)
    with pytest.raises(RuntimeError, match=r"cuDNN failed at sdpa of \(2, 2, 5, 8\).*EXECUTION_FAILED"):
        compare("causal_attention", CUDNN["causal_attention"][0], "bfloat16", monkeypatch)


def test_views_of_cupys_arrays_lie_as_numpys():
    """The strides and addresses that graphs are given; CuPy's arrays lie in memory of the host here."""
    cupy = pytest.importorskip("cupy")
    from ag.ops import attention_cuda, conv_cuda

    def on_host(size_bytes):
        memory = np.zeros(size_bytes, np.uint8)
        owned = cupy.cuda.UnownedMemory(memory.ctypes.data, size_bytes, memory, device_id=0)
        return cupy.cuda.MemoryPointer(owned, 0)

    before = cupy.cuda.get_allocator()
    cupy.cuda.set_allocator(on_host)
    try:
        for b, t, h, d in ((2, 5, 2, 8), (4, 1, 1, 16), (3, 7, 1, 8), (1, 1, 1, 1)):
            ours, theirs = cupy.empty((b, t, 3 * h * d), "float16"), np.empty((b, t, 3 * h * d), "float16")
            for a, n in zip(attention_cuda._apart(ours, 3, h), attention_cuda._apart(theirs, 3, h)):
                assert cudnn.layout(a) == cudnn.layout(n)
                assert a.data.ptr - ours.data.ptr == n.ctypes.data - theirs.ctypes.data
            lse = cupy.empty((b, h, t), "float32")
            column = attention_cuda._column(lse)
            assert column.data.ptr == lse.data.ptr
            assert cudnn.layout(column) == ((b, h, t, 1), (h * t, t, 1, 1), "float32")
            images = conv_cuda._canonical(cupy.empty((b, t, h, d), "float16").transpose(0, 3, 1, 2))
            assert cudnn.layout(images).strides == last_strides(*images.shape)
    finally:
        cupy.cuda.set_allocator(before)


def test_a_graph_that_is_refused_is_warned_of_once_and_computed_otherwise(asked, monkeypatch):
    refused = Sample(normal(13, 4, 3 * 16), 2)
    with pytest.warns(RuntimeWarning, match=r"cuDNN does not serve sdpa\w* of \(13, 2, 4, 8\).*thirteen") as found:
        compare("causal_attention", refused, "bfloat16", monkeypatch)
    assert len(found) == 2  # forward and backward
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare("causal_attention", refused, "bfloat16", monkeypatch)
    assert not stand_in.executed


@pytest.mark.parametrize(
    ("version", "backend", "message"),
    [
        ("1.24.0", 91900, "expected nvidia-cudnn-frontend 1.19.1 to 1.23.0; got 1.24.0.*pip install"),
        ("1.23.0", 90100, "expected cuDNN 9.15.1 or later; got 9.1.*pip install"),
        ("1.23.0", None, "cuDNN cannot be loaded, no libcudnn.*pip install"),
    ],
)
def test_a_version_that_does_not_fit_is_one_line_with_the_remedy(version, backend, message, asked, monkeypatch):
    def library():
        if backend is None:
            raise RuntimeError("no\nlibcudnn")
        return backend

    monkeypatch.setattr(stand_in, "__version__", version)
    monkeypatch.setattr(stand_in, "backend_version", library)
    monkeypatch.setattr(stand_in, "backend_version_string", lambda: "9.1.0", raising=False)
    with pytest.warns(RuntimeWarning, match=message) as found:
        compare("causal_attention", CUDNN["causal_attention"][0], "bfloat16", monkeypatch)
    assert len(found) == 1 and "\n" not in str(found[0].message)
    assert not stand_in.executed


def test_without_the_wheel_and_switched_off_our_kernels_serve(asked, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cudnn", None)
        with pytest.warns(RuntimeWarning, match="cuDNN is not installed: pip install"):
            compare("causal_attention", CUDNN["causal_attention"][0], "bfloat16", monkeypatch)
    monkeypatch.setattr(cudnn, "enabled", False)
    compare("causal_attention", CUDNN["causal_attention"][0], "bfloat16", monkeypatch)
    assert not stand_in.executed


def test_an_array_that_is_not_aligned_is_left_to_our_kernels(asked):
    call_op("causal_attention", CUDNN["causal_attention"][0], Place(simulated, "bfloat16", "bfloat16", offset=1))
    assert not stand_in.executed


# with the frontend


def real_frontend():
    found = importlib.util.find_spec("cudnn") is not None
    return pytest.mark.skipif(not found, reason="needs nvidia-cudnn-frontend and nvidia-cudnn-cu13: see ownt.cudnn")


def described(graph):
    """Of each tensor: number, sizes, strides, name of its type."""
    return [
        (t.get_uid(), tuple(t.get_dim()), tuple(t.get_stride()), str(t.get_data_type()).split(".")[1])
        for t in graph.tensors
    ]


@pytest.mark.cudnn
@real_frontend()
@pytest.mark.parametrize("dtype", ["float32", *HALF])
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_frontend_accepts_the_graphs_and_numbers_their_arrays_as_they_are_passed(name, dtype, asked, monkeypatch):
    for sample in SAMPLES[name]:
        call_op(name, sample, Place(simulated, dtype, dtype))
    assert bool(asked) == (name == "conv2d" or dtype in HALF)
    monkeypatch.delitem(sys.modules, "cudnn")
    types = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT"}
    for describe, layouts, options in asked.values():
        for version in (80, 90):
            graph = cudnn.Graph(layouts[0].dtype, sm_version=version)
            describe(graph, *layouts, **options)
            expected = [(i, like.shape, like.strides, types[like.dtype]) for i, like in enumerate(layouts, 1)]
            assert described(graph) == expected
            graph.check()


@pytest.mark.cudnn
@real_frontend()
def test_the_frontend_that_is_installed_fits():
    cudnn.missing.cache_clear()
    assert cudnn.missing() == ""


@pytest.mark.cudnn
@real_frontend()
def test_the_frontend_refuses_what_is_not_asked_of_it():
    """The control: heads of 12 columns, and one query of one key."""
    import cudnn as frontend

    from ag.ops.attention_cuda import sdpa_backward

    for t, d in ((8, 12), (1, 8)):
        like = cudnn.Layout((2, 2, t, d), (2 * t * d, t * d, d, 1), "bfloat16")
        lse = cudnn.Layout((2, 2, t, 1), (2 * t, t, 1, 1), "float32")
        graph = cudnn.Graph("bfloat16", sm_version=90)
        sdpa_backward(graph, *[like] * 5, lse, *[like] * 3, causal=True, scale=1.0)
        with pytest.raises(frontend.cudnnGraphNotSupportedError):
            graph.check()
