"""Parameter groups: options of their own, rates in proportion, what may be a parameter, weight decay by dimension."""

from __future__ import annotations

import numpy as np
import pytest
from optimizer_rules import OPTIMIZERS, RULES, drawn

import ag
import nn
import ownt


def param(*shape, name=""):
    return ag.param(np.ones(shape), name)


def test_each_group_has_its_options_and_the_others_are_defaults():
    a, b = param(2), param(3)
    used = nn.Adam([{"params": [a]}, {"params": b, "lr": 0.5, "betas": (0.1, 0.2)}], lr=0.1, eps=1e-3)
    rest = {"eps": 1e-3, "weight_decay": 0.0}
    assert used.param_groups == [
        {"params": [a], "lr": 0.1, "betas": (0.9, 0.999), **rest},
        {"params": [b], "lr": 0.5, "betas": (0.1, 0.2), **rest},
    ]
    assert used.parameters == [a, b]


@pytest.mark.parametrize(("optimizer", "reference", "options", "_"), RULES.values(), ids=RULES)
def test_each_group_is_updated_by_its_options(optimizer, reference, options, _):
    nodes, grads = [param(4), param(4)], [drawn((4,), seed) for seed in range(6)]
    used = optimizer([{"params": nodes[0], **options}, {"params": nodes[1], "lr": 0.02}], lr=0.1)
    for g in grads:
        for node in nodes:
            node.grad = ownt.asarray(g)
        used.step()
    np.testing.assert_allclose(nodes[0].numpy(), reference(np.ones(4), grads, 0.1, **options), rtol=1e-12)
    np.testing.assert_allclose(nodes[1].numpy(), reference(np.ones(4), grads, 0.02), rtol=1e-12)


def test_options_may_be_changed_between_steps():
    node = param(2)
    used = nn.SGD([node], lr=1.0)
    group = used.param_groups[0]
    for changes, moved in ({"lr": 0.5}, 0.5), ({"momentum": 0.9}, 0.5), ({}, 0.95), ({"momentum": 0.0}, 0.5):
        group |= changes
        before = node.numpy().copy()
        node.grad = ownt.ones(2, dtype="float64")
        used.step()
        np.testing.assert_allclose(before - node.numpy(), moved, rtol=1e-12)


def test_setting_the_rate_keeps_groups_in_proportion_even_through_zero():
    used = nn.SGD([{"params": param(1)}, {"params": param(2), "lr": 0.05}, {"params": param(3), "lr": 0.0}], lr=0.1)
    assert used.lr == 0.1
    for rate in (0.1, 1.0, 0.0, 0.3):
        used.lr = rate
        assert [group["lr"] for group in used.param_groups] == pytest.approx([rate, rate / 2, 0])
        assert used.lr == rate
    used.add_param_group({"params": param(4), "lr": 0.2})
    used.lr = np.float64(0.5)
    assert [group["lr"] for group in used.param_groups] == pytest.approx([0.5, 0.25, 0, 1])
    assert {type(group["lr"]) for group in used.param_groups} == {float}


def test_there_is_no_proportion_to_a_default_rate_of_zero():
    used = nn.SGD([{"params": param(1), "lr": 0.1}], lr=0.0)
    with pytest.raises(ValueError, match=r"SGD\.lr: expected a default rate above 0.*got 0\. Set param_groups"):
        used.lr = 1.0
    assert used.lr == 0.1


def test_parameters_come_as_nodes_with_names_once_each_and_one_alone_in_a_group():
    a, b = param(1), param(2)
    groups = [{"params": a}, {"params": [("b", b), ("again", b)]}]
    for given in ([a, b, a], [("a", a), ("b", b)], iter([a, b]), [{"params": [a, b, b]}], groups):
        assert nn.SGD(given).parameters == [a, b]
    model = nn.MLP([2, 3])
    assert nn.SGD(model.named_parameters()).parameters == model.parameters()


def test_groups_may_be_added_between_steps():
    a, b = param(1), param(2)
    used = nn.AdamW([a], lr=0.1)
    given = {"params": iter([b]), "weight_decay": 0.5}
    used.add_param_group(given)
    assert used.param_groups[1] == {**used.param_groups[0], "params": [b], "weight_decay": 0.5}
    b.grad = ownt.ones(2, dtype="float64")
    used.step()
    assert not np.array_equal(b.numpy(), np.ones(2))


GROUPS = [
    (ValueError, lambda a, b: [{"params": a}, {"params": [b, a]}],
     r"expected each .* in one group; got 'wte' of shape \(2,\) in"),
    (ValueError, lambda a, b: [{"params": b}, {"params": b}],
     r"expected each .* in one group; got a Node of shape \(3,\) in two"),
    (ValueError, lambda a, b: [{"params": a, "speed": 1, "lr": 1}],
     r"expected options among lr, .*weight_decay.*; got speed"),
    (ValueError, lambda a, b: [], "expected one parameter or more; got none"),
    (ValueError, lambda a, b: [{"params": []}], "expected one parameter or more; got none"),
    (ValueError, lambda a, b: [{"params": a}, {"params": b, "lr": -1}],
     "expected a learning rate of 0 or more; got -1"),
    (TypeError, lambda a, b: [{"lr": 1}], "expected a group to be a dict with 'params'; got one with lr"),
    (TypeError, lambda a, b: [{"params": a}, b],
     r"expected a group to be a dict with 'params'; got a Node of shape \(3,\)"),
    (TypeError, lambda a, b: [a, {"params": b}], "expected parameters to be Nodes; got one with params"),
    (TypeError, lambda a, b: [ownt.ones(2)], "expected parameters to be Nodes; got Tensor"),
    (TypeError, lambda a, b: a, r"expected an iterable of parameters; got 'wte' of shape \(2,\)\. Give a list, or"),
    (TypeError, lambda a, b: nn.MLP([2, 3])[0],
     r"expected an iterable of parameters; got Linear\. .* or model\.parameters\(\)"),
    (TypeError, lambda a, b: 3, "expected an iterable of parameters; got int"),
    (TypeError, lambda a, b: {a, b}, "expected parameters in an order.*got a set. Use a list"),
    (ValueError, lambda a, b: [a * 2], r"expected parameters; got a computed node of shape \(2,\)\. Use ag\.param"),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("error", "given", "message"), GROUPS, ids=[message for _, _, message in GROUPS])
def test_what_is_no_group_is_an_error(optimizer, error, given, message):
    with pytest.raises(error, match=f"^{optimizer.__name__}: {message}"):
        optimizer(given(param(2, name="wte"), param(3)))


def test_a_group_that_cannot_be_added_changes_nothing():
    a, b = param(2), param(3)
    used = nn.SGD([a])
    for bad in ({"params": a}, {"params": b, "speed": 1}, {"params": b, "momentum": -1}, {"params": [b, 1]}, {}):
        with pytest.raises((ValueError, TypeError), match="SGD: expected"):
            used.add_param_group(bad)
    assert used.parameters == [a]
    used.lr = 2.0
    assert used.lr == 2


# weight decay by dimension


@pytest.mark.parametrize("given", [lambda m: m, lambda m: m.named_parameters(), lambda m: m.parameters()])
def test_matrices_and_tables_decay_and_vectors_do_not(given):
    model = nn.GPT(nn.GPTConfig(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4))
    matrices, vectors = nn.decay_groups(given(model), 0.3)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    names = {node.name for node in matrices["params"]}
    assert {"wte.weight", "wpe.weight", "blocks.0.attention.qkv.weight"} <= names
    assert all(name.endswith(".weight") for name in names)
    assert {node.ndim for node in vectors["params"]} == {1}
    assert {*matrices["params"], *vectors["params"]} == set(model.parameters())
    used = nn.AdamW([matrices, vectors], lr=0.1)
    for node in model.parameters():
        node.grad = ownt.zeros(node.shape)
    before = {node: node.numpy().copy() for node in model.parameters()}
    used.step()
    for group, factor in ((matrices, 0.97), (vectors, 1)):
        for node in group["params"]:
            np.testing.assert_allclose(node.numpy(), before[node] * factor, rtol=1e-6)


def test_decay_groups_of_no_parameters_are_an_error():
    with pytest.raises(TypeError, match="decay_groups: expected parameters to be Nodes; got Tensor"):
        nn.decay_groups([ownt.ones(2)], 0.1)
