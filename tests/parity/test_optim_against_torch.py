"""Optimizers against PyTorch's: training of models, states that either side goes on from, clipping, the scaler."""

from __future__ import annotations

import math

import numpy as np
import pytest
from torch_functions import as_torch
from torch_models import GPTS, F, batch, copy_weights, gpts, near, torch

import ag
import nn
import ownt

pytestmark = pytest.mark.parity

OPTIMIZERS = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD with decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "SGD with momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "SGD with both": ("SGD", {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.01}),
    "SGD with dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "SGD of Nesterov": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    "Adam": ("Adam", {"lr": 0.01}),
    "Adam with decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "eps": 1e-6}),
    "AdamW": ("AdamW", {"lr": 0.01}),
    "AdamW with decay": ("AdamW", {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.2}),
    "RMSprop": ("RMSprop", {"lr": 0.01, "eps": 1e-6}),
    "RMSprop with decay": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "weight_decay": 0.1, "eps": 1e-4}),
    "RMSprop with momentum": ("RMSprop", {"lr": 0.003, "momentum": 0.8, "eps": 1e-4}),
    "RMSprop centered": ("RMSprop", {"lr": 0.01, "centered": True, "eps": 1e-4}),
    "RMSprop with all": (
        "RMSprop",
        {"lr": 0.003, "alpha": 0.95, "momentum": 0.5, "centered": True, "weight_decay": 0.1, "eps": 1e-4},
    ),
}
CLIPS = {
    "": lambda ours, theirs: None,
    "clipped": lambda ours, theirs: (
        nn.clip_grad_norm_(ours, 0.5), torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    ),
    "clipped by value": lambda ours, theirs: (
        nn.clip_grad_value_(ours, 0.01), torch.nn.utils.clip_grad_value_(theirs, 0.01)
    ),
}  # fmt: skip


def optimizers(name, pairs, grouped=False):
    """Ours and torch's of the same weights; grouped: those of vectors have a rate and a decay of their own."""
    kind, options = OPTIMIZERS[name]
    made = []
    for module, weights in zip((nn, torch.optim), zip(*pairs.values())):
        given = list(weights)
        if grouped:
            vectors = {"params": [w for w in weights if w.ndim < 2], "lr": options["lr"] / 4, "weight_decay": 0.3}
            given = [{"params": [w for w in weights if w.ndim >= 2]}, vectors]
        made.append(getattr(module, kind)(given, **options))
    return made


def train(pairs, mine, other, losses, clip="", steps=50, fall=0.01):
    """Steps of both, the rates falling; `losses` makes the two losses of a step."""
    rates = [group["lr"] for group in other.param_groups]
    for step in range(steps):
        mine.lr = rates[0] * (1 - step * fall)
        for group, rate in zip(other.param_groups, rates):
            group["lr"] = rate * (1 - step * fall)
        a, b = losses()
        a.backward()
        b.backward()
        near(a.detach(), b, 1e-8, f"loss of step {step}")
        CLIPS[clip](*map(list, zip(*pairs.values())))
        for optimizer in (mine, other):
            optimizer.step()
            optimizer.zero_grad()
    for path, (node, weight) in pairs.items():
        near(node.tensor, weight, 1e-8, path)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_of_a_gpt(name, clip):
    ours, theirs, pairs = gpts(GPTS["untied" if clip else "gpt-2"], "float64")

    def losses():
        tokens, targets = batch(2, 12)
        return ours.loss(tokens, targets), theirs.loss(as_torch(tokens), as_torch(targets))

    train(pairs, *optimizers(name, pairs, grouped=bool(clip)), losses, clip)


def mlps(activation="tanh"):
    """Ours and torch's, their weights in pairs, and what makes losses of both on the same numbers."""
    make = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "gelu": torch.nn.GELU}[activation]
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 16), make(), torch.nn.Linear(16, 9), make(), torch.nn.Linear(9, 4))
    ours = nn.MLP([6, 16, 9, 4], activation, dtype="float64")

    def losses():
        x, y = ownt.randn(8, 6, dtype="float64"), ownt.randint(0, 4, 8)
        return ag.cross_entropy(ours(x), y), F.cross_entropy(theirs(as_torch(x)), as_torch(y))

    return copy_weights(ours, theirs), losses


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("grouped", [False, True], ids=["", "grouped"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_of_an_mlp(name, grouped, activation):
    pairs, losses = mlps(activation)
    train(pairs, *optimizers(name, pairs, grouped), losses)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_of_weights_without_gradients_at_first(name):
    ours, theirs = nn.MLP([3, 4], dtype="float64"), torch.nn.Sequential(torch.nn.Linear(3, 4))
    pairs = copy_weights(ours, theirs)
    mine, other = optimizers(name, pairs)
    for step in range(9):
        for model, optimizer, x in ((ours, mine, np.eye(3)), (theirs, other, torch.eye(3).double())):
            y = (x @ model[0].weight.T) ** 2.0
            (y if step < 3 or step == 6 else y * model[0].bias).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for path, (node, weight) in pairs.items():
        near(node.tensor, weight, 1e-8, path)


# states


def converted(saved, to):
    """A state dict with every tensor converted."""
    state = {i: {name: to(value) for name, value in each.items()} for i, each in saved["state"].items()}
    return {"state": state, "param_groups": saved["param_groups"]}


def assert_same_state(mine, other):
    ours, theirs = mine.state_dict()["state"], other.state_dict()["state"]
    assert {i: set(each) for i, each in ours.items()} == {i: set(each) for i, each in theirs.items()}
    for i, each in ours.items():
        for name, value in each.items():
            near(value, theirs[i][name].to(torch.int64 if name == "step" else None), 1e-8, f"{name} of {i}")


@pytest.mark.parametrize("grouped", [False, True], ids=["", "grouped"])
@pytest.mark.parametrize("ours_goes_on", [True, False], ids=["ours goes on", "torch's goes on"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_goes_on_from_the_others_state(name, ours_goes_on, grouped):
    """25 steps of one and 25 of the other are 50 of either."""
    pairs, losses = mlps()
    mine, other = optimizers(name, pairs, grouped)
    train(pairs, mine, other, losses, steps=25, fall=0)
    assert_same_state(mine, other)
    new_mine, new_other = optimizers(name, pairs, grouped)
    if ours_goes_on:
        new_mine.load_state_dict(converted(other.state_dict(), lambda value: value.numpy()))
        for node, weight in pairs.values():
            node.tensor.copy_(weight.detach().numpy())
        mine = new_mine
    else:
        new_other.load_state_dict(converted(mine.state_dict(), as_torch))
        for node, weight in pairs.values():
            weight.data.copy_(as_torch(node.tensor))
        other = new_other
    assert_same_state(mine, other)
    train(pairs, mine, other, losses, steps=25, fall=0)
    assert_same_state(mine, other)


# clipping

GRADS = {"large": 30.0, "small": 1e-3, "zero": 0.0, "infinite": math.inf, "nan": math.nan, "huge": 1e15}
NORMS = (2.0, 1.0, 1.5, math.inf)


def with_gradients(scale, dtype):
    """Parameters of both with the same gradients, one of them scaled, and one parameter with none."""
    shapes = ((4, 3), (4,), (), (2,))
    nodes = [ag.param(ownt.zeros(shape, dtype=dtype)) for shape in shapes]
    weights = [as_torch(node.tensor).requires_grad_() for node in nodes]
    for i, (node, weight) in enumerate(zip(nodes[:-1], weights)):
        node.grad = ownt.randn(node.shape, dtype=dtype)
        node.grad *= scale if i == 0 else 1
        weight.grad = as_torch(node.grad)
    return nodes, weights


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e4])
@pytest.mark.parametrize("scale", GRADS)
def test_clip_grad_norm(scale, max_norm, norm_type, dtype, same):
    nodes, weights = with_gradients(GRADS[scale], dtype)
    before = torch.nn.utils.clip_grad_norm_(weights, max_norm, norm_type)
    found = nn.clip_grad_norm_(nodes, max_norm, norm_type)
    same(np.asarray(found, dtype), before, "clip norm")
    for node, weight in zip(nodes[:-1], weights):
        same(node.grad, weight.grad, "clip gradient")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("clip_value", [0.0, 0.5, 1e4])
@pytest.mark.parametrize("scale", GRADS)
def test_clip_grad_value(scale, clip_value, dtype, same):
    nodes, weights = with_gradients(GRADS[scale], dtype)
    torch.nn.utils.clip_grad_value_(weights, clip_value)
    nn.clip_grad_value_(nodes, clip_value)
    for node, weight in zip(nodes[:-1], weights):
        same(node.grad, weight.grad, "clip gradient")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_both_refuse_norms_that_are_not_finite(bad):
    nodes, weights = with_gradients(bad, "float64")
    for clip, parameters in ((nn.clip_grad_norm_, nodes), (torch.nn.utils.clip_grad_norm_, weights)):
        with pytest.raises(RuntimeError):
            clip(parameters, 1.0, error_if_nonfinite=True)


# the scaler


@pytest.mark.parametrize("seed", range(5))
def test_the_course_of_the_scale(seed):
    """Through a random sequence of overflows, with weights that show which steps are skipped."""
    settings = {"init_scale": 2.0**10, "growth_factor": 3.0, "backoff_factor": 0.3, "growth_interval": 4}
    mine, other = nn.GradScaler(**settings), torch.amp.GradScaler("cpu", **settings)
    node, weight = ag.param(np.ones(3, "float32")), torch.ones(3, requires_grad=True)
    sides = ((mine, nn.SGD([node], lr=0.1), node), (other, torch.optim.SGD([weight], lr=0.1), weight))
    for bad in np.random.default_rng(seed).random(120) < 0.15:
        for scaler, optimizer, parameter in sides:
            scaler.scale(parameter.sum()).backward()
            if bad:
                parameter.grad[1] = math.inf
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        assert mine.get_scale() == pytest.approx(other.get_scale(), rel=1e-5)
        np.testing.assert_allclose(node.numpy(), weight.detach(), rtol=1e-5)
    assert mine.state_dict() == pytest.approx(other.state_dict(), rel=1e-5)
    fresh = nn.GradScaler()
    fresh.load_state_dict(other.state_dict())
    assert fresh.state_dict() == other.state_dict()


@pytest.mark.parametrize("calls", [("unscale_", "unscale_"), ("step", "step"), ("step", "unscale_"), ("update",)])
def test_both_refuse_calls_out_of_order(calls):
    node, weight = ag.param(np.ones(3, "float32")), torch.ones(3, requires_grad=True)
    for scaler, optimizer, parameter in (
        (nn.GradScaler(), nn.SGD([node]), node),
        (torch.amp.GradScaler("cpu"), torch.optim.SGD([weight]), weight),
    ):
        scaler.scale(parameter.sum()).backward()
        for name in calls[:-1]:
            getattr(scaler, name)(optimizer)
        with pytest.raises((RuntimeError, AssertionError)):
            getattr(scaler, calls[-1])(*(() if calls[-1] == "update" else (optimizer,)))
