"""A small graph that is repeated, for the tests of walks."""

import numpy as np
import pytest

import ag
import ownt
from ag.walk import Walk
from ownt.thread import state

OFTEN = 6  # rounds after which places are known, if ops are watched at once


def leaf(*shape, value=1.0):
    return ag.param(np.full(shape, value, "float32"))


def walks():
    return [found for found in state.plans.values() if type(found) is Walk]


class Net:
    """A small graph that is repeated: views, a leaf that is used twice, one that is added to."""

    def __init__(self, seed=0):
        numbers = np.random.default_rng(seed)
        shapes = {"x": (4, 6), "w": (6, 6), "b": (6,), "table": (8, 6)}
        self.leaves = {name: ag.param(numbers.normal(size=shape).astype("float32")) for name, shape in shapes.items()}
        self.seed = ownt.ones(2, 6)

    def forward(self):
        x, w, b, table = self.leaves.values()
        y = ag.linear(ag.gelu(x), w, b) + table[2:6]
        upper, lower = y[:2], y[2:]
        return ag.gelu(lower) + upper * 2.0 + ag.linear(x, w).reshape(2, 2, 6)[1]

    def backward(self):
        y = self.forward()
        y.backward(self.seed)
        return {name: node.grad.numpy().copy() for name, node in self.leaves.items()}

    def clear(self):
        ag.zero_grad(self.leaves.values())

    def run(self):
        self.clear()
        return self.backward()


def same(found, wanted):
    return all((found[name] == wanted[name]).all() for name in wanted)


@pytest.fixture
def net(at_once):
    """One whose walk knows its places."""
    made = Net()
    made.first = made.run()
    for _ in range(OFTEN):
        assert same(made.run(), made.first)
    assert [bool(walk._places) for walk in walks()] == [True]
    made.clear()
    return made
