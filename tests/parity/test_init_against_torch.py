"""Initialisers, and the weights that layers begin with, beside PyTorch's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from torch_functions import as_torch

import nn
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

NONLINEARITIES = ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
                  "sigmoid", "tanh", "relu", "selu", "leaky_relu"]  # fmt: skip
FAN_SHAPES = [*itertools.product([1, 2, 7], [1, 3, 8]), (4, 3, 5), (4, 1, 5, 2), (2, 3, 1, 4, 5), (6, 2, 1, 1, 2, 3)]


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_gains(name):
    assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    for param in (0, 0.2, -1.5, 3):
        assert nn.init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


@pytest.mark.parametrize("shape", FAN_SHAPES, ids=str)
def test_fans(shape):
    assert nn.init.fans("test", ownt.empty(shape)) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


def spreads(name, shape, **options):
    """(mean, standard deviation, largest size) of numbers of both kinds."""
    mine = getattr(nn.init, name)(ownt.empty(shape, dtype="float64"), **options).numpy()
    other = getattr(torch.nn.init, name)(torch.empty(shape, dtype=torch.float64), **options).numpy()
    return [(a.mean(), a.std(), abs(a).max(), (a == 0).mean()) for a in (mine, other)]


INITIALISERS = [
    *((name, {}) for name in ("uniform_", "normal_", "trunc_normal_", "orthogonal_", "xavier_uniform_")),
    *((name, {}) for name in ("xavier_normal_", "kaiming_uniform_", "kaiming_normal_")),
    ("uniform_", {"a": -3, "b": -1}),
    ("normal_", {"mean": 2, "std": 0.1}),
    ("trunc_normal_", {"mean": 1, "std": 2, "a": 0, "b": 8}),
    ("trunc_normal_", {"std": 0.02}),
    ("xavier_uniform_", {"gain": 3}),
    ("xavier_normal_", {"gain": 0.5}),
    *(
        (name, {"a": a, "mode": mode, "nonlinearity": nonlinearity})
        for name in ("kaiming_uniform_", "kaiming_normal_")
        for a, mode, nonlinearity in itertools.product([0, math.sqrt(5)], ["fan_in", "fan_out"], ["leaky_relu", "tanh"])
    ),
    ("orthogonal_", {"gain": 2}),
    ("sparse_", {"sparsity": 0.3, "std": 2}),
]


@pytest.mark.parametrize(("name", "options"), INITIALISERS)
def test_initialisers_spread_as_torchs_do(name, options):
    torch.manual_seed(0)
    for shape in ((60, 400), (300, 20)) if name == "sparse_" else ((60, 400), (300, 20), (30, 20, 4, 5)):
        mine, other = spreads(name, shape, **options)
        scale, count = max(other[1], 1e-12), math.prod(shape)
        assert abs(mine[0] - other[0]) < 6 * scale / math.sqrt(count)
        assert mine[1] == pytest.approx(other[1], rel=8 / math.sqrt(count))
        assert mine[2] == pytest.approx(other[2], rel=0.5)
        assert mine[3] == other[3]
        if "uniform" in name:
            assert mine[2] == pytest.approx(other[2], rel=0.01)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        *(("eye_", shape, {}) for shape in [(3, 3), (2, 5), (5, 2)]),
        *(("dirac_", shape, {}) for shape in [(3, 3, 3), (2, 4, 4), (4, 2, 3, 2), (3, 5, 1, 2, 3)]),
        *(("dirac_", shape, {"groups": 2}) for shape in [(4, 2, 3), (6, 5, 2, 2), (2, 1, 3, 3, 3)]),
        ("constant_", (2, 3), {"val": 0.25}),
        ("ones_", (2, 3), {}),
        ("zeros_", (4,), {}),
    ],
)
def test_initialisers_that_draw_nothing(name, shape, options):
    mine = getattr(nn.init, name)(ownt.empty(shape), **options)
    assert np.array_equal(mine.numpy(), getattr(torch.nn.init, name)(torch.empty(shape), **options).numpy())


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3)])
def test_orthogonal_of_the_same_numbers(shape, same, monkeypatch):
    """The orthogonal factor is the one whose triangular factor has a positive diagonal, so both make the same of it."""
    long, short = sorted((shape[0], math.prod(shape[1:])), reverse=True)
    drawn = ownt.randn(long, short, dtype="float64")
    monkeypatch.setattr(ownt, "randn", lambda *_, **__: drawn)
    theirs = as_torch(drawn if shape[0] == long else drawn.T)
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self.copy_(theirs))
    mine = nn.init.orthogonal_(ownt.empty(shape, dtype="float64"), gain=2)
    same(mine, torch.nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64), gain=2), "orthogonal_ value")


@pytest.mark.parametrize("inputs", [1, 16, 300])
def test_linear_begins_within_the_bound_of_torchs(inputs):
    ours, theirs = nn.Linear(inputs, 4000), torch.nn.Linear(inputs, 4000)
    for node, weight in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        values, others = node.detach().numpy(), weight.detach().numpy()
        assert abs(values).max() <= 1 / math.sqrt(inputs)
        assert abs(values).max() == pytest.approx(abs(others).max(), rel=0.01)
        assert values.std() == pytest.approx(others.std(), rel=0.1)
        assert abs(values.mean()) < 0.1 * values.std()


@pytest.mark.parametrize("bias", [True, False])
def test_attention_begins_as_torchs(bias):
    ours, theirs = nn.MultiheadAttention(60, 3, bias=bias), torch.nn.MultiheadAttention(60, 3, bias=bias)
    for (path, node), weight in zip(ours.named_parameters(), theirs.parameters()):
        values, others = node.detach().numpy(), weight.detach().numpy()
        assert abs(values).max() == pytest.approx(abs(others).max(), rel=0.01), path
        assert values.std() == pytest.approx(others.std(), rel=0.05), path
