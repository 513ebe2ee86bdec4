"""Initialisers: distributions, exact values, what they leave alone, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import ag
import nn
import ownt
from nn import init

SHAPES = [(40, 300), (30, 20, 3, 5)]
KAIMING = {"a": 0.5, "mode": "fan_out", "nonlinearity": "leaky_relu"}


def spread(shape):
    """fan_in and fan_out, by their definition."""
    return math.prod(shape) / shape[0], math.prod(shape) / shape[1]


DISTRIBUTIONS = {
    "uniform_": (lambda w: init.uniform_(w, -1, 3), lambda shape: stats.uniform(-1, 4)),
    "normal_": (lambda w: init.normal_(w, 2, 0.5), lambda shape: stats.norm(2, 0.5)),
    "trunc_normal_": (lambda w: init.trunc_normal_(w), lambda shape: stats.truncnorm(-2, 2)),
    "trunc_normal_ above": (
        lambda w: init.trunc_normal_(w, 1, 0.5, 4, 5),
        lambda shape: stats.truncnorm(6, 8, 1, 0.5),
    ),
    "trunc_normal_ below": (
        lambda w: init.trunc_normal_(w, 1, 2, -9, -5),
        lambda shape: stats.truncnorm(-5, -3, 1, 2),
    ),
    "trunc_normal_ aside": (
        lambda w: init.trunc_normal_(w, 1, 2, 0, 2),
        lambda shape: stats.truncnorm(-0.5, 0.5, 1, 2),
    ),
    "xavier_uniform_": (
        lambda w: init.xavier_uniform_(w, 2),
        lambda shape: symmetric(2 * math.sqrt(6 / sum(spread(shape)))),
    ),
    "xavier_normal_": (
        lambda w: init.xavier_normal_(w, 2),
        lambda shape: stats.norm(0, 2 * math.sqrt(2 / sum(spread(shape)))),
    ),
    "kaiming_uniform_": (
        lambda w: init.kaiming_uniform_(w, **KAIMING),
        lambda shape: symmetric(math.sqrt(6 / (1.25 * spread(shape)[1]))),
    ),
    "kaiming_normal_": (
        lambda w: init.kaiming_normal_(w),
        lambda shape: stats.norm(0, math.sqrt(2 / spread(shape)[0])),
    ),
}


def symmetric(bound):
    return stats.uniform(-bound, 2 * bound)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_numbers_are_distributed_as_they_should(name, shape):
    fill, distribution = DISTRIBUTIONS[name]
    values = fill(ownt.empty(shape, dtype="float64")).numpy().ravel()
    expected = distribution(shape)
    assert stats.kstest(values, expected.cdf).pvalue > 1e-3
    low, high = expected.support()
    assert low <= values.min() and values.max() <= high


def test_the_comparison_of_distributions_sees_a_difference():
    values = init.normal_(ownt.empty(9000, dtype="float64"), 0, 1.1).numpy()
    assert stats.kstest(values, stats.norm(0, 1).cdf).pvalue < 1e-3


IN_PLACE = {
    **{name: fill for name, (fill, _) in DISTRIBUTIONS.items()},
    "constant_": lambda w: init.constant_(w, 3),
    "ones_": init.ones_,
    "zeros_": init.zeros_,
    "eye_": init.eye_,
    "orthogonal_": init.orthogonal_,
    "sparse_": lambda w: init.sparse_(w, 0.5),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_parameter_is_written_where_it_is_and_keeps_its_gradient(name, dtype):
    weight = ag.param(ownt.ones(4, 6, dtype=dtype))
    weight.sum().backward()
    tensor, grad, version = weight.tensor, weight.grad, weight.tensor.block.version
    assert IN_PLACE[name](weight) is weight
    assert (weight.tensor, weight.grad, weight.dtype) == (tensor, grad, dtype)
    assert tensor.block.version > version
    assert grad.tolist() == [[1] * 6] * 4
    assert np.isfinite(weight.detach().numpy()).all()


def test_a_write_after_forward_is_seen_by_backward():
    weight = ag.param(ownt.ones(2, 2))
    loss = (weight * weight).sum()
    init.zeros_(weight)
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


def test_a_part_is_written_alone_and_tensors_are_returned():
    weight = ag.param(ownt.zeros(4, 3))
    part = weight.tensor[1:3]
    assert init.normal_(part) is part
    assert not weight.detach().numpy()[[0, 3]].any()
    assert part.numpy().all()
    assert init.ones_(weight.tensor[:, 1:2].T).tolist() == [[1, 1, 1, 1]]


def test_numbers_come_from_the_seeded_generator():
    for name in ("normal_", "uniform_", "trunc_normal_", "orthogonal_"):
        made = []
        for _ in range(2):
            ownt.manual_seed(5)
            made.append(getattr(init, name)(ownt.empty(5, 5)).numpy())
        assert np.array_equal(*made), name


def test_constants():
    assert init.constant_(ownt.empty(2), 1.5).tolist() == [1.5, 1.5]
    assert init.ones_(ownt.empty(2, dtype="int64")).tolist() == [1, 1]
    assert init.zeros_(ownt.ones(2)).tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (0, 3)])
def test_eye(shape):
    assert np.array_equal(init.eye_(ownt.empty(shape)).numpy(), np.eye(*shape))


@pytest.mark.parametrize("space", [(3,), (3, 4), (2, 1, 5)])
@pytest.mark.parametrize(("outputs", "inputs", "groups"), [(4, 4, 1), (6, 2, 2), (4, 3, 2), (2, 5, 1)])
def test_dirac_hands_on_channels(outputs, inputs, groups, space):
    values = init.dirac_(ownt.empty(outputs, inputs, *space), groups).numpy()
    centre = tuple(size // 2 for size in space)
    assert values.sum() == values[(..., *centre)].sum() == groups * min(outputs // groups, inputs)
    group = np.eye(outputs // groups, inputs)
    assert np.array_equal(values[(..., *centre)], np.concatenate([group] * groups))


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3), (1, 1)])
def test_orthogonal_has_orthogonal_rows_or_columns(shape):
    values = init.orthogonal_(ownt.empty(shape, dtype="float64"), gain=3).numpy().reshape(shape[0], -1) / 3
    short = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
    assert np.allclose(short, np.eye(len(short)), atol=1e-12)


def test_orthogonal_favours_no_sign():
    corners = [init.orthogonal_(ownt.empty(2, 2)).numpy()[0, 0] for _ in range(200)]
    assert 60 < sum(corner > 0 for corner in corners) < 140
    assert init.orthogonal_(ownt.empty(0, 3)).shape == (0, 3)


def test_sparse_has_its_zeros_in_each_column_at_random_places():
    values = init.sparse_(ownt.empty(30, 200, dtype="float64"), 0.25, std=2).numpy()
    zeros = values == 0
    assert (zeros.sum(0) == math.ceil(0.25 * 30)).all()
    assert (zeros.sum(1) > 0).all() and (zeros.sum(1) < 200).all()
    assert stats.kstest(values[~zeros], stats.norm(0, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("fill", [init.xavier_normal_, init.kaiming_uniform_, init.orthogonal_])
def test_weights_without_numbers(fill, shape):
    assert fill(ownt.empty(shape)).shape == shape


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: init.eye_(w(3)), r"eye_: expected a weight of 2 axes; got shape \(3,\)"),
        (lambda w: init.sparse_(w(2, 2, 2), 0.1), r"sparse_: expected a weight of 2 axes; got shape \(2, 2, 2\)"),
        (lambda w: init.sparse_(w(2, 2), 1.5), "sparse_: expected a sparsity from 0 to 1; got 1.5"),
        (lambda w: init.dirac_(w(2, 2)), "dirac_: expected a weight of 3 to 5 axes; got shape"),
        (lambda w: init.dirac_(w(4, 2, 3), 3), r"dirac_: expected groups that divide .*; got 3 for shape \(4, 2, 3\)"),
        (lambda w: init.dirac_(w(4, 2, 3), 0), "dirac_: expected groups"),
        (lambda w: init.orthogonal_(w(3)), "orthogonal_: expected a weight of 2 axes or more"),
        (lambda w: init.xavier_uniform_(w(3)), "xavier_uniform_: expected a weight of 2 axes or more"),
        (lambda w: init.xavier_normal_(w()), "xavier_normal_: expected a weight of 2 axes or more"),
        (lambda w: init.kaiming_normal_(w(3)), "kaiming_normal_: expected a weight of 2 axes or more"),
        (lambda w: init.kaiming_uniform_(w(3, 3), mode="fan"), "kaiming_uniform_: .*fan_in, fan_out; got 'fan'"),
        (lambda w: init.kaiming_uniform_(w(3, 3), nonlinearity="gelu"), "calculate_gain: .*linear, .*; got 'gelu'"),
        (lambda w: init.calculate_gain("leaky_relu", "0.1"), "calculate_gain: expected a number .*; got '0.1'"),
        (lambda w: init.calculate_gain("leaky_relu", True), "calculate_gain: expected a number .*; got True"),
        (lambda w: init.trunc_normal_(w(3), a=2), "trunc_normal_: expected a below b .*; got 2, 2.0 and 1.0"),
        (lambda w: init.trunc_normal_(w(3), std=0), "trunc_normal_: expected .*std above 0; got -2.0, 2.0 and 0"),
        (
            lambda w: init.trunc_normal_(w(3), a=90, b=91),
            "expected a or b near mean = 0.0 for std = 1.0; got 90 and 91",
        ),
    ],
)
def test_what_cannot_be_leaves_the_weight_as_it_is(call, words):
    made = []

    def weight(*shape):
        made.append(ownt.ones(shape))
        return made[0]

    with pytest.raises(ValueError, match=words):
        call(weight)
    assert all(tensor.numpy().all() for tensor in made)


def test_integers_are_not_drawn():
    with pytest.raises(TypeError, match="expected a float dtype; got int64"):
        init.normal_(ownt.zeros(3, dtype="int64"))


def test_gains():
    assert [init.calculate_gain(name) for name in ("linear", "conv2d", "sigmoid", "selu")] == [1, 1, 1, 0.75]
    assert init.calculate_gain("leaky_relu", 0) == init.calculate_gain("relu")


def test_layers_can_be_drawn_again():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    model.apply(lambda module: init.zeros_(module.weight) if isinstance(module, nn.Linear) else None)
    assert model(ownt.ones(1, 4)).numpy() == model[2].bias.numpy()
