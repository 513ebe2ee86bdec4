"""Weights of float16: their optimizer's state, and a master copy of them, are of float32."""

from __future__ import annotations

import numpy as np
import pytest
from optimizer_rules import OPTIMIZERS, RULES, drawn

import ag
import nn
import ownt
from ownt.kernel import Kernel, Out


def half(values, name="w"):
    return ag.param(np.asarray(values, "float16"), name)


def step(optimizer, node, g):
    node.grad = ownt.asarray(np.asarray(g, "float16"))
    optimizer.step()


@pytest.mark.parametrize("shape", [(), (5,), (300, 200)])
@pytest.mark.parametrize(("optimizer", "reference", "options", "_"), RULES.values(), ids=RULES)
def test_weights_are_those_of_float32_rounded(optimizer, reference, options, _, shape):
    node = half(drawn(shape, 0))
    start = node.numpy().astype("float32")
    grads = [drawn(shape, seed).astype("float16") for seed in range(1, 21)]
    used = optimizer([node], lr=0.01, **options)
    for g in grads:
        step(used, node, g)
    expected = reference(start, [g.astype("float32") for g in grads], 0.01, **options)
    master = used.state[node]["master"].numpy()
    np.testing.assert_allclose(master, expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(node.numpy(), master.astype("float16"))


def test_updates_too_small_for_float16_add_up():
    node = half([1.0])
    used = nn.SGD([node], lr=1e-4)
    for _ in range(100):
        step(used, node, [1.0])
    assert node.item() == np.float16(0.99)
    alone = np.float16(1.0)
    for _ in range(100):
        alone -= np.float16(1e-4)
    assert alone == 1  # the control: without a master nothing moves


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_is_of_float32_and_booked_by_name(optimizer):
    node = half(drawn((6, 5), 0), "head.weight")
    used = optimizer([node])
    step(used, node, drawn((6, 5), 1))
    kept = {name: value for name, value in used.state[node].items() if name != "step"}
    assert "master" in kept
    for tensor in kept.values():
        assert (tensor.dtype, tensor.nbytes) == ("float32", 2 * node.nbytes)
        assert (tensor.block.account.kind, tensor.block.account.path) == ("optimizer", "head.weight")
    assert node.dtype == "float16"


def test_the_master_follows_weights_that_were_written_elsewhere():
    node = half([1.0, 2.0, 3.0, np.nan])
    used = nn.SGD([node], lr=1e-4)
    step(used, node, np.ones(4))
    node.tensor[1] = 5.0
    node.tensor[3] = 0.0
    step(used, node, np.ones(4))
    np.testing.assert_allclose(
        used.state[node]["master"].numpy(), [0.9998, 4.9999, 2.9998, -1e-4], rtol=1e-7, atol=1e-7
    )


def test_a_state_without_a_master_begins_with_the_weights():
    node = half([1.0, 0.0, -2.0])
    used = nn.Lion([node], lr=0.5)
    step(used, node, np.ones(3))
    saved = used.state_dict()
    del saved["state"][0]["master"]
    used.load_state_dict(saved)
    assert "master" not in used.state[node]
    step(used, node, np.ones(3))
    assert node.tensor.tolist() == [0.0, -1.0, -3.0]


def test_a_model_that_is_converted_keeps_its_state_and_leaves_the_master():
    model = nn.MLP([2, 3], dtype="float32")
    node = model[0].weight
    used = nn.Adam(model.parameters())

    def take(dtype, expected):
        model.to(dtype=dtype)
        node.grad = ownt.ones(3, 2).astype(dtype)
        used.step()
        assert set(used.state[node]) == {"step", "exp_avg", "exp_avg_sq", *expected}
        assert {t.dtype.name for name, t in used.state[node].items() if name != "step"} == {"float32"}
        return used.state[node]["exp_avg"].numpy().copy()

    means = [take("float32", ()), take("float16", ["master"]), take("float32", ()), take("float16", ["master"])]
    np.testing.assert_allclose(means, [np.full((3, 2), 1 - 0.9**n) for n in (1, 2, 3, 4)], rtol=1e-6)
    assert used.state[node]["step"] == 4


def test_an_update_counts_as_a_write_to_the_weights():
    node = half([1.0])
    before = node.tensor.block.version
    used = nn.SGD([node], lr=0.1)
    step(used, node, [1.0])
    assert node.tensor.block.version > before


def test_only_a_kernel_that_casts_takes_floats_of_two_dtypes():
    def add(x, *, out):
        out.store(x.astype(out.array.dtype))

    x, out = ownt.ones(3, dtype="float64"), ownt.zeros(3)
    with pytest.raises(TypeError, match="kernel add: expected float32 like its output; got float64"):
        Kernel(add, elementwise=True)(x, out=Out(out))
    assert out.tolist() == [0, 0, 0]
    Kernel(add, elementwise=True, casts=True)(x, out=Out(out))
    assert out.tolist() == [1, 1, 1]
