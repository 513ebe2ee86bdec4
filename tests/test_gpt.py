"""The GPT: sizes, every switch, its loss and gradients, causality, checkpointing, learning, errors."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

import ag
import nn
import ownt
from nn import gpt

TINY = nn.GPTConfig(vocab_size=7, block_size=6, n_layer=2, n_head=2, n_embd=8, init_std=0.3, dtype="float64")
PLAIN = {"norm": "rms-no-gain", "bias": False, "tied": False, "embedding_norm": True, "final_norm": False}
VARIANTS = {  # a few combinations of switches that between them use every setting
    "gpt-2": {},
    "microgpt": PLAIN | {"activation": "relu-squared", "n_layer": 1},
    "rms-relu": {"norm": "rms", "activation": "relu", "embedding_norm": True, "n_hidden": 12},
    "no-bias": {"bias": False, "tied": False, "n_head": 1},
    "rms-squared": {"norm": "rms", "activation": "relu-squared", "final_norm": False},
    "gelu-no-gain": PLAIN | {"n_head": 8},
}


def changed(**settings):
    return dataclasses.replace(TINY, **settings)


def drawn_tokens(config, batch=3, length=None, seed=0):
    size = (batch, length or config.block_size)
    return np.random.default_rng(seed).integers(config.vocab_size, size=size)


def batch_of(config, **options):
    tokens = drawn_tokens(config, length=config.block_size + 1, **options)
    return tokens[:, :-1], tokens[:, 1:].copy()


def gradients(model):
    return {path: node.grad.numpy().copy() for path, node in model.named_parameters()}


def counted(c):
    """Numbers in a GPT, from its shape."""
    width, norm = c.n_embd, {"layer": c.n_embd * (1 + c.bias), "rms": c.n_embd, "rms-no-gain": 0}[c.norm]
    inner = c.n_hidden or 4 * width
    matrices = 4 * width * width + 2 * width * inner
    biases = c.bias * (4 * width + inner + width)
    tables = (c.vocab_size * (1 if c.tied else 2) + c.block_size) * width
    return tables + c.n_layer * (matrices + biases + 2 * norm) + norm * (c.embedding_norm + c.final_norm)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_it_has_the_parameters_that_its_shape_gives(settings):
    config = changed(**settings)
    assert sum(node.size for node in nn.GPT(config).parameters()) == counted(config)


def test_that_count_gives_the_published_size_of_gpt_2():
    assert counted(nn.GPTConfig()) == 124_439_808


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 4, 6])
def test_logits_have_a_row_for_each_token(dtype, length):
    config = changed(dtype=dtype)
    logits = nn.GPT(config)(drawn_tokens(config, length=length))
    assert logits.shape == (3, length, 7)
    assert logits.dtype == dtype


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_the_loss_is_the_cross_entropy_of_the_logits(settings, dtype, tolerance):
    config = changed(**settings, dtype=dtype)
    model = nn.GPT(config)
    x, y = batch_of(config)
    y[0, 2:] = -100
    logits = model(x).numpy().astype("float64")
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    kept = y != -100
    by_hand = -np.log(np.take_along_axis(p, np.where(kept, y, 0)[..., None], -1)[..., 0])[kept].mean()
    loss = model.loss(x, y).item()
    assert loss == pytest.approx(ag.cross_entropy(model(x), y).item(), rel=tolerance)
    assert loss == pytest.approx(by_hand, rel=tolerance)


@pytest.mark.parametrize("norm", gpt.CHOICES["norm"])
@pytest.mark.parametrize("activation", gpt.CHOICES["activation"])
def test_every_combination_of_switches_trains(norm, activation):
    flags = ("bias", "tied", "embedding_norm", "final_norm", "checkpoint")
    for values in itertools.product((False, True), repeat=len(flags)):
        for dtype, dropout in (("float32", 0.1), ("float64", 0.0)):
            settings = dict(zip(flags, values)) | {"dtype": dtype, "dropout": dropout}
            model = nn.GPT(changed(norm=norm, activation=activation, n_layer=1, **settings))
            optimizer = nn.SGD(model.parameters(), lr=0.01)
            before = [node.numpy().copy() for node in model.parameters()]
            loss = model.loss(*batch_of(model.config))
            loss.backward()
            optimizer.step()
            assert np.isfinite(loss.item()), settings
            assert all(np.isfinite(node.numpy()).all() for node in model.parameters()), settings
            moved = [not np.array_equal(node.numpy(), old) for node, old in zip(model.parameters(), before)]
            assert all(moved), settings


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_gradients_are_the_slopes_of_the_loss(settings):
    model = nn.GPT(changed(**settings))
    x, y = batch_of(model.config)
    model.loss(x, y).backward()
    for path, node in model.named_parameters():
        direction, values = np.random.default_rng(1).normal(size=node.shape), node.numpy().copy()
        losses = []
        for eps in (1e-6, -1e-6):
            node.tensor.copy_(values + eps * direction)
            with ag.no_grad():
                losses.append(model.loss(x, y).item())
        node.tensor.copy_(values)
        slope = (losses[0] - losses[1]) / 2e-6
        assert (node.grad.numpy() * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8), path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_later_token_leaves_earlier_logits_bit_for_bit(dtype):
    model = nn.GPT(changed(dtype=dtype)).eval()
    tokens = drawn_tokens(model.config)
    before = model(tokens).numpy().copy()
    for t in range(1, 6):
        other = tokens.copy()
        other[:, t:] = (other[:, t:] + 1) % 7
        after = model(other).numpy()
        assert np.array_equal(after[:, :t], before[:, :t])
        assert not np.array_equal(after[:, t:], before[:, t:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_checkpointing_changes_no_bit_of_loss_or_gradients_with_dropout(dtype):
    found = []
    for checkpoint in (False, True):
        ownt.manual_seed(3)
        model = nn.GPT(changed(checkpoint=checkpoint, dropout=0.3, dtype=dtype))
        loss = model.loss(*batch_of(model.config))
        loss.backward()
        found.append((loss.item(), gradients(model), ownt.random.generator.state))
    assert found[0][0] == found[1][0]
    assert found[0][2] == found[1][2]
    for path, gradient in found[0][1].items():
        assert np.array_equal(gradient, found[1][1][path]), path


def test_checkpointing_holds_less_for_backward():
    used = []
    for checkpoint in (False, True):
        model = nn.GPT(changed(checkpoint=checkpoint, n_layer=6))
        before = ownt.memory.scratch().used
        loss = model.loss(*batch_of(model.config))
        used.append(ownt.memory.scratch().used - before)
        del loss
    assert used[1] < used[0] / 2


def test_dropout_acts_in_training_only():
    model = nn.GPT(changed(dropout=0.5))
    tokens = drawn_tokens(model.config)
    assert not np.array_equal(model(tokens).numpy(), model(tokens).numpy())
    model.eval()
    quiet = model(tokens).numpy().copy()
    assert np.array_equal(model(tokens).numpy(), quiet)
    without = nn.GPT(TINY)
    without.load_state_dict(model.state_dict())
    assert np.array_equal(without(tokens).numpy(), quiet)


def test_dropout_acts_after_the_embedding_and_on_what_each_half_of_a_block_adds():
    for dropout, places in ((0.5, 1 + 2 * TINY.n_layer), (0.0, 0)):
        model = nn.GPT(changed(dropout=dropout))
        before = ownt.random.generator.offset
        model(drawn_tokens(TINY))
        assert ownt.random.generator.offset - before == places * 3 * 6 * 8 // 2  # two numbers of each output


def test_weights_into_the_residual_stream_begin_as_the_setting_says():
    deviations = {}
    for name in gpt.CHOICES["residual_init"]:
        model = nn.GPT(changed(n_embd=64, init_std=0.1, residual_init=name))
        deviations[name] = [model.blocks[1].attention.out.weight, model.blocks[1].mlp.down.weight]
        assert model.blocks[0].mlp.up.weight.numpy().std() == pytest.approx(0.1, rel=0.1)
        assert not model.blocks[0].mlp.up.bias.numpy().any()
    for name, expected in {"scaled": 0.05, "zero": 0, "same": 0.1}.items():
        for weight in deviations[name]:
            assert weight.numpy().std() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_small_gpt_learns_one_batch_by_heart(dtype):
    config = changed(n_embd=32, init_std=0.02, dtype=dtype)
    model = nn.GPT(config)
    optimizer = nn.AdamW(model.parameters(), lr=1e-2)
    x, y = batch_of(config, batch=4)
    losses = []
    for _ in range(100):
        loss = model.loss(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        del loss
    assert losses[0] > 1.5
    assert losses[-1] < 0.1 + 1.05 * lowest_loss(x, y)


def lowest_loss(x, y):
    """Of the best possible model, in nats: what follows one and the same beginning may differ."""
    follows = {}
    for row, targets in zip(x, y):
        for t, target in enumerate(targets):
            follows.setdefault(tuple(row[: t + 1]), []).append(target)
    surprise = sum(-np.log(after.count(target) / len(after)) for after in follows.values() for target in after)
    return surprise / y.size


def test_too_many_tokens_are_an_error_naming_block_size():
    with pytest.raises(ValueError, match=r"at most block_size = 6 positions; got \(1, 7\)"):
        nn.GPT(TINY)(np.zeros((1, 7), "int64"))


def test_tokens_without_a_batch_are_an_error():
    with pytest.raises(ValueError, match=r"expected tokens \(B, T\).*got \(3,\)"):
        nn.GPT(TINY)(np.zeros(3, "int64"))


@pytest.mark.parametrize("token", [7, -1])
def test_an_unknown_token_is_an_error_naming_it(token):
    with pytest.raises(IndexError, match=rf"0 to 6; got {token} at \(0, 1\)"):
        nn.GPT(TINY)([[0, token]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_embd": 9}, "n_embd to be divisible by the heads n_head; got 9 and 2"),
        ({"vocab_size": 0}, "vocab_size of 1 or more; got 0"),
        ({"block_size": 0}, "block_size of 1 or more; got 0"),
        ({"n_layer": -1}, "n_layer of 1 or more; got -1"),
        ({"n_head": 0}, "n_head of 1 or more; got 0"),
        ({"n_hidden": -3}, "n_hidden"),
        ({"n_hidden": 0}, "n_hidden"),
        ({"dropout": 1.0}, "dropout from 0 up to, without, 1; got 1.0"),
        ({"dropout": -0.1}, "got -0.1"),
        ({"dropout": float("nan")}, "got nan"),
        ({"norm": "batch"}, "norm among layer, rms, rms-no-gain; got 'batch'"),
        ({"activation": "swish"}, "activation among gelu, relu, relu-squared; got 'swish'"),
        ({"residual_init": "one"}, "residual_init among scaled, zero, same; got 'one'"),
        ({"dtype": "int8"}, "dtype among float32, float64, bfloat16, float16; got 'int8'"),
    ],
)
def test_a_shape_that_cannot_be_is_an_input_error(settings, words):
    with pytest.raises(nn.InputError, match=words) as caught:
        nn.GPT(changed(**settings))
    assert isinstance(caught.value, ValueError)
