"""Whole models against PyTorch: logits, losses and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from torch_functions import as_torch
from torch_models import GPTS, batch, gpts, near

import ag

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("shape", [(3, 12), (2, 5), (1, 1)])
@pytest.mark.parametrize("name", GPTS)
def test_gpt_logits_loss_and_gradients(name, shape, dtype, rtol):
    ours, theirs, pairs = gpts(GPTS[name], dtype)
    tokens, targets = batch(*shape)
    near(ours(tokens).detach(), theirs(as_torch(tokens)), rtol, "logits")
    mine, other = ours.loss(tokens, targets), theirs.loss(as_torch(tokens), as_torch(targets))
    near(mine.detach(), other, rtol, "loss")
    mine.backward()
    other.backward()
    for path, (node, weight) in pairs.items():
        near(node.grad, weight.grad, rtol, path)
    near(ag.cross_entropy(ours(tokens), targets).detach(), other, rtol, "loss of the logits")


def test_gradient_of_a_tied_weight():
    ours, theirs, pairs = gpts(GPTS["gpt-2"], "float32")
    tokens, targets = batch(4, 12)
    ours.loss(tokens, targets).backward()
    theirs.loss(as_torch(tokens), as_torch(targets)).backward()
    assert ours.head.weight is ours.wte.weight
    a, b = (weight.grad.numpy().astype("float64").ravel() for weight in pairs["wte.weight"])
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999999
