"""Clipping of gradients by their norm and by value: numbers, memory, NaN and Inf, errors."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from optimizer_rules import drawn

import ag
import nn
import ownt

SHAPES = ((3, 4), (5,), (), (0, 2), (300, 200))
NORMS = {
    1.0: lambda g: abs(g).sum(),
    2.0: lambda g: math.sqrt((g**2).sum()),
    3.0: lambda g: (abs(g) ** 3).sum() ** (1 / 3),
    math.inf: lambda g: abs(g).max(),
}


def made(dtype="float64"):
    """Parameters, of which the last has no gradient, and copies of the gradients."""
    nodes = [ag.param(np.zeros(shape, dtype)) for shape in (*SHAPES, (2,))]
    grads = [drawn(shape, seed).astype(dtype) for seed, shape in enumerate(SHAPES)]
    for node, g in zip(nodes, grads):
        node.grad = ownt.asarray(g.copy())
    return nodes, grads


def with_gradient(*values):
    node = ag.param(np.zeros(len(values)))
    node.grad = ownt.asarray(np.array(values))
    return node


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 1e6])
def test_clipping_scales_all_gradients_together_down_to_the_norm(max_norm, norm_type, dtype):
    nodes, grads = made(dtype)
    wheres = [node.grad.numpy().ctypes.data for node in nodes[:-1]]
    norm = NORMS[norm_type](np.concatenate([g.ravel().astype("float64") for g in grads]))
    assert nn.clip_grad_norm_(iter(nodes), max_norm, norm_type) == pytest.approx(norm, rel=1e-13)
    factor = min(1, max_norm / norm)
    for node, g, where in zip(nodes, grads, wheres):
        precision = {"rtol": 5e-4, "atol": 3e-8} if dtype == "float16" else {"rtol": 2e-6}
        np.testing.assert_allclose(node.grad.numpy(), g.astype("float64") * factor, **precision)
        assert node.grad.numpy().ctypes.data == where
        assert max_norm < norm or np.array_equal(node.grad.numpy(), g)
    assert nodes[-1].grad is None


def test_a_tied_parameter_counts_once_and_a_parameter_may_come_alone():
    node = with_gradient(3.0, 4.0)
    assert nn.clip_grad_norm_([node, node], 10) == 5
    assert nn.clip_grad_norm_(node, 10) == 5


@pytest.mark.parametrize("norm_type", NORMS)
def test_clipping_without_gradients_gives_no_norm(norm_type):
    assert nn.clip_grad_norm_([ag.param(np.ones(2))], 1.0, norm_type) == 0


def test_without_gradients_nothing_is_limited():
    nn.clip_grad_value_([ag.param(np.ones(2))], 1.0)


@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("others", [(), (1.0,)])
def test_a_norm_of_nan_makes_all_gradients_nan(others, norm_type):
    nodes = [with_gradient(1.0, math.nan), with_gradient(1.0, *others)]
    assert math.isnan(nn.clip_grad_norm_(nodes, 1.0, norm_type))
    assert all(np.isnan(node.grad.numpy()).all() for node in nodes)


@pytest.mark.parametrize("norm_type", NORMS)
def test_an_infinite_norm_makes_finite_gradients_zero(norm_type):
    nodes = [with_gradient(-math.inf, 1.0), with_gradient(2.0)]
    assert nn.clip_grad_norm_(nodes, 1.0, norm_type) == math.inf
    assert np.array_equal(nodes[0].grad.numpy(), [math.nan, 0], equal_nan=True)
    assert nodes[1].grad.tolist() == [0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_is_an_error_where_wanted(bad):
    node = with_gradient(1.0, bad)
    with pytest.raises(RuntimeError, match=rf"clip_grad_norm_: expected gradients of a finite norm; got {bad}"):
        nn.clip_grad_norm_([node], 1.0, error_if_nonfinite=True)
    assert np.array_equal(node.grad.numpy(), [1, bad], equal_nan=True)
    assert nn.clip_grad_norm_([with_gradient(3.0, 4.0)], 1.0, error_if_nonfinite=True) == 5


def test_the_norm_of_large_float32_numbers_does_not_overflow():
    node = ag.param(np.zeros(4, "float32"))
    node.grad = ownt.asarray(np.full(4, 1e30, "float32"))
    assert nn.clip_grad_norm_([node], 1.0) == pytest.approx(2e30)
    np.testing.assert_allclose(node.grad.numpy(), 0.5, rtol=1e-6)


def test_a_factor_too_small_for_float16_is_none_too_small():
    node = ag.param(np.zeros(1, "float16"))
    node.grad = ownt.asarray(np.array([6e4], "float16"))
    nn.clip_grad_norm_([node], 6e-4)
    assert node.grad.item() == pytest.approx(6e-4, rel=1e-3)
    assert np.float16(6e4) * np.float16(1e-8) == 0  # the control: the product of float16


def test_clipping_in_bfloat16():
    node = ag.param(ownt.zeros(4, dtype="bfloat16"))
    node.grad = ownt.asarray(np.array([3.0, -4.0, 0.0, 0.0], "float32")).astype("bfloat16")
    assert nn.clip_grad_norm_(node, 1.0) == 5
    assert node.grad.tolist() == pytest.approx([0.6, -0.8, 0, 0], rel=2**-8)
    nn.clip_grad_value_(node, 0.5)
    assert node.grad.tolist() == [0.5, -0.5, 0, 0]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_clipping_by_value(dtype):
    nodes, grads = made(dtype)
    where = nodes[0].grad.numpy().ctypes.data
    nn.clip_grad_value_(nodes, 0.5)
    for node, g in zip(nodes, grads):
        assert np.array_equal(node.grad.numpy(), np.clip(g, -0.5, 0.5))
    assert nodes[0].grad.numpy().ctypes.data == where
    assert nodes[-1].grad is None
    nn.clip_grad_value_(nodes, 1e9)
    assert np.array_equal(nodes[0].grad.numpy(), np.clip(grads[0], -0.5, 0.5))
    node = with_gradient(math.nan, math.inf, -math.inf, 0.1)
    nn.clip_grad_value_(node, 0.5)
    assert np.array_equal(node.grad.numpy(), [math.nan, 0.5, -0.5, 0.1], equal_nan=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: nn.clip_grad_norm_(p, -1.0), "clip_grad_norm_: expected max_norm of 0 or more; got -1.0"),
        (lambda p: nn.clip_grad_norm_(p, math.nan), "clip_grad_norm_: expected max_norm of 0 or more; got nan"),
        (lambda p: nn.clip_grad_norm_(p, 1.0, 0), "clip_grad_norm_: expected norm_type above 0, or inf; got 0"),
        (lambda p: nn.clip_grad_norm_(p, 1.0, math.nan), "clip_grad_norm_: expected norm_type above 0, or inf"),
        (lambda p: nn.clip_grad_value_(p, -1.0), "clip_grad_value_: expected clip_value of 0 or more; got -1.0"),
        (lambda p: nn.clip_grad_value_(p, math.nan), "clip_grad_value_: expected clip_value of 0 or more; got nan"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call([with_gradient(1.0)])


@pytest.mark.memory
@pytest.mark.parametrize("clip", [nn.clip_grad_norm_, nn.clip_grad_value_])
def test_clipping_takes_no_memory_of_a_gradients_size(clip):
    node = ag.param(np.ones((1000, 2000), "float32"))
    node.grad = ownt.ones(1000, 2000)

    def peak(call):
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(lambda: clip([node], 0.5)) < node.nbytes / 4
    assert peak(lambda: node.grad.numpy() * 0.5) >= node.nbytes  # the control: clipping as one expression
