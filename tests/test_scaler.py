"""GradScaler: training in float16 with gradients that would vanish, skipped steps, the course of the scale, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import ag
import nn
import ownt

TINY = 2.0**-20  # a factor of the loss that float16 holds, and under which gradients vanish in it


def trained(dtype, scaler, steps=30, unscale=False):
    """(the loss at the end, how many gradients were not zero) of an MLP"""
    ownt.manual_seed(0)
    model = nn.MLP([8, 32, 4], dtype="float32").to(dtype=dtype)
    optimizer = nn.SGD(model.parameters(), lr=0.5 / TINY, momentum=0.9)
    x = ownt.randn(64, 8).astype(dtype)
    y = abs(x.numpy()[:, :4]).argmax(1)
    living = 0
    for _ in range(steps):
        scaler.scale(ag.cross_entropy(model(x), y) * TINY).backward()
        living += sum(np.count_nonzero(node.grad.numpy()) for node in model.parameters())
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return ag.cross_entropy(model(x), y).item(), living


def simple(dtype="float32"):
    """A parameter, 1 at first, and its SGD."""
    node = ag.param(np.ones(2, dtype))
    return node, nn.SGD([node], lr=1.0)


def backward(scaler, node, slope=1.0):
    """Give the node a scaled gradient of `slope`."""
    node.grad = None
    scaler.scale((node * slope).sum()).backward()


def overflow(scaler, node):
    """Give the node a gradient that is not finite."""
    backward(scaler, node)
    node.grad[0] = math.inf


def test_gradients_that_vanish_in_float16_train_as_in_float32():
    expected, _ = trained("float32", nn.GradScaler(enabled=False))
    start, _ = trained("float32", nn.GradScaler(enabled=False), steps=0)
    scaler = nn.GradScaler()
    loss, living = trained("float16", scaler)
    assert loss == pytest.approx(expected, rel=0.02)
    assert expected < 0.1 * start
    assert living > 0
    assert scaler.get_scale() == 2.0**16
    loss, living = trained("float16", nn.GradScaler(enabled=False))  # the control
    assert living == 0
    assert loss == pytest.approx(start, rel=1e-3)


def test_unscaling_in_place_loses_what_float16_cannot_hold():
    expected, _ = trained("float32", nn.GradScaler(enabled=False))
    assert trained("float32", nn.GradScaler(), unscale=True) == trained("float32", nn.GradScaler(enabled=False))
    assert trained("float16", nn.GradScaler(), unscale=True)[0] > 2 * expected


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaled_step_is_the_step_without_scaling(unscale, dtype):
    steps = []
    for scaler in (nn.GradScaler(), nn.GradScaler(enabled=False)):
        node, optimizer = simple(dtype)
        for slope in (0.3, -0.2, 0.1):
            backward(scaler, node, slope)
            if unscale:
                scaler.unscale_(optimizer)
                np.testing.assert_array_equal(node.grad.numpy(), np.full(2, slope, dtype))
            scaler.step(optimizer)
            scaler.update()
        steps.append(node.numpy().copy())
    assert np.array_equal(*steps)


def test_gradients_can_be_clipped_after_unscaling():
    node, optimizer = simple()
    scaler = nn.GradScaler()
    backward(scaler, node, 3.0)
    scaler.unscale_(optimizer)
    assert nn.clip_grad_norm_([node], 1.0) == pytest.approx(3 * math.sqrt(2))
    scaler.step(optimizer)
    np.testing.assert_allclose(node.numpy(), 1 - math.sqrt(0.5), rtol=1e-5)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("unscale", [False, True])
def test_an_overflow_skips_exactly_one_step_and_halves_the_scale(unscale, bad):
    node, optimizer = simple()
    scaler = nn.GradScaler(1024.0)
    for step in range(4):
        backward(scaler, node)
        if step == 1:
            node.grad[1] = bad
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert node.numpy().tolist() == [[0, 0], [0, 0], [-1, -1], [-2, -2]][step]
        assert scaler.get_scale() == (1024 if step < 1 else 512)


def test_one_bad_number_among_pieces_is_found():
    node = ag.param(np.ones((300, 300), "float32"))
    optimizer, scaler = nn.SGD([node], lr=1.0), nn.GradScaler()
    backward(scaler, node)
    node.grad[299, 299] = math.nan
    scaler.step(optimizer)
    assert (node.numpy() == 1).all()


def test_the_scale_grows_after_an_interval_without_overflow():
    node, optimizer = simple()
    scaler = nn.GradScaler(8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=3)
    seen = []
    for bad in (0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0):
        (overflow if bad else backward)(scaler, node)
        scaler.step(optimizer)
        scaler.update()
        seen.append(scaler.get_scale())
    assert seen == [8, 8, 2, 2, 2, 8, 8, 8, 32, 8, 2, 2]


def test_two_optimizers_share_a_scale_and_skip_by_themselves():
    (good, first), (bad, second) = simple(), simple()
    scaler = nn.GradScaler(16.0)
    backward(scaler, good)
    overflow(scaler, bad)
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (good.tensor.tolist(), bad.tensor.tolist()) == ([0, 0], [1, 1])
    assert scaler.get_scale() == 8


def test_a_disabled_scaler_changes_nothing():
    node, optimizer = simple()
    scaler = nn.GradScaler(enabled=False)
    loss = node.sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    assert node.grad.tolist() == [1, 1]
    node.grad[0] = math.inf
    scaler.step(optimizer)
    scaler.update()
    assert node.tensor.tolist() == [-math.inf, 0]
    assert (scaler.get_scale(), scaler.is_enabled(), scaler.state_dict()) == (1.0, False, {})
    scaler.load_state_dict({"scale": 3.0})
    assert scaler.get_scale() == 1.0


def test_a_scaler_goes_on_from_a_saved_state():
    node, optimizer = simple()
    first = nn.GradScaler(64.0, growth_interval=2)
    backward(first, node)
    first.step(optimizer)
    first.update()
    second = nn.GradScaler()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() == {
        "scale": 64.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2, "_growth_tracker": 1,
    }  # fmt: skip
    backward(second, node)
    second.step(optimizer)
    second.update()
    assert second.get_scale() == 128


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"GradScaler.load_state_dict: expected scale, .*; got nothing: was it saved by a disabled one\?"),
        ({"scale": 1.0}, "GradScaler.load_state_dict: expected scale, growth_factor, .*_growth_tracker; got scale"),
        (nn.GradScaler().state_dict() | {"scale": -1.0}, "GradScaler: expected a scale above 0; got -1.0"),
    ],
)
def test_a_state_that_does_not_fit_is_an_error(state, message):
    scaler = nn.GradScaler(4.0)
    before = scaler.state_dict()
    with pytest.raises(ValueError, match=message):
        scaler.load_state_dict(state)
    assert scaler.state_dict() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_scale": 0.0}, "expected a scale above 0; got 0.0"),
        ({"growth_factor": 1.0}, "expected growth_factor above 1; got 1.0"),
        ({"backoff_factor": 1.0}, "expected backoff_factor between 0 and 1; got 1.0"),
        ({"backoff_factor": 0.0}, "expected backoff_factor between 0 and 1; got 0.0"),
        ({"growth_interval": 0}, "expected growth_interval of 1 or more; got 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=f"GradScaler: {message}"):
        nn.GradScaler(**settings)


def calls(*names):
    """A scaler of which methods are called one after another with an optimizer that has gradients."""
    node, optimizer = simple()
    scaler = nn.GradScaler()
    backward(scaler, node)
    for name in names:
        getattr(scaler, name)(*(() if name == "update" else (optimizer,)))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("unscale_", "unscale_"), "GradScaler.unscale_: expected one call before update; got a second. Call update"),
        (("step", "unscale_"), "GradScaler.unscale_: expected update after step; got unscale_. Call update first"),
        (("step", "step"), "GradScaler.step: expected update after step; got step. Call update first"),
        (("update",), r"GradScaler.update: expected a step before it; got none. Call step\(optimizer\) first"),
        (("step", "update", "update"), "GradScaler.update: expected a step before it; got none"),
    ],
)
def test_calls_out_of_order(names, message):
    calls(*names[:-1])
    with pytest.raises(RuntimeError, match=message):
        calls(*names)


@pytest.mark.parametrize("name", ["step", "unscale_"])
def test_a_step_without_gradients_is_an_error(name):
    _, optimizer = simple()
    with pytest.raises(RuntimeError, match=rf"GradScaler.{name}: expected gradients; got none. Call scale\(loss\)"):
        getattr(nn.GradScaler(), name)(optimizer)
