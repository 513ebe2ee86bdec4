"""Losses as modules: their formulas in plain NumPy, their options, what they keep as state."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import nn
import ownt

X = np.random.default_rng(1).normal(size=(4, 3, 5))
CLASSES = np.random.default_rng(2).integers(0, 5, size=(4, 3))
CLASSES[1, 2] = -100
PARTS = np.random.default_rng(3).uniform(0.1, 1, size=X.shape)
WEIGHT = np.arange(1.0, 6.0)
LOGS = X - np.log(np.exp(X).sum(-1, keepdims=True))
KEPT = CLASSES != -100


def chosen(logs, weight=1.0):
    """The losses of class targets, and what each counts for."""
    rows = -np.take_along_axis(logs, np.where(KEPT, CLASSES, 0)[..., None], -1)[..., 0]
    counts = np.where(KEPT, np.broadcast_to(weight, 5)[np.where(KEPT, CLASSES, 0)], 0)
    return np.where(KEPT, rows * counts, 0), counts.sum()


D = X - PARTS
SIGMOID = 1 / (1 + np.exp(-X))
SMOOTH = np.where(np.abs(D) < 0.5, D * D, np.abs(D) - 0.25)
BINARY = -(WEIGHT * PARTS * np.log(SIGMOID) + (1 - PARTS) * np.log(1 - SIGMOID))
LOSSES = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss, {}, CLASSES, chosen(LOGS)),
    "CrossEntropyLoss weighted": (nn.CrossEntropyLoss, {"weight": WEIGHT}, CLASSES, chosen(LOGS, WEIGHT)),
    "CrossEntropyLoss smoothed": (
        nn.CrossEntropyLoss,
        {"label_smoothing": 0.1},
        CLASSES,
        (0.9 * chosen(LOGS)[0] - 0.1 * np.where(KEPT, LOGS.mean(-1), 0), KEPT.sum()),
    ),
    "NLLLoss": (nn.NLLLoss, {}, CLASSES, chosen(X)),
    "NLLLoss weighted": (nn.NLLLoss, {"weight": WEIGHT}, CLASSES, chosen(X, WEIGHT)),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, {"pos_weight": WEIGHT}, PARTS, (BINARY, X.size)),
    "BCEWithLogitsLoss weighted": (
        nn.BCEWithLogitsLoss,
        {"weight": WEIGHT, "pos_weight": WEIGHT},
        PARTS,
        (BINARY * WEIGHT, X.size),
    ),
    "MSELoss": (nn.MSELoss, {}, PARTS, (D * D, X.size)),
    "L1Loss": (nn.L1Loss, {}, PARTS, (np.abs(D), X.size)),
    "SmoothL1Loss": (nn.SmoothL1Loss, {"beta": 0.5}, PARTS, (SMOOTH, X.size)),
    "KLDivLoss": (nn.KLDivLoss, {}, PARTS, (PARTS * (np.log(PARTS) - X), X.size)),
    "KLDivLoss of logarithms": (nn.KLDivLoss, {"log_target": True}, PARTS, (np.exp(PARTS) * (PARTS - X), X.size)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compute_their_formulas(name):
    make, options, targets, (rows, count) = LOSSES[name]
    for reduction, expected in (("none", rows), ("sum", rows.sum()), ("mean", rows.sum() / count)):
        made = make(**options, reduction=reduction)(ownt.Tensor(X), targets)
        assert np.allclose(made.numpy(), expected, rtol=1e-10), reduction
    assert np.array_equal(make(**options)(ownt.Tensor(X), targets).numpy(), made.numpy())


def test_batchmean_is_the_sum_over_the_first_axis():
    made = nn.KLDivLoss(reduction="batchmean")(X, PARTS)
    assert np.allclose(made.numpy(), (PARTS * (np.log(PARTS) - X)).sum() / 4, rtol=1e-10)


def test_another_index_is_ignored():
    loss = nn.CrossEntropyLoss(ignore_index=2)
    assert np.allclose(loss(X[:1], [[0, 2, 1]]).numpy(), -(LOGS[0, 0, 0] + LOGS[0, 2, 1]) / 2, rtol=1e-10)


def test_a_loss_trains():
    layer = nn.Linear(5, 1)
    nn.MSELoss()(layer(ownt.ones(2, 5)), ownt.zeros(2, 1)).backward()
    assert layer.weight.grad is not None


def test_weights_are_buffers_by_their_names_and_options_are_shown():
    loss = nn.BCEWithLogitsLoss(ownt.ones(5), reduction="sum", pos_weight=ag.constant([1.0]))
    assert {path: tensor.shape for path, tensor in loss.state_dict().items()} == {"weight": (5,), "pos_weight": (1,)}
    assert loss.parameters() == []
    assert loss.to(dtype="float64")(X, PARTS).dtype == "float64"
    assert repr(loss) == "BCEWithLogitsLoss(reduction='sum')"
    assert repr(nn.NLLLoss()) == "NLLLoss(ignore_index=-100, reduction='mean')"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.MSELoss(reduction="max")(X, PARTS), ValueError, "mse_loss: expected reduction .*; got 'max'"),
        (lambda: nn.MSELoss(reduction="batchmean")(X, PARTS), ValueError, "mse_loss: .*got 'batchmean'"),
        (lambda: nn.MSELoss("sum"), TypeError, "positional"),
        (lambda: nn.CrossEntropyLoss()(X.swapaxes(1, 2), CLASSES), ValueError, r"expected logits \(..., V\)"),
        (lambda: nn.CrossEntropyLoss(WEIGHT[:3])(X, CLASSES), ValueError, r"cross_entropy: .*\(3,\)"),
        (lambda: nn.BCEWithLogitsLoss()(X, PARTS[:1]), ValueError, "binary_cross_entropy_with_logits: .*one shape"),
    ],
)
def test_what_cannot_be(make, error, words):
    with pytest.raises(error, match=words):
        make()
