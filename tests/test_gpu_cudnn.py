"""Attention and convolution by cuDNN on a GPU, beside float64 on the CPU, and in a CUDA graph."""

from __future__ import annotations

import numpy
import pytest

import ag
import ownt
from ownt import cudnn
from ownt import device as devices
from ownt.capture import Recording
from ownt.memory import scratch

pytestmark = pytest.mark.gpu
PLACE = "cuda"
TOLERANCE = {"bfloat16": 2e-2, "float16": 3e-3, "float32": 1e-4}


@pytest.fixture(autouse=True)
def gpu():
    try:
        place = devices.get(PLACE)
    except ownt.DeviceError as error:
        pytest.skip(f"needs a GPU: {error}")
    if cudnn.missing():
        pytest.skip(cudnn.missing())
    return place


def numbers(shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def results(function, arrays, slope, dtype, device):
    """The value and the gradients of a function, the latter added up over two calls, in float64."""
    nodes = [ag.param(ownt.asarray(array, dtype=dtype, device=device)) for array in arrays]
    for _ in range(2):
        y = function(*nodes)
        y.backward(ownt.asarray(slope, dtype=dtype, device=device))
    return [tensor.astype("float64").numpy() for tensor in (y.tensor, *(node.grad for node in nodes))]


def agree(function, shapes, dtype):
    arrays = [numbers(shape, seed).astype("float16").astype("float64") for seed, shape in enumerate(shapes)]
    slope = numbers(function(*map(ag.param, map(ownt.asarray, arrays))).shape, 9).astype("float16").astype("float64")
    expected = results(function, arrays, slope, "float64", "cpu")
    for found, wanted in zip(results(function, arrays, slope, dtype, PLACE), expected, strict=True):
        assert numpy.linalg.norm(found - wanted) <= TOLERANCE[dtype] * numpy.linalg.norm(wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("length", [1024, 192, 70])
def test_causal_attention(dtype, length):
    agree(lambda qkv: ag.causal_attention(qkv, 3), [(2, length, 3 * 3 * 64)], dtype)


@pytest.mark.parametrize("keys", [128, 192, 200])
def test_attention_of_all_keys(keys):
    shapes = [(2, 3, 130, 64), (2, 3, keys, 64), (2, 3, keys, 64)]
    agree(lambda q, k, v: ag.attention(q, k, v), shapes, "bfloat16")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_convolution(dtype):
    shapes = [(2, 16, 20, 20), (24, 16, 3, 3), (24,)]
    agree(lambda x, w, b: ag.conv2d(x, w, b, stride=2, padding=1), shapes, dtype)


def test_a_graph_reads_what_is_there_when_it_is_launched(gpu):
    qkv = ownt.asarray(numbers((2, 128, 3 * 2 * 64)), dtype="bfloat16", device=PLACE)
    g = ownt.asarray(numbers((2, 128, 2 * 64), 1), dtype="bfloat16", device=PLACE)
    kept = ownt.zeros(2, 128, 3 * 2 * 64, dtype="bfloat16", device=PLACE)

    def run():
        node = ag.param(qkv)
        ag.causal_attention(node, 2).backward(g)
        kept[...] = node.grad

    recording = Recording(scratch(PLACE))
    with recording.during():
        run()
    for seed in range(2, 5):
        qkv.copy_(ownt.asarray(numbers(qkv.shape, seed), dtype="bfloat16"))
        recording.replay()
        replayed = kept.numpy().astype("float64")
        assert recording.is_graph
        run()
        wanted = kept.numpy().astype("float64")
        assert numpy.linalg.norm(replayed - wanted) <= 1e-2 * numpy.linalg.norm(wanted)
