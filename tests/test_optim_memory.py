"""Promises about the bytes of optimizers, each with a control: a rule that makes its state anew must fail them."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from optimizer_rules import RULES

import ag
import nn
import ownt
from ownt.memory import ledger

pytestmark = pytest.mark.memory


class Forgetful(nn.Adam):
    """The control: it makes its state anew at each step, and keeps the old."""

    def step(self):
        super().step()
        for node, state in self.state.items():
            self.old = (*getattr(self, "old", ()), state["exp_avg"])
            state["exp_avg"] = state["exp_avg"].clone()
            state["exp_avg"].block.rebook("optimizer", node.name)


CASES = {name: (kind, options, copies) for name, (kind, _, options, copies) in RULES.items()}


def trained(kind, options, dtype, steps):
    """(bytes of state by parameter, addresses, live bytes, all after each step), the parameters, by name"""
    model = nn.MLP([7, 33, 5], dtype=dtype)
    optimizer = kind(model.parameters(), lr=1e-3, **options)
    x, y = ownt.randn(4, 7, dtype=dtype), [0, 1, 2, 3]
    gc.collect()
    before = optimizer_bytes()
    seen = []
    for _ in range(steps):
        with ownt.scratch.mark():
            ag.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        now = optimizer_bytes()
        booked = {node.name: now.get(node.name, 0) - before.get(node.name, 0) for node in optimizer.parameters}
        seen.append((booked, addresses(optimizer), ledger.live))
    return seen, {node.name: node for node in optimizer.parameters}


def optimizer_bytes():
    return {path: count for (kind, path), count in ledger.by_account().items() if kind == "optimizer"}


def addresses(optimizer):
    states = (state.items() for state in optimizer.state.values())
    return [tensor.numpy().ctypes.data for state in states for name, tensor in state if name != "step"]


def is_exact(seen, expected):
    return all(booked == expected for booked, _, _ in seen)


def is_steady(seen):
    return all(where == seen[0][1] and live == seen[0][2] for _, where, live in seen)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("kind", "options", "copies"), CASES.values(), ids=CASES)
def test_the_state_is_a_whole_number_of_copies_of_the_parameters_and_stays_where_it_is(kind, options, copies, dtype):
    seen, nodes = trained(kind, options, dtype, 200)
    assert is_exact(seen, {name: copies * node.nbytes for name, node in nodes.items()})
    assert is_steady(seen)
    assert len(seen[0][1]) == copies * len(nodes)


@pytest.mark.parametrize(("kind", "options", "copies"), CASES.values(), ids=CASES)
def test_of_float16_it_is_as_much_again_in_float32_and_a_master(kind, options, copies):
    seen, nodes = trained(kind, options, "float16", 50)
    assert is_exact(seen, {name: 2 * (copies + 1) * node.nbytes for name, node in nodes.items()})
    assert is_steady(seen)


def test_a_rule_that_makes_its_state_anew_is_seen():
    seen, nodes = trained(Forgetful, {}, "float32", 5)
    assert not is_exact(seen, {name: 2 * node.nbytes for name, node in nodes.items()})
    assert not is_steady(seen)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("kind", "options", "copies"), CASES.values(), ids=CASES)
def test_a_step_takes_no_memory_of_a_parameters_size(kind, options, copies, dtype):
    node = ag.param(np.ones((1000, 2000), dtype))
    node.grad = ownt.ones(1000, 2000).astype(dtype)
    optimizer = kind([node], **options)
    optimizer.step()
    assert peak(optimizer.step) < node.nbytes / 4
    assert peak(lambda: node.numpy() - node.grad.numpy()) >= node.nbytes  # the control: an update as one expression


def peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_loading_a_state_allocates_what_it_needs_once():
    first, second = (ag.param(np.ones((50, 60), "float32")) for _ in range(2))
    first.grad = ownt.ones(50, 60)
    source, target = nn.Adam([first]), nn.Adam([second])
    source.step()
    live = ledger.live
    for _ in range(3):
        target.load_state_dict(source.state_dict())
        gc.collect()
        assert ledger.live - live == 2 * second.nbytes
