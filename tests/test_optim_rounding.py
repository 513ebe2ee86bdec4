"""Weights of bfloat16 without a master: rounded up or down at random, right on average."""

from __future__ import annotations

import numpy as np
import pytest
from optimizer_rules import OPTIMIZERS, drawn

import ag
import nn
import ownt
from nn.optim.rule import rounded
from ownt import random
from ownt.memory import ledger

BF16 = ownt.bfloat16


def parameter(values, dtype=BF16):
    return ag.param(np.asarray(values, "float32").astype(dtype), "w")


def step(optimizer, node, g):
    node.grad = ownt.asarray(np.broadcast_to(np.asarray(g, "float32"), node.shape).astype(node.dtype))
    optimizer.step()


def test_a_number_becomes_one_of_its_neighbours_in_proportion():
    for share in (0.0, 0.1, 0.5, 0.9):
        x = np.full(1 << 16, 1 + share * 2.0**-7, "float32")
        found = rounded(x, random.bits(np, 5, 0, x.size)).astype("float32")
        assert set(found) <= {1.0, 1 + 2.0**-7}
        assert abs((found > 1).mean() - share) < 0.01
        assert abs((rounded(-x, random.bits(np, 5, 0, x.size)).astype("float32") < -1).mean() - share) < 0.01


def test_numbers_that_bfloat16_has_stay_and_so_do_infinity_and_nan():
    x = np.array([0.0, -0.0, 1.5, -3.0, 2.0**-133, np.inf, -np.inf, np.nan], "float32")
    x = np.concatenate([x, np.array([0x7F800001, 0xFFFFFFFF], "uint32").view("float32")])
    with np.errstate(invalid="ignore"):
        for seed in range(20):
            found = rounded(x, random.bits(np, seed, 0, x.size))
            assert np.array_equal(found.view("uint16")[:7], x.astype(BF16).view("uint16")[:7])
            assert np.isnan(found[7:].astype("float32")).all()


@pytest.mark.parametrize("rounding", [False, True])
def test_updates_too_small_for_bfloat16_add_up_on_average(rounding):
    """With a master, which rounds to the nearest in the end, they do so exactly."""
    node = parameter(np.ones(40_000))
    used = nn.SGD([node], lr=1e-5, stochastic_rounding=rounding)
    for _ in range(50):
        step(used, node, 1.0)
    found = node.numpy().astype("float32")
    assert set(found) <= {1 - k * 2.0**-8 for k in range(50 if rounding else 1)}
    if rounding:
        assert found.mean() == pytest.approx(1 - 50e-5, abs=4e-5)
    else:
        assert used.state[node]["master"].numpy().mean() == pytest.approx(1 - 50e-5, abs=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_are_near_those_of_a_master(optimizer):
    found = []
    for rounding in (False, True):
        node = parameter(drawn((300, 7), 0))
        used = optimizer([node], lr=0.01, stochastic_rounding=rounding)
        for seed in range(1, 6):
            step(used, node, drawn((300, 7), seed))
        found.append(node.numpy().astype("float32"))
        kept = {name: value for name, value in used.state[node].items() if name != "step"}
        assert ("master" in kept) != rounding
        assert {value.dtype.name for value in kept.values()} <= {"float32"}
    assert (found[0] != found[1]).any()
    np.testing.assert_allclose(*found, rtol=5 * 2.0**-8, atol=0.05)


@pytest.mark.memory
def test_four_bytes_a_weight_are_saved():
    def kept(rounding):
        node = parameter(drawn((123, 45), 0))
        used = nn.AdamW([node], stochastic_rounding=rounding)
        before = ledger.by_kind().get("optimizer", 0)
        step(used, node, 1.0)
        return (ledger.by_kind()["optimizer"] - before) / node.size

    assert (kept(False), kept(True)) == (12, 8)


def test_float16_and_float32_are_not_rounded_so():
    half, single = parameter([1.0, 2.0], "float16"), parameter([1.0, 2.0], "float32")
    used = nn.AdamW([half, single], stochastic_rounding=True)
    before = random.generator.state
    step(used, half, 1.0)
    step(used, single, 1.0)
    assert random.generator.state == before
    assert "master" in used.state[half] and "master" not in used.state[single]


def test_the_numbers_drawn_are_those_of_the_seed_one_for_each_weight():
    def run():
        ownt.manual_seed(7)
        nodes = [parameter(drawn(shape, 0)) for shape in ((50,), (), (0,), (300, 200))]
        used = nn.SGD(nodes, lr=0.01, stochastic_rounding=True)
        for _ in range(2):
            for node in nodes:
                node.grad = ownt.asarray(drawn(node.shape, 1).astype(BF16))
            used.step()
        return [node.numpy().copy() for node in nodes], random.generator.state[1]

    (first, used), (second, _) = run(), run()
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert used == 2 * (50 + 1 + 60_000)


def test_a_replayed_step_draws_fresh_numbers_those_of_an_eager_one():
    def train(replays):
        ownt.manual_seed(3)
        node = parameter(np.ones(5000))
        used = nn.SGD([node], lr=1e-4, stochastic_rounding=True)

        def loss(x):
            return ag.dropout(node * x, 0.5).sum()

        recorded = nn.Step(loss, used)
        seen = []
        for length in (5000, 5000, 1, 5000, 1, 5000):  # two recordings that share what the optimizer keeps
            x = ownt.ones(length).astype(BF16)
            if replays:
                recorded(x)
                seen.append(recorded.why_not)
            else:
                loss(x).backward()
                used.step()
                used.zero_grad()
            seen.append(node.numpy().copy())
        return seen

    eager, replayed = train(False), train(True)
    assert [why == "" for why in replayed[::2]] == [False, True, False, True, True, True]
    for a, b in zip(eager, replayed[1::2], strict=True):
        assert (a == b).all()
    assert all((a != b).any() for a, b in zip(eager, eager[1:]))


def test_a_state_with_masters_is_loaded_without_them():
    node = parameter([1.0, 2.0])
    used = nn.Adam([node])
    step(used, node, 1.0)
    saved = used.state_dict()
    other = nn.Adam([node], stochastic_rounding=True)
    other.load_state_dict(saved)
    assert set(other.state[node]) == {"step", "exp_avg", "exp_avg_sq"}
    step(other, node, 1.0)
    back = nn.Adam([node])
    back.load_state_dict(other.state_dict())
    step(back, node, 1.0)
    assert "master" in back.state[node] and back.state[node]["step"] == 3
