"""Properties that hold for any input: arenas under random use, broadcasting, random graphs."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ag
import ownt

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(st.lists(st.tuples(st.integers(0, 5000), st.booleans(), st.integers(0, 99)), max_size=80))
def test_an_arena_never_overlaps_and_gets_everything_back(requests):
    """Each tensor keeps the value written to it for as long as it is held."""
    arena = ownt.Arena(chunk_bytes=8192)
    held: list[tuple[ownt.Tensor, int]] = []
    for size, free, which in requests:
        value = len(held) % 120
        held.append((arena.empty((size,), "int8").fill_(value), value))
        if free:
            held.pop(which % len(held))
        for tensor, expected in held:
            assert (tensor.numpy() == expected).all()
        assert arena.used == sum(max(64, -(-t.nbytes // 64) * 64) for t, _ in held)
    tensor = None
    held.clear()
    assert arena.used == 0
    assert all(size <= arena.capacity for _, size in arena.addresses())
    assert sum(size for _, size in arena.addresses()) == arena.capacity


@SETTINGS
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4))
def test_broadcast_gradients_have_the_operands_shapes_and_sums(shapes):
    (first, second), result = shapes.input_shapes, shapes.result_shape
    a, b = ag.param(ownt.randn(first, dtype="float64")), ag.param(ownt.randn(second, dtype="float64"))
    y = a * b
    assert y.shape == result
    seed = ownt.randn(result, dtype="float64")
    y.backward(seed)
    for leaf, other in ((a, b), (b, a)):
        full = np.broadcast_to(seed.numpy() * other.numpy(), result)
        extra = len(result) - len(leaf.shape)
        axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(leaf.shape) if n == 1)
        expected = full.sum(axis=axes, keepdims=True).reshape(leaf.shape)
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-12, atol=1e-12)


UNARY = [ag.tanh, lambda x: x * x, lambda x: x + 1.0, lambda x: x[::-1], lambda x: x.T, lambda x: x.reshape(3, 3) * 0.5]
BINARY = [ag.add, ag.sub, ag.mul, ag.matmul, lambda a, b: ag.concat([a[:2], b[2:]]), lambda a, b: a[1] + b]


@SETTINGS
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 99), st.integers(0, 99)), max_size=12))
def test_random_graphs_agree_with_finite_differences_and_hold_no_more_than_their_parameters(steps):
    """Graphs of views, shared nodes and copies: the gradient along a random direction, and the bytes."""
    leaves = [ag.param(ownt.randn(3, 3, dtype="float64")) for _ in range(2)]
    for leaf in leaves:
        leaf.tensor *= 0.4

    def loss() -> ag.Node:
        nodes = list(leaves)
        for unary, which, i, j in steps:
            a, b = nodes[i % len(nodes)], nodes[j % len(nodes)]
            nodes.append(ag.tanh(UNARY[which](a) if unary else BINARY[which](a, b)))
        return ag.sum(ag.concat(nodes))

    before = ownt.memory.ledger.by_kind()["gradient"]
    with ownt.scratch.mark():
        value = loss()
        value.backward()
        del value
    assert ownt.memory.ledger.by_kind()["gradient"] - before == sum(leaf.nbytes for leaf in leaves)
    directions = [ownt.randn(3, 3, dtype="float64") for _ in leaves]
    analytic = sum((leaf.grad.numpy() * d.numpy()).sum() for leaf, d in zip(leaves, directions))
    values = []
    for sign in (1, -1, -1):
        for leaf, d in zip(leaves, directions):
            leaf.tensor += sign * 1e-6 * d.numpy()
        values.append(loss().item())
    np.testing.assert_allclose(analytic, (values[0] - values[2]) / 2e-6, rtol=1e-6, atol=1e-7)
