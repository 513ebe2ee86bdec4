"""Functions made of ops: split, chunk, pad, topk. Against NumPy, finite differences, and as methods of a Node."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import ownt


def drawn(*shape):
    return ownt.randn(shape, dtype="float64")


@pytest.mark.parametrize(("sizes", "axis"), [(2, 0), (3, 0), (9, 0), ([1, 4], 0), ([3, 0, 3], 1), (4, -1), ([6], 1)])
def test_split_cuts_as_numpy_at_the_sums_of_the_sizes(sizes, axis):
    x = drawn(5, 6)
    whole = x.shape[axis]
    listed = sizes if isinstance(sizes, list) else [min(sizes, whole - i) for i in range(0, whole, sizes)]
    expected = np.split(x.numpy(), np.cumsum(listed)[:-1], axis)
    found = ag.split(x, sizes, axis)
    assert [part.shape for part in found] == [part.shape for part in expected]
    for part, other in zip(found, expected):
        np.testing.assert_array_equal(part.numpy(), other)


@pytest.mark.parametrize(("size", "chunks"), [(6, 2), (7, 3), (2, 5), (5, 5), (0, 2), (9, 1)])
def test_chunk_makes_at_most_so_many_of_one_size(size, chunks):
    parts = ag.param(drawn(2, size)).chunk(chunks, axis=1)
    sizes = [part.shape[1] for part in parts]
    assert sum(sizes) == size
    assert len(sizes) <= chunks
    assert len(set(sizes[:-1])) <= 1
    assert all(n <= sizes[0] for n in sizes)


def test_gradients_of_parts_are_windows_on_the_whole():
    x = ag.param(drawn(6, 100))
    with ownt.scratch.mark():
        first, second, third = x.split(2)
        (first * third).sum().backward()
        del first, second, third
    np.testing.assert_array_equal(x.grad.numpy()[:2], x.numpy()[4:])
    assert not x.grad.numpy()[2:4].any()
    assert x.grad.nbytes == x.nbytes


MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("widths", [(1, 2), (0, 3), (2, 0, 1, 1), (3, 3, 2, 0), (0, 0), ()])
def test_pad_is_numpys(mode, widths):
    x = drawn(3, 4)
    pairs = [(0, 0)] * (2 - len(widths) // 2) + list(zip(widths[::2], widths[1::2]))[::-1]
    np.testing.assert_array_equal(ag.pad(x, widths, mode).numpy(), np.pad(x.numpy(), pairs, MODES[mode]))
    assert ag.gradcheck(lambda x: x.pad(widths, mode), [x])


@pytest.mark.parametrize("mode", MODES)
def test_negative_widths_cut_off(mode):
    x = drawn(5, 6)
    np.testing.assert_array_equal(ag.pad(x, (-1, -2), mode).numpy(), x.numpy()[:, 1:-2])
    assert ag.pad(x, (-1, 2, 0, -3), mode).shape == (2, 7)
    assert ag.gradcheck(lambda x: ag.pad(x, (-1, 2, 0, -3), mode), [x])


def test_pad_fills_with_a_value():
    assert ag.pad(ag.constant([1, 2]), (1, 2), value=7).tensor.tolist() == [7, 1, 2, 7, 7]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("k", "axis"), [(1, 0), (3, 1), (0, 1), (5, -1), (2, 0)])
def test_topk_is_the_beginning_of_the_sorted(k, axis, largest):
    x = drawn(4, 5)
    values, places = ag.topk(x, k, axis, largest)
    ordered = np.sort(x.numpy(), axis)
    ordered = np.flip(ordered, axis) if largest else ordered
    np.testing.assert_array_equal(values.numpy(), np.take(ordered, range(k), axis))
    np.testing.assert_array_equal(np.take_along_axis(x.numpy(), places.numpy(), axis), values.numpy())
    assert ag.gradcheck(lambda x: x.topk(k, axis, largest)[0], [x])


def test_topk_takes_the_first_of_equals_and_counts_nan_as_largest():
    x = ag.constant([1.0, 3.0, 3.0, float("nan"), 1.0])
    assert x.topk(3)[1].tensor.tolist() == [3, 1, 2]
    assert x.topk(3, largest=False)[1].tensor.tolist() == [0, 4, 1]


def test_a_function_made_of_ops_can_be_declared():
    @ag.composed
    def doubled_for_a_test(x):
        return x + x

    try:
        assert ag.param([1.5]).doubled_for_a_test().tensor.tolist() == [3.0]
    finally:
        del ag.methods["doubled_for_a_test"]
