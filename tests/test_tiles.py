"""All ops again with tiny tiles: whatever is worked through in pieces has many of them, and odd last ones."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import FORMULAS
from test_ops import CASES, GRADIENTS, check_gradient, check_value

import ag
import nn
import ownt
from ag import pieces
from ag.ops import attention, embedding, group_norm, loss, norm
from ownt import kernel


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    for module in (kernel, norm, group_norm, loss, embedding):
        monkeypatch.setattr(module, "PIECE", 4)
    monkeypatch.setitem(pieces.HIDDEN, "cpu", pieces.Size(0, 2))
    monkeypatch.setitem(pieces.LOGITS, "cpu", pieces.Size(16, 3))
    monkeypatch.setattr(attention, "_TILE", 8)
    monkeypatch.setattr(attention, "_QUERIES", 3)


@pytest.mark.parametrize(("op", "sample"), [case for case in CASES if case.values[0].name in FORMULAS])
def test_value_equals_the_formula(op, sample):
    check_value(op, sample)


@pytest.mark.parametrize(("op", "sample"), [case for case in GRADIENTS if "300x" not in case.id])
def test_gradient_equals_finite_differences(op, sample):
    check_gradient(op, sample)


def test_the_same_random_numbers_whatever_the_pieces(monkeypatch):
    x, found = ownt.ones(7, 11), []
    for size in (4, 1 << 15):
        monkeypatch.setattr(kernel, "PIECE", size)
        ownt.manual_seed(3)
        found.append(ag.dropout(x, 0.4).numpy().tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("shape", [(3, 7, 50), (1, 90), (5, 1, 41), (2, 3, 1)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sums_over_every_axis(shape, axis):
    w = ag.param(ownt.randn(shape, dtype="float64"))
    y = ag.sum(w, axis=axis)
    np.testing.assert_allclose(y.numpy(), w.tensor.numpy().sum(axis), rtol=1e-12, atol=1e-12)
    for _ in range(2):
        bias = ag.param(ownt.zeros(shape[-1], dtype="float64"))
        for _ in range(2):
            ag.sum(w + bias).backward()
        np.testing.assert_allclose(bias.grad.numpy(), 2 * w.size // shape[-1])


def test_a_gpt_learns_the_same_whatever_the_pieces(monkeypatch):
    config = nn.GPTConfig(vocab_size=7, block_size=6, n_layer=2, n_head=2, n_embd=8, dtype="float64")
    tokens, found = ownt.randint(0, 7, 3, 6), []
    for tiny in (True, False):
        if not tiny:
            monkeypatch.undo()
        ownt.manual_seed(1)
        model = nn.GPT(config)
        model.loss(tokens, tokens).backward()
        found.append([p.grad.numpy().copy() for p in model.parameters()])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_bias_wider_than_a_piece(monkeypatch):
    """At the true size of a piece: a row that is longer, and adds to a gradient that is there."""
    monkeypatch.undo()
    layer = nn.Linear(4, kernel.PIECE + 7)
    x = ownt.ones(3, 4)
    for times in (1, 2):
        ag.sum(layer(x)).backward()
        np.testing.assert_array_equal(layer.bias.grad.numpy(), 3 * times)


def test_the_gpt_of_the_first_page(monkeypatch):
    monkeypatch.undo()
    model = nn.GPT(nn.GPTConfig(vocab_size=65, block_size=256, n_layer=1, n_head=6, n_embd=384))
    tokens = ownt.randint(0, 65, 2, 256)
    loss = ag.cross_entropy(model(tokens), tokens)
    loss.backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())
