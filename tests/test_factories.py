"""Factories and the random numbers behind them."""

from __future__ import annotations

import numpy as np
import pytest

import ownt
from ownt import random


@pytest.mark.parametrize("make", [ownt.empty, ownt.zeros, ownt.ones, ownt.rand, ownt.randn])
def test_shapes_as_a_tuple_or_as_integers(make):
    assert make((2, 3)).shape == make(2, 3).shape == make([2, 3]).shape == (2, 3)
    assert make(()).shape == make().shape == ()
    assert make(4).shape == (4,)
    assert make(2, dtype="float64").dtype == "float64"
    assert make(2).dtype == "float32"
    assert make(0, 3).size == 0


def test_values():
    np.testing.assert_array_equal(ownt.zeros(2).numpy(), [0, 0])
    np.testing.assert_array_equal(ownt.ones(2).numpy(), [1, 1])
    np.testing.assert_array_equal(ownt.full((2, 2), 3.5).numpy(), [[3.5, 3.5]] * 2)
    np.testing.assert_array_equal(ownt.full(2, 2, 3.5).numpy(), [[3.5, 3.5]] * 2)
    assert [ownt.full(1, value).dtype.name for value in (1, 1.0, True)] == ["int64", "float32", "bool"]


@pytest.mark.parametrize("bounds", [(5,), (2, 7), (0, 1, 0.25), (5, 0, -2), (3, 3), (1, -1)])
def test_arange_is_numpys(bounds):
    made = ownt.arange(*bounds, dtype="float64")
    np.testing.assert_allclose(made.numpy(), np.arange(*bounds, dtype="float64"), rtol=1e-15)


def test_arange_dtypes():
    assert ownt.arange(3).dtype == "int64"
    assert ownt.arange(3.0).dtype == "float32"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ownt.zeros(-1), ValueError, "expected sizes of 0 or more"),
        (lambda: ownt.zeros(2.5), TypeError, "integer"),
        (lambda: ownt.zeros(2, device="abacus"), ValueError, "unknown device 'abacus': expected one of cpu"),
        (lambda: ownt.zeros(2, dtype="str"), TypeError, "unknown dtype"),
        (lambda: ownt.zeros(2, kind="junk"), ValueError, "unknown kind of memory 'junk'"),
        (lambda: ownt.rand(2, dtype="int64"), TypeError, "expected a float dtype; got int64"),
        (lambda: ownt.randint(3, 3, 2), ValueError, "expected low < high; got low=3, high=3"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_seeded_generator():
    ownt.manual_seed(5)
    first, second = ownt.randn(4).numpy().copy(), ownt.randn(4).numpy().copy()
    assert not np.array_equal(first, second)
    ownt.manual_seed(5)
    np.testing.assert_array_equal(ownt.randn(4).numpy(), first)
    ownt.manual_seed(6)
    assert not np.array_equal(ownt.randn(4).numpy(), first)


def test_draws_of_different_kinds_share_no_output():
    """Each draw takes a stretch of the counter that nobody else gets."""
    taken = []
    for make in (lambda: ownt.rand(5), lambda: ownt.randn(3), lambda: ownt.randint(0, 9, 4), lambda: ownt.randn(2)):
        before = random.generator.offset
        make()
        taken.append((before, random.generator.offset))
    assert all(first[1] <= second[0] for first, second in zip(taken, taken[1:]))


def test_bits_depend_on_the_counter_alone():
    """Splitmix64 by its definition, one number at a time; and any stretch equals that part of the whole."""
    ownt.manual_seed(3)
    key, mask = random.generator.key, (1 << 64) - 1

    def splitmix(i: int) -> int:
        z = (key + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    whole = random.bits(np, key, 0, 100)
    assert whole.tolist() == [splitmix(i) for i in range(100)]
    assert random.bits(np, key, 40, 10).tolist() == whole[40:50].tolist()
    assert random.bits(np, key, (1 << 33) + 1, 1).tolist() == [splitmix((1 << 33) + 1)]


def test_distributions():
    uniform, normal = ownt.rand(400_000, dtype="float64").numpy(), ownt.randn(400_000, dtype="float64").numpy()
    np.testing.assert_allclose([uniform.mean(), uniform.var()], [1 / 2, 1 / 12], atol=2e-3)
    np.testing.assert_allclose(
        [normal.mean(), normal.var(), (normal**3).mean(), (normal**4).mean()], [0, 1, 0, 3], atol=3e-2
    )
    counts = np.bincount(ownt.randint(-2, 5, 70_000).numpy() + 2, minlength=7)
    assert len(counts) == 7
    np.testing.assert_allclose(counts, 10_000, rtol=0.05)
    for dtype in ("float16", "float32", "float64"):
        values = ownt.rand(200_000, dtype=dtype).numpy()
        assert values.min() >= 0
        assert values.max() < 1


def test_large_draws_are_made_in_pieces_of_one_stream():
    ownt.manual_seed(1)
    large = ownt.rand(200_000, dtype="float64").numpy()
    ownt.manual_seed(1)
    key = random.generator.key
    np.testing.assert_array_equal(large, random.uniform(np, key, 0, 200_000))
