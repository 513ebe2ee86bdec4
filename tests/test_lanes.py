"""Vectors in compiled kernels, lane by lane against NumPy."""

import numpy
import pytest

pytest.importorskip("numba")

from ownt.compiled_cpu import compiled
from ownt.lanes_columns_cpu import load_columns, store_columns, transpose
from ownt.lanes_cpu import (
    each,
    fill,
    from_lane,
    gather,
    lanes,
    larger,
    load,
    load_some,
    scatter,
    smaller,
    store,
    store_some,
    total,
)  # fmt: skip
from ownt.lanes_math_cpu import exp, log

pytestmark = pytest.mark.parametrize("dtype", [numpy.float32, numpy.float64], ids=["float32", "float64"])


@compiled("void(real[::1], real[::1], real[:, ::1])")
def arithmetic(x, y, out):
    n = lanes(x)
    a, b = load(x, 1), load(y, 2)
    for row, value in enumerate((a + b, a - b, a * b, a / b, larger(a, b), smaller(a, b), each(x, 3), fill(x, 0.5))):
        store(out, row * n, value)


@compiled("void(real[::1], real[::1])")
def powers(x, out):
    for i in range(0, x.size, lanes(x)):
        store(out, i, exp(load(x, i)))


@compiled("void(real[::1], real[::1])")
def logarithms(x, out):
    for i in range(0, x.size, lanes(x)):
        store(out, i, log(load(x, i)))


@compiled("void(real[:, ::1], real[:, ::1], int64, int64)")
def column(x, out, j, count):
    """out[:count, j] = x[:count, j], by lanes"""
    scatter(out, j, x.shape[1], count, gather(x, j, x.shape[1], count) + fill(x, 1))


@compiled("void(real[::1], real[::1], int64)")
def later(x, out, first):
    store(out, 0, from_lane(first, load(x, 0), fill(x, -1)))


@compiled("void(real[::1], real[::1], int64)")
def some(x, out, count):
    """out[1 : 1 + count] = x[2 : 2 + count] + 1, and out[0] the sum of these x"""
    found = load_some(x, 2, count)
    store_some(out, 1, count, found + fill(x, 1))
    out[0] = total(found)


def lane_count(dtype):
    return 64 // numpy.dtype(dtype).itemsize


def test_arithmetic_is_of_each_lane(dtype):
    n = lane_count(dtype)
    x, y = numpy.random.default_rng(0).standard_normal((2, n + 2)).astype(dtype)
    x[4], y[6] = numpy.nan, numpy.nan
    out = numpy.zeros((8, n), dtype)
    arithmetic[numpy.dtype(dtype), False](x, y, out)
    a, b = x[1 : n + 1], y[2 : n + 2]
    expected = [a + b, a - b, a * b, a / b, numpy.where(a < b, b, a), numpy.where(a > b, b, a)]
    expected += [numpy.full(n, x[3]), numpy.full(n, 0.5)]
    numpy.testing.assert_allclose(out, numpy.array(expected, dtype), rtol=4 * numpy.finfo(dtype).eps)


def test_exp(dtype):
    x = numpy.concatenate([numpy.linspace(-87, 88, 2041), [0, -1000, 1000, numpy.nan, numpy.inf, -numpy.inf, -0.0]])
    x = x.astype(dtype)
    out = numpy.empty_like(x)
    powers[x.dtype, False](x, out)
    with numpy.errstate(over="ignore"):
        numpy.testing.assert_allclose(out, numpy.exp(x), rtol=4e-7)


def test_log(dtype):
    x = numpy.concatenate([numpy.geomspace(1e-30, 1e30, 4001), numpy.linspace(0.5, 2.5, 4094), [1.0]])
    x = x.astype(dtype)
    out = numpy.empty_like(x)
    logarithms[x.dtype, False](x, out)
    numpy.testing.assert_allclose(out, numpy.log(x), rtol=3e-7, atol=1e-37)
    x[:] = numpy.nan
    logarithms[x.dtype, False](x, out)
    assert numpy.isnan(out).all()


@pytest.mark.parametrize("count", [0, 1, 5, None])
def test_gather_and_scatter_touch_so_many_and_no_more(dtype, count):
    n = lane_count(dtype)
    count = n if count is None else count
    rows = max(count, 1)  # what lies beyond is not ours to read
    x = numpy.random.default_rng(0).standard_normal((rows, 3)).astype(dtype)
    out = numpy.zeros((n + 1, 3), dtype)
    column[x.dtype, False](x, out, 1, count)
    expected = numpy.zeros_like(out)
    expected[:count, 1] = x[:count, 1] + 1
    numpy.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("first", [-2, 0, 3, 100])
def test_from_lane(dtype, first):
    n = lane_count(dtype)
    x, out = numpy.arange(n, dtype=dtype), numpy.empty(n, dtype)
    later[x.dtype, False](x, out, first)
    numpy.testing.assert_array_equal(out, numpy.where(numpy.arange(n) >= first, x, -1))


@pytest.mark.parametrize("count", [0, 1, 5, 7, None, 99])
def test_some_touch_so_many_and_no_more(dtype, count):
    n = lane_count(dtype)
    touched = min(n, n if count is None else count)
    x = numpy.random.default_rng(0).standard_normal(n + 2).astype(dtype)
    out = numpy.full(n + 2, -5, dtype)
    some[numpy.dtype(dtype), False](x, out, n if count is None else count)
    numpy.testing.assert_array_equal(out[1 : 1 + touched], x[2 : 2 + touched] + 1)
    assert (out[1 + touched :] == -5).all()
    numpy.testing.assert_allclose(out[0], x[2 : 2 + touched].sum(), rtol=1e-5, atol=1e-6)


@compiled("void(real[:, ::1], real[::1], real[:, ::1], int64, int64, int64, int64, int64)")
def columns(x, work, out, row, column, count, width, beta):
    """work = columns of x, one after the other; the same columns of out = theirs, or more by them"""
    at = row * x.shape[1] + column
    load_columns(work, 0, x, at, x.shape[1], count, width)
    store_columns(out, at, x.shape[1], count, width, beta, work, 0)


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize("width", [1, 3, 4, 7, 8, 16, 21, 32])
@pytest.mark.parametrize("count", [None, 1, 5])
def test_columns_are_loaded_and_stored(dtype, count, width, beta):
    n = lane_count(dtype)
    count = count or n
    x, out = numpy.random.default_rng(0).standard_normal((2, n + 3, 40)).astype(dtype)
    work, before = numpy.full(n * width, numpy.nan, dtype), out.copy()
    columns[numpy.dtype(dtype), False](x, work, out, 2, 5, count, width, beta)
    part = slice(2, 2 + count), slice(5, 5 + width)
    numpy.testing.assert_array_equal(work.reshape(width, n)[:, :count].T, x[part])
    assert not work.reshape(width, n)[:, count:].any()
    before[part] = x[part] + (before[part] if beta else 0)
    numpy.testing.assert_array_equal(out, before)


@compiled("void(real[:, ::1], real[:, ::1])")
def turned(x, out):
    transpose(out, 2, out.shape[1], x, 3, x.shape[1])


def test_a_square_is_transposed(dtype):
    n = lane_count(dtype)
    x, out = numpy.random.default_rng(0).standard_normal((n, n + 3)).astype(dtype), numpy.zeros((n, n + 5), dtype)
    turned[numpy.dtype(dtype), False](x, out)
    numpy.testing.assert_array_equal(out[:, 2 : n + 2], x[:, 3:].T)
    assert not out[:, :2].any()
    assert not out[:, n + 2 :].any()
