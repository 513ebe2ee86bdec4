"""Optimizers against plain NumPy loops; where their memory is and what they leave alone; clipping."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest

import ag
import nn
import ownt
from nn import presets, train

SHAPES = {"scalar": (), "row": (5,), "matrix": (3, 4), "pieces": (300, 200)}
STEPS = 20


def sgd(p, grads, lr, momentum=0.0, weight_decay=0.0):
    velocity = np.zeros_like(p)
    for g in grads:
        velocity = momentum * velocity + g + weight_decay * p
        p = p - lr * velocity
    return p


def adam(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for step, g in enumerate(grads, 1):
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** step)) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
    return p


def adamw(p, grads, lr, weight_decay=0.01, **options):
    return adam(p, grads, lr, weight_decay=weight_decay, decoupled=True, **options)


RULES = {
    "sgd": (nn.SGD, sgd, {}),
    "sgd-momentum": (nn.SGD, sgd, {"momentum": 0.9}),
    "sgd-decay": (nn.SGD, sgd, {"weight_decay": 0.1}),
    "sgd-momentum-decay": (nn.SGD, sgd, {"momentum": 0.5, "weight_decay": 0.1}),
    "adam": (nn.Adam, adam, {}),
    "adam-settings": (nn.Adam, adam, {"betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.1}),
    "adam-no-memory": (nn.Adam, adam, {"betas": (0.0, 0.0)}),
    "adamw": (nn.AdamW, adamw, {}),
    "adamw-settings": (nn.AdamW, adamw, {"betas": (0.8, 0.9), "weight_decay": 0.3}),
}


def drawn(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def address(node):
    return node.tensor.numpy().ctypes.data


def optimizer_bytes():
    gc.collect()
    return ownt.memory.report().live["optimizer"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("optimizer", "reference", "options"), RULES.values(), ids=RULES)
def test_steps_are_those_of_a_numpy_loop(optimizer, reference, options, shape):
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


@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adam, nn.AdamW])
def test_a_tied_parameter_given_twice_is_updated_once(optimizer):
    once, twice = (ag.param(drawn((3,), 0)) for _ in range(2))
    for node, given in ((once, [once]), (twice, [twice, twice])):
        node.grad = ownt.asarray(drawn((3,), 1))
        optimizer(given, lr=0.1).step()
    assert np.array_equal(once.numpy(), twice.numpy())


@pytest.mark.parametrize(
    ("optimizer", "options", "copies"),
    [(nn.SGD, {}, 0), (nn.SGD, {"momentum": 0.9}, 1), (nn.Adam, {}, 2), (nn.AdamW, {}, 2)],
)
def test_state_is_allocated_once_at_exact_size_and_named(optimizer, options, copies):
    model = nn.GPT(nn.GPTConfig(vocab_size=11, block_size=6, n_layer=1, n_head=2, n_embd=8))
    used = optimizer(model.parameters(), lr=0.01, **options)
    before = optimizer_bytes()
    expected = {path: copies * node.nbytes for path, node in model.named_parameters()}
    tokens = np.array([[1, 2, 3]])
    addresses = set()
    for _ in range(3):
        model.loss(tokens, tokens).backward()
        used.step()
        used.zero_grad()
        booked = optimizer_bytes()
        assert {path: booked.get(path, 0) - before.get(path, 0) for path in {*booked, *expected}} == expected
        addresses.add(tuple(tensor.numpy().ctypes.data for state in used._state.values() for tensor in state))
    assert len(addresses) == 1
    assert len(next(iter(addresses))) == copies * len(model.parameters())


def test_a_step_allocates_nothing_that_stays():
    node = ag.param(drawn((50, 50), 0))
    used = nn.AdamW([node], lr=0.01)
    live = set()
    for _ in range(4):
        node.grad = ownt.asarray(drawn((50, 50), 1))
        used.step()
        live.add(ownt.memory.ledger.live)
    assert len(live) == 1


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


@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adam, nn.AdamW])
@pytest.mark.parametrize("lr", [-0.1, math.nan])
def test_a_bad_learning_rate_is_an_error(optimizer, lr):
    with pytest.raises(ValueError, match=rf"{optimizer.__name__}: expected a learning rate of 0 or more; got {lr}"):
        optimizer([ag.param(np.ones(1))], lr=lr)


@pytest.mark.parametrize("optimizer", [nn.Adam, nn.AdamW])
@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan)])
def test_bad_betas_are_an_error(optimizer, betas):
    with pytest.raises(ValueError, match=r"expected betas from 0 up to, without, 1; got \("):
        optimizer([ag.param(np.ones(1))], betas=betas)


@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adam, nn.AdamW])
def test_no_parameters_are_an_error(optimizer):
    with pytest.raises(ValueError, match=rf"{optimizer.__name__}: expected one parameter or more; got none"):
        optimizer([], lr=0.1)


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e3])
def test_clipping_scales_all_gradients_together_down_to_the_norm(max_norm):
    nodes = [ag.param(drawn(shape, 0)) for shape in ((3, 4), (5,), (), (2,))]
    grads = [drawn(node.shape, seed) for seed, node in enumerate(nodes[:3])]
    for node, g in zip(nodes, grads):
        node.grad = ownt.asarray(g)
    wheres = [node.grad.numpy().ctypes.data for node in nodes[:3]]
    norm = math.sqrt(sum((g**2).sum() for g in grads))
    assert nn.clip_grad_norm_(iter(nodes), max_norm) == pytest.approx(norm, rel=1e-14)
    factor = min(1, max_norm / norm)
    for node, g, where in zip(nodes, grads, wheres):
        np.testing.assert_allclose(node.grad.numpy(), g * factor, rtol=1e-6)
        assert node.grad.numpy().ctypes.data == where
        assert max_norm < norm or np.array_equal(node.grad.numpy(), g)
    assert math.sqrt(sum((node.grad.numpy() ** 2).sum() for node in nodes[:3])) <= max(norm * factor, max_norm)
    assert nodes[3].grad is None


def test_clipping_without_gradients_gives_no_norm():
    assert nn.clip_grad_norm_([ag.param(np.ones(2))], 1.0) == 0


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
    ],
)
def test_training_gives_the_optimizer_its_settings(name, kind, expected):
    trainer = trainer_of(optimizer=name, betas=(0.7, 0.8), weight_decay=0.3, schedule="linear", lr=0.5)
    assert type(trainer.optimizer) is kind
    assert {setting: getattr(trainer.optimizer, setting) for setting in expected} == expected
    assert list(map(id, trainer.optimizer.parameters)) == list(map(id, trainer.model.parameters()))
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
