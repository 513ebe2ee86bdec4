"""Optimizers against plain NumPy loops, what they leave alone, and what training makes of its settings."""

from __future__ import annotations

import inspect
import math
import re

import numpy as np
import pytest
from optimizer_rules import OPTIMIZERS, RULES, adam, drawn

import ag
import nn
import ownt
from nn import presets, train

SHAPES = {"scalar": (), "row": (5,), "matrix": (3, 4), "pieces": (300, 200), "empty": (0, 3)}
STEPS = 20


def address(node):
    return node.tensor.numpy().ctypes.data


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("optimizer", "reference", "options", "_"), RULES.values(), ids=RULES)
def test_steps_are_those_of_a_numpy_loop(optimizer, reference, options, _, shape):
    start, grads = drawn(shape, 0), [drawn(shape, seed) for seed in range(1, STEPS + 1)]
    node = ag.param(start)
    where = address(node)
    used = optimizer([node], lr=0.01, **options)
    for g in grads:
        node.grad = ownt.asarray(g)
        used.step()
    np.testing.assert_allclose(node.numpy(), reference(start, grads, 0.01, **options), rtol=1e-12, atol=1e-15)
    assert address(node) == where


def test_a_transposed_parameter_is_updated_alike():
    start, grads = drawn((300, 200), 0), [drawn((200, 300), seed) for seed in range(1, 4)]
    node = ag.param(ownt.asarray(start.copy()).clone().T)
    used = nn.Adam([node], lr=0.01)
    for g in grads:
        node.grad = ownt.asarray(g)
        used.step()
    np.testing.assert_allclose(node.numpy(), adam(start.T, grads, 0.01), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_tied_parameter_given_twice_is_updated_once(optimizer):
    once, twice = (ag.param(drawn((3,), 0)) for _ in range(2))
    for node, given in ((once, [once]), (twice, [twice, twice])):
        node.grad = ownt.asarray(drawn((3,), 1))
        optimizer(given, lr=0.1).step()
    assert np.array_equal(once.numpy(), twice.numpy())


def test_parameters_without_a_gradient_are_left():
    nodes = [ag.param(drawn((3,), seed)) for seed in range(3)]
    before = [node.numpy().copy() for node in nodes]
    nodes[1].requires_grad = False
    nodes[2].grad = ownt.asarray(drawn((3,), 9))
    nn.AdamW(nodes, lr=0.1, weight_decay=0.5).step()
    assert np.array_equal(nodes[0].numpy(), before[0])
    assert np.array_equal(nodes[1].numpy(), before[1])
    assert not np.array_equal(nodes[2].numpy(), before[2])


def test_a_parameter_whose_gradient_comes_late_starts_its_own_bias_correction():
    early, late = (ag.param(drawn((3,), seed)) for seed in range(2))
    start, grads = late.numpy().copy(), [drawn((3,), seed) for seed in range(5, 8)]
    used = nn.Adam([early, late], lr=0.01)
    for g in [None] * 10 + grads:
        early.grad = ownt.asarray(drawn((3,), 4))
        if g is not None:
            late.grad = ownt.asarray(g)
        used.step()
    np.testing.assert_allclose(late.numpy(), adam(start, grads, 0.01), rtol=1e-12)


def test_the_learning_rate_may_change_between_steps():
    node = ag.param(drawn((3,), 0))
    used = nn.SGD([node], lr=1.0)
    expected = node.numpy().copy()
    for lr in (0.5, 0.25, 0.0):
        used.lr = lr
        node.grad = ownt.asarray(np.ones(3))
        used.step()
        expected -= lr
    assert np.array_equal(node.numpy(), expected)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_frees_or_fills(set_to_none):
    nodes = [ag.param(drawn((3,), seed)) for seed in range(2)]
    nodes[0].grad = ownt.asarray(np.ones(3))
    where = nodes[0].grad.numpy().ctypes.data
    nn.SGD(nodes, lr=0.1).zero_grad(set_to_none)
    assert nodes[1].grad is None
    if set_to_none:
        assert nodes[0].grad is None
    else:
        assert nodes[0].grad.tolist() == [0, 0, 0]
        assert nodes[0].grad.numpy().ctypes.data == where


WRONG = {
    "a learning rate of 0 or more": ("lr", [-0.1, math.nan, "fast", None]),
    "momentum of 0 or more": ("momentum", [-0.1, math.nan]),
    "dampening to be a finite number": ("dampening", [math.inf, None]),
    "weight_decay of 0 or more": ("weight_decay", [-0.1, math.nan]),
    "nesterov only with momentum above 0 and dampening of 0": ("nesterov", [True]),
    "betas from 0 up to, without, 1": (
        "betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan), (0.9,), 0.9, (0.9, None)]
    ),
    "eps of 0 or more": ("eps", [-1e-8, math.nan]),
    "alpha from 0 to 1": ("alpha", [-0.1, 1.1, math.nan]),
}  # fmt: skip
TAKES = {
    nn.SGD: ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
    nn.Adam: ("lr", "betas", "eps", "weight_decay"),
    nn.AdamW: ("lr", "betas", "eps", "weight_decay"),
    nn.RMSprop: ("lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
    nn.Lion: ("lr", "betas", "weight_decay"),
}
MISTAKES = [
    (optimizer, option, value, expected)
    for optimizer in OPTIMIZERS
    for expected, (option, values) in WRONG.items()
    if option in TAKES[optimizer]
    for value in values
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_options_come_in_pytorchs_order(optimizer):
    *taken, last = list(inspect.signature(optimizer).parameters.values())[1:]
    assert tuple(parameter.name for parameter in taken) == TAKES[optimizer]
    assert (last.name, last.kind) == ("stochastic_rounding", inspect.Parameter.KEYWORD_ONLY)
    assert set(optimizer([ag.param(np.ones(1))]).param_groups[0]) == {"params", *TAKES[optimizer]}


@pytest.mark.parametrize(("optimizer", "option", "value", "expected"), MISTAKES)
def test_a_bad_option_is_an_error(optimizer, option, value, expected):
    node = ag.param(np.ones(1))
    message = re.escape(f"{optimizer.__name__}: expected {expected}; got {value}")
    with pytest.raises(ValueError, match=message):
        optimizer([node], **{option: value})
    with pytest.raises(ValueError, match=message):
        optimizer([{"params": node, option: value}])


def test_nesterov_takes_no_dampening():
    with pytest.raises(ValueError, match="SGD: expected nesterov only with momentum above 0 and dampening of 0"):
        nn.SGD([ag.param(np.ones(1))], momentum=0.9, dampening=0.1, nesterov=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_parameters_are_an_error(optimizer):
    with pytest.raises(ValueError, match=rf"{optimizer.__name__}: expected one parameter or more; got none"):
        optimizer([], lr=0.1)


# what training makes of its settings


def trainer_of(**settings):
    shape = nn.GPTConfig(block_size=4, n_layer=1, n_head=1, n_embd=4, dtype="float64")
    return train.Trainer(presets.TrainConfig(model=shape, batch_size=2, steps=10, **settings))


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("sgd", nn.SGD, {"momentum": 0.7, "weight_decay": 0.3}),
        ("adam", nn.Adam, {"betas": (0.7, 0.8), "weight_decay": 0.3}),
        ("adamw", nn.AdamW, {"betas": (0.7, 0.8), "weight_decay": 0.3}),
        ("rmsprop", nn.RMSprop, {"alpha": 0.8, "weight_decay": 0.3}),
        ("lion", nn.Lion, {"betas": (0.7, 0.8), "weight_decay": 0.3}),
    ],
)
def test_training_gives_the_optimizer_its_settings(name, kind, expected):
    trainer = trainer_of(optimizer=name, betas=(0.7, 0.8), weight_decay=0.3, schedule="linear", lr=0.5)
    assert type(trainer.optimizer) is kind
    options = trainer.optimizer.param_groups[0]
    assert {setting: options[setting] for setting in expected} == expected
    assert set(trainer.optimizer.parameters) == set(trainer.model.parameters())
    trainer.step(4)
    assert trainer.optimizer.lr == pytest.approx(0.3)
    assert all(node.grad is None for node in trainer.model.parameters())


@pytest.mark.parametrize(("grad_clip", "moved"), [(0.01, 0.01), (None, None)])
def test_training_clips_gradients_where_asked(grad_clip, moved):
    trainer = trainer_of(
        optimizer="sgd", betas=(0, 0), weight_decay=0.0, schedule="constant", lr=1.0, grad_clip=grad_clip
    )
    before = [node.numpy().copy() for node in trainer.model.parameters()]
    trainer.step(0)
    changes = (node.numpy() - old for node, old in zip(trainer.model.parameters(), before))
    distance = math.sqrt(sum((change**2).sum() for change in changes))
    assert distance > 0.1 if moved is None else distance == pytest.approx(moved, rel=1e-3)
