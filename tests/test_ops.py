"""Every op of the registry on every one of its samples. A new op is tested by having samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from formulas import DIFFERENT, FORMULAS

import ag
import ownt
from ownt import random

CASES = [pytest.param(op, sample, id=f"{op.name}-{sample}") for op in ag.registry.values() for sample in op.samples]
GRADIENTS = [case for case in CASES if case.values[0].rule is not None]


def call(op: ag.Op, args: list[Any], options: dict[str, Any]) -> ag.Node:
    return op(args, **options) if op.variadic else op(*args, **options)


def arguments(op: ag.Op, sample: Any, dtype: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a sample, a list of tensors spread."""
    args, options = sample.make(dtype)
    return (args[0] if op.variadic else args), options


def leaves(args: list[Any]) -> list[Any]:
    return [ag.param(a) if isinstance(a, ownt.Tensor) and ownt.dtype.is_float(a.dtype) else a for a in args]


def gradients(nodes: list[Any]) -> list[np.ndarray]:
    return [n.grad.numpy().copy() for n in nodes if isinstance(n, ag.Node) and n.grad is not None]


def ones(y: ag.Node) -> ownt.Tensor:
    return ownt.ones(y.shape, dtype=y.dtype)


def test_every_op_has_samples_and_a_formula():
    for name, op in ag.registry.items():
        assert op.samples, f"{name} has no samples: give it some beside its gradient"
        assert (name in FORMULAS) != (name in DIFFERENT), f"{name}: write it again in tests/formulas.py"
        assert op.__doc__ and "Shapes:" in op.__doc__, f"{name}: its docstring gives no shapes"


def check_value(op, sample):
    args, options = arguments(op, sample, "float64")
    plain = [a.numpy().copy() if isinstance(a, (ownt.Tensor, ag.Node)) else a for a in args]
    expected = FORMULAS[op.name](*plain, **options)
    y = call(op, args, options)
    assert y.shape == np.shape(expected)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-13)


def check_gradient(op, sample):
    args, options = arguments(op, sample, "float64")
    state = random.generator.state

    def function(*args):
        random.generator.state = state
        return call(op, list(args), options)

    assert ag.gradcheck(function, args)


@pytest.mark.parametrize(("op", "sample"), [case for case in CASES if case.values[0].name in FORMULAS])
def test_value_equals_the_formula(op, sample):
    check_value(op, sample)


@pytest.mark.parametrize(("op", "sample"), GRADIENTS)
def test_gradient_equals_finite_differences(op, sample):
    check_gradient(op, sample)


@pytest.mark.parametrize(("op", "sample"), GRADIENTS)
def test_float32_stays_float32_and_near_float64(op, sample):
    found = {}
    for dtype in ("float32", "float64"):
        ownt.manual_seed(1)
        nodes, options = arguments(op, sample, dtype)
        nodes = leaves(nodes)
        y = call(op, nodes, options)
        assert y.dtype == dtype
        y.backward(ones(y))
        assert all(n.grad is None or n.grad.dtype == dtype for n in nodes if isinstance(n, ag.Node))
        found[dtype] = [y.numpy().copy(), *gradients(nodes)]
    for single, double in zip(found["float32"], found["float64"], strict=True):
        np.testing.assert_allclose(single, double, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("op", "sample"), GRADIENTS)
def test_a_second_backward_adds(op, sample):
    """Every kernel writes over its destination when beta is 0 and adds when it is 1."""
    args, options = arguments(op, sample, "float64")
    nodes, state = leaves(args), random.generator.state
    found = []
    for _ in range(2):
        random.generator.state = state
        y = call(op, nodes, options)
        y.backward(ones(y))
        found.append(gradients(nodes))
    for once, twice in zip(*found, strict=True):
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("op", "sample"), GRADIENTS)
def test_inputs_of_any_strides_and_windows_of_any_strides(op, sample):
    """Inputs that are strided views of a leaf: the same values, and gradients that arrive through the view."""
    args, options = arguments(op, sample, "float64")
    state, plain = random.generator.state, leaves(args)
    y = call(op, plain, options)
    y.backward(ones(y))
    bases, views = [], []
    for a in args:
        if isinstance(a, ownt.Tensor) and a.dtype.kind == "f" and a.ndim:
            base = ag.param(ownt.full((*a.shape[:-1], 2 * a.shape[-1] + 1), np.nan, dtype="float64"))
            base.tensor[..., 1::2] = a
            bases.append(base)
            views.append(base[..., 1::2])
        else:
            views.append(a)
    random.generator.state = state
    z = call(op, views, options)
    np.testing.assert_allclose(z.numpy(), y.numpy(), rtol=1e-12, atol=1e-13)
    if bases:
        z.backward(ones(z))
    expected = [n for n, a in zip(plain, args) if isinstance(n, ag.Node) and n.requires_grad and a.ndim]
    for node, base in zip(expected, bases, strict=True):
        if node.grad is not None:
            np.testing.assert_allclose(base.grad.numpy()[..., 1::2], node.grad.numpy(), rtol=1e-12, atol=1e-13)
            assert not base.grad.numpy()[..., ::2].any()


@pytest.mark.parametrize(("op", "sample"), [case for case in CASES if case.values[0].name != "cached_attention"])
def test_inputs_are_left_as_they_are_and_scratch_is_empty_after(op, sample):
    args, options = arguments(op, sample, "float64")
    before = [a.numpy().copy() if isinstance(a, ownt.Tensor) else a for a in args]
    with ownt.scratch.mark():
        nodes = leaves(args)
        y = call(op, nodes, options)
        if y.requires_grad:
            y.backward(ones(y))
        del y
    for a, b in zip(args, before):
        if isinstance(a, ownt.Tensor):
            np.testing.assert_array_equal(a.numpy(), b)


@pytest.mark.parametrize(("op", "sample"), GRADIENTS)
def test_only_wanted_gradients_are_made(op, sample):
    args, options = arguments(op, sample, "float64")
    for wanted, arg in enumerate(args):
        if isinstance(arg, ownt.Tensor) and arg.dtype.kind == "f":
            grown, expected = gradient_bytes_for(op, args, options, wanted)
            assert grown == expected


def gradient_bytes_for(op, args, options, wanted):
    """By how much gradients grow in the ledger when one argument alone is a parameter; and by how much they should."""
    before = ownt.memory.ledger.by_kind()["gradient"]
    nodes = [ag.param(a) if i == wanted else a for i, a in enumerate(args)]
    y = call(op, nodes, options)
    y.backward(ones(y))
    return ownt.memory.ledger.by_kind()["gradient"] - before, nodes[wanted].nbytes


def test_dropout_zeroes_scales_and_has_the_same_mask_in_the_gradient():
    x = ag.param(ownt.ones(100_000))
    y = x.dropout(0.3)
    values = y.numpy().copy()
    assert set(np.unique(values).tolist()) == {0.0, np.float32(1 / 0.7)}
    assert abs((values == 0).mean() - 0.3) < 0.01
    y.backward(ownt.ones(100_000))
    np.testing.assert_array_equal(x.grad.numpy(), values)
    assert not np.array_equal(x.dropout(0.3).numpy(), values)


def test_dropout_of_strided_and_of_contiguous_memory_draws_the_same():
    ownt.manual_seed(2)
    a = ag.dropout(ownt.ones((300, 400)), 0.5).numpy().copy()
    ownt.manual_seed(2)
    np.testing.assert_array_equal(ag.dropout(ownt.ones((400, 300)).T, 0.5).numpy(), a)


@pytest.mark.parametrize("shape", [(200_000,), (3, 70_000), (70_000, 3), (5, 200, 201)])
def test_elementwise_in_pieces_equals_the_whole(shape):
    x, y = ownt.randn(shape, dtype="float64"), ownt.randn(shape[-1], dtype="float64")
    np.testing.assert_array_equal(ag.mul(x, y).numpy(), x.numpy() * y.numpy())
    np.testing.assert_array_equal(ag.add(x, x.transpose().transpose()).numpy(), 2 * x.numpy())
    np.testing.assert_array_equal(ag.neg(x[..., ::-1]).numpy(), -x.numpy()[..., ::-1])
    w = ag.param(x)
    ag.sum(w * y).backward()
    np.testing.assert_array_equal(w.grad.numpy(), np.broadcast_to(y.numpy(), shape))
