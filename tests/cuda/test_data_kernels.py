"""Kernels that move and draw numbers: the CPU's random bits, the same sums in any order, and how arrays lie."""

from __future__ import annotations

import numpy as np
import pytest
from compile_for_cpu import ORDERS, missing
from simulated import simulated

import ag
import ownt
from ag import kernels_cuda
from ag.ops import embedding_cuda
from ownt import memory
from ownt.capture import Recording
from ownt.cuda_strided import layout
from ownt.dtype import get

executes = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]


def on(device, values, dtype="float32"):
    return ag.param(ownt.asarray(np.asarray(values).astype(get(dtype))).to(device))


def masks(device, values, dtype, transposed):
    """What dropout keeps, forward and backward, of three calls one after the other."""
    ownt.manual_seed(11)
    x = on(device, values, dtype)
    found = []
    for p in (0.1, 0.5, 0.999):
        y = ag.dropout(x.T if transposed else x, p)
        y.backward(ownt.asarray(np.ones(y.shape, get(dtype))).to(device))
        found += [y.numpy().copy(), x.grad.numpy().copy()]
    return found


class TestDropout:
    pytestmark = executes

    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
    @pytest.mark.parametrize("shape", [(37, 41), (64, 128)])
    @pytest.mark.parametrize("transposed", [False, True])
    def test_bits_are_those_of_the_cpu(self, dtype, shape, transposed):
        values = np.random.default_rng(1).standard_normal(shape)
        for ours, theirs in zip(masks("simulated", values, dtype, transposed), masks("cpu", values, dtype, transposed)):
            np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8))

    def test_a_replay_draws_the_next_numbers_from_a_place_in_the_devices_memory(self):
        x = ownt.asarray(np.ones((50, 40), "float32")).to("simulated")
        runs = {"eager": [], "replayed": []}
        for kind, results in runs.items():
            ownt.manual_seed(5)
            kept = ownt.zeros(2, 50, 40, device="simulated")
            recording = Recording(memory.scratch("simulated"))

            def draw(kept=kept):
                for i in range(2):
                    kept[i] = ag.dropout(x, 0.5).tensor

            with recording.during():
                draw()
            for _ in range(3):
                results.append(kept.numpy().copy())
                if kind == "eager":
                    draw()
                else:
                    assert not recording.spoiled
                    positions = [
                        a for launch in recording.launches if launch.name == "dropout_kernel" for a in launch.bound
                    ]
                    assert not any(type(a) is np.ndarray for a in positions), "a place of the host is bound"
                    recording.replay()
        np.testing.assert_array_equal(runs["eager"], runs["replayed"])
        assert len({result.tobytes() for result in runs["eager"]}) == 3


class TestSums:
    pytestmark = executes

    @pytest.mark.parametrize("shape", [((1 << 16) + 3,), (3000, 24), (6, 500, 9), (3, 5000)])
    @pytest.mark.parametrize("axis", [0, None])
    def test_they_are_the_same_bits_in_any_order_of_threads(self, shape, axis):
        x = ownt.asarray(np.random.default_rng(2).standard_normal(shape).astype("float32")).to("simulated")
        assert len({run(order, lambda: ag.sum(x, axis).numpy().tobytes()) for order in ORDERS}) == 1

    def test_more_numbers_than_kernels_can_count_are_left_to_the_reference(self):
        def axes(shape, target):
            pitch = 2 * (shape[1] + 8)  # rows do not follow each other
            return kernels_cuda._axes(shape, (pitch, 2), 2, target)

        assert axes((1 << 16, 65535), (1, 1)) == ([], [(1 << 16, (65543,)), (65535, (1,))])
        assert axes((1 << 16, 1 << 16), (1, 1)) is None, "summed"
        assert axes((1 << 16, 1 << 16), (1 << 16, 1 << 16)) is None, "kept"
        assert kernels_cuda._axes((1 << 17, 1 << 16), (1 << 17, 2), 2, ()) == ([], [(1 << 33, (1,))]), "a line"
        assert kernels_cuda._are_rows(*axes((1 << 29, 3), (3,)))
        assert not kernels_cuda._are_rows(*axes((1 << 31, 3), (3,)))
        assert not kernels_cuda._are_rows(*axes((3, 1 << 31), (1 << 31,)))

    def test_so_is_the_gradient_of_an_embedding_however_its_sort_is_cut(self, monkeypatch):
        draw = np.random.default_rng(3)
        indices = ownt.asarray(draw.integers(0, 9, 1500) * draw.integers(0, 2, 1500)).to("simulated")
        g = ownt.asarray(draw.standard_normal((1500, 20)).astype("float32")).to("simulated")

        def gradient():
            table = on("simulated", np.zeros((9, 20)))
            ag.embedding(indices, table).backward(g)
            return table.grad.numpy().tobytes()

        found = {run(order, gradient) for order in ORDERS}
        for tile, tiles in ((32, 512), (512, 1)):  # many counts; tiles that a warp reads in turns
            monkeypatch.setattr(embedding_cuda, "_TILE", tile)
            monkeypatch.setattr(embedding_cuda, "_TILES", tiles)
            found |= {run(order, gradient) for order in ORDERS}
        assert len(found) == 1


def run(order, function):
    outer, simulated.order = simulated.order, order
    try:
        return function()
    finally:
        simulated.order = outer


class TestLayout:
    def test_what_is_contiguous_is_a_line(self):
        x = np.zeros((2, 3, 4), "float32")
        assert layout(x, x) == ((1, 1, 1, 24), ((0, 0, 0, 1),) * 2)
        assert layout(x.transpose(2, 0, 1), x.transpose(2, 0, 1)).sizes == (1, 1, 1, 24)

    def test_rows_and_columns_that_repeat_make_two_axes(self):
        x = np.zeros((2, 3, 4), "float32")
        assert layout(x, np.zeros(4, "float32")) == ((1, 1, 6, 4), ((0, 0, 4, 1), (0, 0, 0, 1)))
        assert layout(x, np.zeros((2, 3, 1), "float64")).strides[1] == (0, 0, 1, 0)
        assert layout(x, np.zeros((), "float32")) == ((1, 1, 1, 24), ((0, 0, 0, 1), (0, 0, 0, 0)))

    def test_axes_keep_their_order_where_places_are_counted(self):
        x = np.zeros((3, 4), "float32").T
        assert layout(x, in_order=True) == ((1, 1, 4, 3), ((0, 0, 1, 4),))
        assert layout(x).sizes == (1, 1, 1, 12)

    def test_what_does_not_fit_is_left_to_the_reference(self):
        x = np.zeros((2,) * 10, "float32")[(slice(None), slice(1)) * 5]
        assert layout(x) is None
        assert layout(np.zeros((4, 3), [("a", "f4"), ("b", "u1")])["a"]) is None
        huge = np.broadcast_to(np.float32(0), (1 << 16, 1 << 16))
        assert layout(huge, np.zeros((1 << 16, 1), "float32")) is None
