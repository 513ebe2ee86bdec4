"""Indices of all integers, of every op that takes some: the kernels read them as they are."""

from __future__ import annotations

import numpy as np
import pytest
from compile_for_cpu import missing
from simulated import simulated

import ag
import ownt
from ag.ops import embedding, ranges
from ownt.kernel import Out

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]

RANDOM = np.random.default_rng(1)
INDICES = RANDOM.integers(0, 100, (40, 3))
CALLS = {
    "cross_entropy": (lambda x, i: ag.cross_entropy(x, i.view((120,))[:40], ignore_index=3), (40, 100), "row_losses"),
    "cross_entropy of weights": (
        lambda x, i: ag.cross_entropy(x, i.view((120,))[:40], 3, "mean", 0.1, ag.exp(x[0].detach())),
        (40, 100), "row_slopes",
    ),
    "nll_loss": (lambda x, i: ag.nll_loss(x, i.view((120,))[:40]), (40, 100), "nll_backward"),
    "embedding": (lambda x, i: ag.embedding(i, x), (100, 8), "sort_by_digit"),
    "gather": (lambda x, i: ag.gather(x, 1, i), (40, 100), "gather_vjp"),
    "index": (lambda x, i: x[i], (100, 8), "row_numbers"),
}  # fmt: skip


def of_call(name, device, dtype):
    """The value of a call, and the gradient of its sum of squares."""
    call, shape, _ = CALLS[name]
    x = ag.param(ownt.asarray(np.random.default_rng(2).standard_normal(shape)).to(device))
    y = call(x, ownt.asarray(INDICES.astype(dtype)).to(device))
    (y * y).sum().backward()
    return y.numpy(), x.grad.numpy()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("name", CALLS)
def test_kernels_take_all_integers(name, dtype):
    simulated.launched = set()
    for found, wanted in zip(of_call(name, "simulated", dtype), of_call(name, "cpu", "int64"), strict=True):
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-6)
    launched = {kernel for _, kernel, _ in simulated.launched}
    assert {CALLS[name][2], "first_out_of_range"} <= launched


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 255), ("int8", -1), ("uint16", 65535), ("uint32", 1 << 31)])
def test_what_is_out_of_range_is_said_as_it_is(dtype, value):
    indices = ownt.asarray(np.array([0, value], dtype)).to("simulated")
    ranges.check_range("embedding", "indices", indices, 5)
    with pytest.raises(IndexError, match=f"got {min(value, (1 << 31) - 1)} at"):
        simulated.synchronize()


def test_rows_that_kernels_decline_are_added_one_by_one():
    """Not as differences of a running sum, through which a NaN would spread."""
    g = np.ones((6, 4), "float32")
    g[2] = np.nan
    indices = ownt.asarray(np.array([1, 0, 3, 1, 2, 3], "uint64")).to("simulated")
    table = ownt.asarray(np.zeros((5, 4), "float32")).to("simulated")
    embedding.embedding_vjp(ownt.asarray(g).to("simulated"), indices, out=Out(table, 1))
    np.testing.assert_array_equal(table.numpy()[:, 0], [1, 2, 1, np.nan, 0])
