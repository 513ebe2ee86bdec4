"""Results that can be made again, and are held by somebody all the same: by the user, or by a long chain."""

from __future__ import annotations

import numpy as np
import pytest
from test_remake import IMAGES, conv, launches, norm, residual_chain, weights

import ag
import ownt
from ownt.memory import ledger


def activations():
    return ledger.by_kind()["activation"]


def test_a_result_that_the_user_holds_stays_as_it_is_and_can_be_used_again():
    x, (w,), gain, shift = weights(1)
    y = norm(conv(x, w), gain, shift)
    before = y.numpy().copy()
    ag.sum(conv(y, w) * y).backward()
    np.testing.assert_array_equal(y.numpy(), before)
    found = []
    for given in (y.detach(), y.tensor.clone(), y.tensor):
        again = ag.param(w.tensor.clone())
        ag.sum(conv(given, again) * given).backward()
        found.append(again.grad.numpy().tobytes())
    assert found[0] == found[1] == found[2]


def test_what_is_made_of_a_result_outlives_it():
    """Of a graph whose first half nobody names any more."""
    x, (w,), gain, shift = weights(1)
    h = conv(norm(conv(x, w), gain, shift), w)
    junk = [ownt.scratch.empty(IMAGES).fill_(np.nan) for _ in range(8)]  # where what was freed lay
    del junk
    loss = ag.sum(h * h)
    del h
    loss.backward()
    assert np.isfinite(w.grad.numpy()).all()


def test_a_failed_backward_can_be_followed_by_another():
    x, (w,), gain, shift = weights(1)
    loss = ag.sum(conv(norm(x, gain, shift), w))
    gain.tensor += 1
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()
    ag.zero_grad([x, w, gain, shift])
    with ownt.scratch.mark():
        ag.sum(conv(norm(x, gain, shift), w)).backward()
    assert np.isfinite(w.grad.numpy()).all()


def test_what_is_made_again_goes_with_the_backward_that_needed_it():
    x, (w,), gain, shift = weights(1)
    y = norm(x, gain, shift)
    loss = ag.sum(conv(y, w))
    with ownt.scratch.mark():  # raises if something made inside is still held
        loss.backward()


@pytest.mark.memory
def test_a_result_holds_no_more_than_itself_once_backward_has_gone_through():
    x, (w,), gain, shift = weights(1)
    before = activations()
    y = norm(conv(x, w), gain, shift)
    ag.sum(conv(y, w)).backward()
    assert activations() - before == y.nbytes


@pytest.mark.memory
def test_a_detached_result_holds_no_more_than_itself():
    x, (w,), gain, shift = weights(1)
    before = activations()
    y = norm(conv(x, w), gain, shift).detach()
    assert activations() - before == y.nbytes


def test_a_detached_result_can_be_used_after_the_weights_behind_it_were_updated():
    """Two losses, one before and one after an update, as in training against each other."""
    x, (w,), gain, shift = weights(1)
    y = norm(x, gain, shift)
    loss = ag.sum(conv(y.detach(), w))
    ag.sum(y).backward()
    gain.tensor -= 0.1
    loss.backward()
    assert w.grad.numpy().any()


@pytest.mark.parametrize("residual", [False, True])
def test_a_chain_may_be_longer_than_pythons_stack_is_deep(residual):
    x = ag.param(ownt.randn(4, 3))
    h = x
    for _ in range(600):
        h = ag.batch_norm(x, None, None, h) if residual else ag.batch_norm(h)
    ag.sum(h * h).backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_the_work_of_a_chain_of_residuals_grows_as_its_length():
    assert launches(residual_chain, 16) <= 2.5 * launches(residual_chain, 8)
