"""The state of optimizers: its layout, saving and loading it, going on where a run was broken off; errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from optimizer_rules import RULES, drawn

import ag
import nn
import ownt

NAMES = {
    "sgd": set(),
    "sgd-momentum": {"momentum_buffer"},
    "adam": {"step", "exp_avg", "exp_avg_sq"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "rmsprop": {"step", "square_avg"},
    "rmsprop-all": {"step", "square_avg", "grad_avg", "momentum_buffer"},
    "lion": {"exp_avg"},
}
SHAPES = ((3, 4), (4,), ())


def params(dtype="float64"):
    return [ag.param(drawn(shape, i).astype(dtype), f"p{i}") for i, shape in enumerate(SHAPES)]


def made(name, nodes):
    """The optimizer of a rule, with two groups."""
    optimizer, _, options, _ = RULES[name]
    return optimizer([{"params": nodes[:2]}, {"params": nodes[2], "lr": 0.02}], lr=0.01, **options)


def run(optimizer, nodes, steps):
    for step in steps:
        for i, node in enumerate(nodes):
            g = drawn(node.shape, 100 * step + i)
            node.grad = ownt.asarray(g).astype(node.dtype)
        optimizer.step()


def values(nodes):
    return [node.numpy().copy() for node in nodes]


def equal(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right))


def snapshot(optimizer):
    """All that `load_state_dict` may change."""
    return copy.deepcopy(optimizer.state_dict()), {id(t): t for t in tensors(optimizer).values()}


def tensors(optimizer):
    states = optimizer.state_dict()["state"]
    return {(i, name): t for i, state in states.items() for name, t in state.items() if name != "step"}


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_is_pytorchs(name):
    nodes = params()
    optimizer = made(name, nodes)
    assert optimizer.state_dict()["state"] == {}
    run(optimizer, nodes, range(3))
    saved = optimizer.state_dict()
    assert set(saved) == {"state", "param_groups"}
    assert saved["param_groups"] == [
        {**optimizer.param_groups[0], "params": [0, 1]},
        {**optimizer.param_groups[1], "params": [2]},
    ]
    assert {i: set(state) for i, state in saved["state"].items()} == (
        dict.fromkeys(range(3), NAMES[name]) if NAMES[name] else {}
    )
    for (i, key), tensor in tensors(optimizer).items():
        assert tensor is optimizer.state[nodes[i]][key]
        assert (type(tensor), tensor.shape, tensor.dtype) == (ownt.Tensor, SHAPES[i], "float64")
    assert all(state.get("step", 3) == 3 for state in saved["state"].values())


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", RULES)
def test_a_run_goes_on_bit_by_bit_from_a_saved_state(name, dtype):
    whole, first, second = params(dtype), params(dtype), params(dtype)
    run(made(name, whole), whole, range(20))
    before = made(name, first)
    run(before, first, range(8))
    saved = copy.deepcopy(before.state_dict())
    after = made(name, second)
    run(after, second, range(50, 53))  # what it was at does not count
    for node, other in zip(second, first):
        node.tensor.copy_(other.tensor)
    after.load_state_dict(saved)
    run(after, second, range(8, 20))
    assert equal(values(second), values(whole))
    assert not equal(values(first), values(whole))


@pytest.mark.parametrize("name", ["sgd-momentum", "adam", "rmsprop-all", "lion"])
def test_without_its_state_a_run_goes_on_elsewhere(name):
    whole, broken = params(), params()
    run(made(name, whole), whole, range(20))
    run(made(name, broken), broken, range(8))
    run(made(name, broken), broken, range(8, 20))
    assert not equal(values(broken), values(whole))


def test_loading_copies_into_tensors_of_its_own():
    nodes, others = params(), params()
    source, target = made("adam", nodes), made("adam", others)
    run(source, nodes, range(3))
    target.load_state_dict(source.state_dict())
    run(source, nodes, range(3, 5))
    before = {key: tensor.numpy().copy() for key, tensor in tensors(target).items()}
    where = {key: tensor.numpy().ctypes.data for key, tensor in tensors(target).items()}
    target.load_state_dict(source.state_dict())
    for key, tensor in tensors(target).items():
        assert np.array_equal(tensor.numpy(), tensors(source)[key].numpy())
        assert not np.array_equal(tensor.numpy(), before[key])
        assert tensor.numpy().ctypes.data == where[key] != tensors(source)[key].numpy().ctypes.data
        assert tensor.block.account.kind == "optimizer"
        assert tensor.block.account.path == f"p{key[0]}"


def test_loading_takes_over_options_and_drops_state_that_is_not_saved():
    nodes = params()
    optimizer = made("rmsprop-all", nodes)
    saved = copy.deepcopy(made("rmsprop", params()).state_dict())
    saved["param_groups"][1]["alpha"] = 0.5
    run(optimizer, nodes, range(2))
    assert tensors(optimizer)
    optimizer.load_state_dict(saved)
    assert [group["alpha"] for group in optimizer.param_groups] == [0.99, 0.5]
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.02]
    assert [group["params"] for group in optimizer.param_groups] == [nodes[:2], nodes[2:]]
    assert not tensors(optimizer)


def test_loading_ones_own_state_changes_nothing():
    nodes = params()
    optimizer = made("adam", nodes)
    run(optimizer, nodes, range(2))
    before, held = snapshot(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    after, still_held = snapshot(optimizer)
    assert repr(after) == repr(before)
    assert held == still_held


def test_arrays_lists_and_other_dtypes_are_taken():
    nodes = params("float32")
    optimizer = nn.Adam(nodes)
    state = {
        0: {"step": np.float32(7.0), "exp_avg": np.ones((3, 4)), "exp_avg_sq": np.ones((3, 4), "float16")},
        2: {"step": np.array(2.0), "exp_avg": 0.5, "exp_avg_sq": ownt.ones(())},
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    assert {tensor.dtype.name for tensor in tensors(optimizer).values()} == {"float32"}
    assert [optimizer.state[nodes[i]]["step"] for i in (0, 2)] == [7, 2]
    assert optimizer.state[nodes[2]]["exp_avg"].item() == 0.5
    assert nodes[1] not in optimizer.state


def test_a_pytorch_option_without_effect_is_ignored_and_one_with_an_effect_is_not():
    nodes = params()
    optimizer = nn.AdamW(nodes)
    harmless = {"foreach": True, "fused": None, "capturable": True, "differentiable": False, "initial_lr": 3.0}
    harmless |= {"maximize": False, "amsgrad": False, "decoupled_weight_decay": True}
    saved = optimizer.state_dict()
    saved["param_groups"][0] |= harmless
    optimizer.load_state_dict(saved)
    assert not set(harmless) & set(optimizer.param_groups[0])
    for wrong in ({"maximize": True}, {"amsgrad": True}, {"decoupled_weight_decay": False}, {"speed": 3}):
        other = copy.deepcopy(saved)
        other["param_groups"][0] |= wrong
        ((key, value),) = wrong.items()
        with pytest.raises(
            ValueError, match=f"^AdamW.load_state_dict: nothing was loaded; group 0: unexpected: {key}={value}$"
        ):
            optimizer.load_state_dict(other)


def delete(mapping, *keys):
    for key in keys:
        del mapping[key]


DAMAGES = {
    "expected state and param_groups; got state": lambda s: delete(s, "param_groups"),
    "expected state and param_groups; got neither": lambda s: s.clear(),
    r"expected groups of \[2, 1\] parameters; got \[2\]": lambda s: delete(s["param_groups"], 1),
    r"expected groups of \[2, 1\] parameters; got \[1, 1\]": lambda s: delete(s["param_groups"][0]["params"], 0),
    "group 1: missing: betas, eps": lambda s: delete(s["param_groups"][1], "betas", "eps"),
    "group 0: expected eps of 0 or more; got -1": lambda s: s["param_groups"][0].update(eps=-1),
    "group 0: missing: lr; group 1: expected eps of 0 or more; got -1": lambda s: (
        delete(s["param_groups"][0], "lr"),
        s["param_groups"][1].update(eps=-1),
    ),
    "unexpected: state of a parameter 7": lambda s: s["state"].update({7: {}}),
    "p1: missing: step, exp_avg": lambda s: delete(s["state"][1], "step", "exp_avg"),
    "p1: missing: exp_avg_sq": lambda s: s["state"][1].update(exp_avg_sq=None),
    "p2: unexpected: max_exp_avg_sq": lambda s: s["state"][2].update(max_exp_avg_sq=np.ones(())),
    "p2: unexpected: master": lambda s: s["state"][2].update(master=np.ones(())),
    r"p0: of another shape: exp_avg \(expected \(3, 4\), got \(4, 3\)\)": lambda s: s["state"][0].update(
        exp_avg=np.ones((4, 3))
    ),
    r"p0: missing: exp_avg_sq; p1: of another shape: exp_avg \(expected \(4,\), got \(\)\)": lambda s: (
        delete(s["state"][0], "exp_avg_sq"),
        s["state"][1].update(exp_avg=1.0),
    ),
}


@pytest.mark.parametrize(("message", "damage"), DAMAGES.items(), ids=DAMAGES)
def test_a_state_that_does_not_fit_changes_nothing(message, damage):
    nodes, others = params(), params()
    optimizer, source = made("adam", nodes), made("adam", others)
    run(optimizer, nodes, range(2))
    run(source, others, range(4))
    saved = copy.deepcopy(source.state_dict())
    before, held = snapshot(optimizer)
    damage(saved)
    with pytest.raises(ValueError, match=f"^Adam.load_state_dict: nothing was loaded; {message}$"):
        optimizer.load_state_dict(saved)
    after, still_held = snapshot(optimizer)
    assert repr(after) == repr(before)
    assert held == still_held


def test_the_state_follows_a_conversion_of_the_model():
    model = nn.MLP([3, 2], dtype="float32")
    optimizer = nn.Adam(model.parameters())
    run(optimizer, model.parameters(), range(2))
    kept = {key: tensor.numpy() for key, tensor in tensors(optimizer).items()}
    model.to(dtype="float64")
    run(optimizer, model.parameters(), range(2, 4))
    assert {tensor.dtype.name for tensor in tensors(optimizer).values()} == {"float64"}
    assert {tensor.block.account.path for tensor in tensors(optimizer).values()} == {"0.weight", "0.bias"}
    assert all(state["step"] == 4 for state in optimizer.state.values())
    assert not any(np.array_equal(tensor.numpy(), kept[key]) for key, tensor in tensors(optimizer).items())


def test_an_option_that_another_depends_on_may_be_missing():
    optimizer = nn.SGD(params(), momentum=0.9, nesterov=True)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["momentum"]
    with pytest.raises(ValueError, match="SGD.load_state_dict: nothing was loaded; group 0: missing: momentum$"):
        optimizer.load_state_dict(saved)
