"""Containers and layers: Sequential, ModuleList, MLP, Linear, norms, dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest

import ag
import nn
import ownt

CONFIG = nn.GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=8)


def test_a_module_list_is_a_list_named_by_numbers():
    modules = nn.ModuleList(nn.Linear(1, n) for n in (1, 2, 3))
    modules.append(nn.Linear(1, 4))
    assert [module.out_features for module in modules[1:]] == [2, 3, 4]
    assert modules[3].weight.name == "3.weight"
    assert modules.eval() is modules
    assert not any(module.training for module in modules.modules())
    assert all(module.training for module in modules.train().modules())


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("tanh", nn.Tanh), ("gelu", nn.GELU)])
def test_an_mlp_has_an_activation_after_each_layer_but_the_last(activation, kind):
    mlp = nn.MLP([4, 5, 6, 2], activation, bias=False, dtype="float64")
    assert [type(module) for module in mlp] == [nn.Linear, kind, nn.Linear, kind, nn.Linear]
    assert [node.shape for node in mlp.parameters()] == [(5, 4), (6, 5), (2, 6)]
    x = y = ownt.randn(3, 4, dtype="float64")
    for module in mlp:
        y = module(y)
    assert np.array_equal(mlp(x).numpy(), y.numpy())


@pytest.mark.parametrize(
    ("widths", "activation", "words"),
    [([], "relu", r"two widths.*\[\]"), ([4], "relu", r"\[4\]"), ([4, 2], "swish", "relu, tanh, gelu; got 'swish'")],
)
def test_an_mlp_that_cannot_be_is_an_input_error(widths, activation, words):
    with pytest.raises(nn.InputError, match=words):
        nn.MLP(widths, activation)


def test_linear_begins_uniform_within_one_over_the_root_of_its_inputs():
    layer = nn.Linear(16, 500)
    assert (layer.weight.shape, layer.bias.shape) == ((500, 16), (500,))
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert 0.24 < abs(values).max() <= 0.25
        assert abs(values.mean()) < 4 * 0.25 / math.sqrt(3 * values.size)


def test_layers_compute_their_formulas():
    x = np.random.default_rng(1).normal(size=(4, 6))
    layer = nn.Linear(6, 3, dtype="float64")
    assert np.allclose(layer(x).numpy(), x @ layer.weight.numpy().T + layer.bias.numpy(), rtol=1e-12)
    table = nn.Embedding(9, 6, dtype="float64")
    assert np.array_equal(table(np.array([[1, 8]])).numpy(), table.weight.numpy()[[[1, 8]]])
    centred = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    rooted, gain = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5), np.arange(1.0, 7.0)
    for norm, expected in (
        (nn.LayerNorm(6, dtype="float64"), centred * gain + gain),
        (nn.LayerNorm(6, bias=False, dtype="float64"), centred * gain),
        (nn.RMSNorm(6, dtype="float64"), rooted * gain),
        (nn.RMSNorm(6, gain=False, dtype="float64"), rooted),
    ):
        norm.load_state_dict(dict.fromkeys(norm.state_dict(), gain))
        assert np.allclose(norm(x).numpy(), expected, rtol=1e-12), norm


def test_dropout_zeroes_and_scales_in_training_only():
    drop, x = nn.Dropout(0.25), ag.constant(ownt.ones(100_000))
    y = drop(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / y.size)
    assert not np.array_equal(drop(x).numpy(), y)
    assert drop.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
