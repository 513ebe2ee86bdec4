"""Layers: MLP, Linear, Embedding, norms, dropout, activations, attention."""

from __future__ import annotations

import math

import numpy as np
import pytest

import ag
import nn
import ownt


@pytest.mark.parametrize(
    ("activation", "kind"), [("relu", nn.ReLU), ("tanh", nn.Tanh), ("gelu", nn.GELU), ("leaky_relu", nn.LeakyReLU)]
)
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
    [([], "relu", r"two widths.*\[\]"), ([4], "relu", r"\[4\]"), ([4, 2], "swish", "relu, tanh, .*; got 'swish'")],
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


ACTIVATIONS = [
    (nn.ReLU(), ag.relu, {}, ""),
    (nn.Sigmoid(), ag.sigmoid, {}, ""),
    (nn.Tanh(), ag.tanh, {}, ""),
    (nn.SiLU(), ag.silu, {}, ""),
    (nn.Mish(), ag.mish, {}, ""),
    (nn.Softplus(), ag.softplus, {}, "beta=1.0, threshold=20.0"),
    (nn.GELU("tanh"), ag.gelu, {"approximate": "tanh"}, "approximate='tanh'"),
    (nn.LeakyReLU(0.3), ag.leaky_relu, {"negative_slope": 0.3}, "negative_slope=0.3"),
    (nn.ELU(0.5), ag.elu, {"alpha": 0.5}, "alpha=0.5"),
    (nn.Hardtanh(-0.5, 0.25), ag.hardtanh, {"min_val": -0.5, "max_val": 0.25}, "min_val=-0.5, max_val=0.25"),
    (nn.Softmax(0), ag.softmax, {"axis": 0}, "dim=0"),
    (nn.LogSoftmax(), ag.log_softmax, {"axis": -1}, "dim=-1"),
]


@pytest.mark.parametrize(("module", "op", "options", "shown"), ACTIVATIONS, ids=repr)
def test_activations_are_their_ops_and_show_their_options(module, op, options, shown):
    x = ownt.randn(4, 5)
    assert np.array_equal(module(x).numpy(), op(x, **options).numpy())
    assert repr(module) == f"{type(module).__name__}({shown})"
    assert list(module.state_dict()) == []


def test_an_identity_stands_for_any_layer():
    x = ag.constant([1.0])
    assert nn.Identity(54, bias=False)(x) is x


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ((), (2, 3, 4), (2, 12)),
        ((), (0, 3, 4), (0, 12)),
        ((0,), (2, 3, 4), (24,)),
        ((0, 1), (2, 3, 4), (6, 4)),
        ((-2, -1), (5, 2, 0), (5, 0)),
        ((1, 1), (2, 3, 4), (2, 3, 4)),
    ],
)
def test_flatten_makes_one_axis_of_several_without_a_copy(options, before, after):
    x = ag.constant(ownt.randn(before))
    y = nn.Flatten(*options)(x)
    assert (y.shape, y.tensor.block) == (after, x.tensor.block)
    assert np.array_equal(y.numpy(), x.numpy().reshape(after))


@pytest.mark.parametrize(("options", "shape"), [((), (3,)), ((0, 2), (3, 4)), ((1, 0), (3, 4)), ((-3,), (3, 4))])
def test_flatten_of_axes_that_are_not_there(options, shape):
    with pytest.raises(ValueError, match=rf"Flatten: expected start_dim .* {len(shape)} axes; got .*\({shape[0]}"):
        nn.Flatten(*options)(ownt.ones(shape))


def test_group_norm_computes_its_formula():
    x = np.random.default_rng(1).normal(size=(2, 6, 4))
    grouped = x.reshape(2, 3, 8)
    centred = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    expected = centred.reshape(x.shape)
    norm = nn.GroupNorm(3, 6, dtype="float64")
    assert np.allclose(norm(x).numpy(), expected, rtol=1e-12)
    gain = np.arange(1.0, 7.0)
    norm.load_state_dict({"weight": gain, "bias": -gain})
    assert np.allclose(norm(x).numpy(), expected * gain[:, None] - gain[:, None], rtol=1e-12)
    plain = nn.GroupNorm(3, 6, affine=False)
    assert plain.parameters() == []
    assert np.allclose(plain(x).numpy(), expected, rtol=1e-12)
    assert repr(plain) == "GroupNorm(3, 6, eps=1e-05, affine=False)"


def attended(layer, query, key, value, seen):
    """Attention in plain NumPy, head by head; `seen` says which keys each query sees."""
    weight, bias = layer.in_proj_weight.numpy(), layer.in_proj_bias.numpy()
    width, size, shared = layer.embed_dim, layer.head_dim, layer.num_heads // layer.num_kv_heads
    starts = (0, width, width + layer.num_kv_heads * size)
    heads = []
    for head in range(layer.num_heads):
        at = [start + (head // shared if start else head) * size for start in starts]
        q, k, v = (x @ weight[i : i + size].T + bias[i : i + size] for x, i in zip((query, key, value), at))
        scores = np.where(seen, q @ k.swapaxes(-1, -2) / math.sqrt(size), -np.inf)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(e / e.sum(-1, keepdims=True) @ v)
    return np.concatenate(heads, -1) @ layer.out_proj.weight.numpy().T + layer.out_proj.bias.numpy()


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
def test_multihead_attention_computes_its_formula(kv_heads):
    layer = nn.MultiheadAttention(12, 4, num_kv_heads=kv_heads, dtype="float64")
    for node in layer.parameters():
        nn.init.normal_(node)
    x, y, z = (np.random.default_rng(1).normal(size=(2, t, 12)) for t in (5, 3, 3))
    seen = np.random.default_rng(2).random((5, 3)) < 0.7
    seen[:, 0] = True
    for made, expected in (
        (layer(x), attended(layer, x, x, x, True)),
        (layer(x, causal=True), attended(layer, x, x, x, np.tri(5, dtype=bool))),
        (layer(x, y), attended(layer, x, y, y, True)),
        (layer(x, y, z, seen), attended(layer, x, y, z, seen)),
        (layer(x, y, z, np.where(seen, 0, -np.inf)), attended(layer, x, y, z, seen)),
        (layer(x[0], y[0]), attended(layer, x[0], y[0], y[0], True)),
    ):
        assert np.allclose(made.numpy(), expected, rtol=1e-10)


def test_multihead_attention_begins_as_xavier_draws():
    layer = nn.MultiheadAttention(60, 3, num_kv_heads=1)
    bound = math.sqrt(6 / (60 + 100))
    assert layer.in_proj_weight.shape == (100, 60)
    assert 0.99 * bound < abs(layer.in_proj_weight.numpy()).max() <= bound
    assert not layer.in_proj_bias.numpy().any()
    assert not layer.out_proj.bias.numpy().any()
    assert nn.MultiheadAttention(4, 2, bias=False).in_proj_bias is None
    assert repr(nn.MultiheadAttention(4, 2)).startswith("MultiheadAttention(\n  4, 2, num_kv_heads=2\n  (out_proj)")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.GroupNorm(4, 6), "GroupNorm: expected num_groups that divides num_channels; got 4 and 6"),
        (lambda: nn.GroupNorm(0, 6), "GroupNorm: .*got 0 and 6"),
        (lambda: nn.MultiheadAttention(6, 4), "MultiheadAttention: expected num_heads .*; got 6, 4 heads and 4"),
        (lambda: nn.MultiheadAttention(8, 4, num_kv_heads=3), "MultiheadAttention: .*; got 8, 4 heads and 3"),
        (lambda: nn.MultiheadAttention(8, 0), "MultiheadAttention: .*; got 8, 0 heads"),
        (lambda: nn.MultiheadAttention(8, 2, batch_first=False), "expected batch_first=True.*Transpose"),
    ],
)
def test_settings_that_cannot_be(make, words):
    with pytest.raises(nn.InputError, match=words):
        make()


def test_dropout_as_a_third_argument_of_attention_is_no_bias():
    with pytest.raises(TypeError, match="positional"):
        nn.MultiheadAttention(8, 2, 0.1)
