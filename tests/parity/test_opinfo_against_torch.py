"""Every op against the samples that PyTorch tests its own with, and against the calls that it says must raise."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from opinfo import ALWAYS_KNOWN, SAMPLES, WRONG, Call, LeftOut, count, exact, infos, samples, wrong_calls
from opinfo_rows import EXCUSED, ROWS

import ag
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity
every_row = pytest.mark.parametrize("row", ROWS, ids=str)


def test_every_op_has_a_row_or_an_excuse():
    ours = {name for name, op in ag.registry.items() if op.forward.__module__.startswith("ag.")}
    assert ours <= {row.ours for row in ROWS} | EXCUSED.keys()
    assert not {row.ours for row in ROWS} & EXCUSED.keys()


def check(mine, its, truth, same, what):
    """The same as torch's; or, where float32 rounds, near the truth."""
    mine, its = np.asarray(mine), its.detach().numpy()
    assert (mine.shape, mine.dtype) == (its.shape, its.dtype), what
    if its.dtype.kind != "f":
        np.testing.assert_array_equal(mine, its, what)
        return
    try:
        same(mine, its, what)
    except AssertionError:
        if truth is None:
            raise
        truth = truth.detach().numpy()
        allowed = max(1e-5 * max(1, np.abs(truth).max()), np.abs(its - truth).max())  # or as near as torch's is
        np.testing.assert_allclose(mine, truth, rtol=0, atol=allowed, err_msg=what)


def compare(row, call, same, truth):
    """Results of both sides, and gradients by a random gradient of the results. truth: the call in float64, or None."""
    call.check()
    ours, theirs = call.ours(row), call.torch()
    assert [y.requires_grad for y in ours] == [y.requires_grad for y in theirs]
    cotangents = [ownt.randn(y.shape, dtype=y.dtype) for y in ours if y.requires_grad]
    leaves, gradients = call.leaves(), call.gradients(theirs, cotangents)
    true_results = truth.torch() if truth else [None] * len(theirs)
    true_gradients = truth.gradients(true_results, cotangents) if truth else [None] * len(leaves)
    for mine, its, true in zip(ours, theirs, true_results):
        check(mine.detach(), its, true, same, f"{row.ours} value")
    for y, g in zip((y for y in ours if y.requires_grad), cotangents):
        y.backward(g)
    for (_, node), gradient, true in zip(leaves, gradients, true_gradients):
        assert (node.grad is None) == (gradient is None)
        if gradient is not None:
            check(node.grad, gradient, true, same, f"{row.ours} gradient")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_row
def test_samples(row, dtype, same):
    info, passed, failures, left_out = infos()[row.theirs], 0, [], Counter()
    for sample in islice(samples(info, dtype), 0, None, row.every):
        call = Call(info, sample)
        try:
            compare(row, call, same, Call(info, exact(sample)) if row.rounding and dtype == "float32" else None)
            passed += 1
        except LeftOut as reason:
            left_out[str(reason)] += 1
        except Exception as error:
            failures.append(f"{call}: {type(error).__name__}: {error}")
    count(SAMPLES, row, passed + len(failures), passed, left_out)
    if failures:
        pytest.fail(f"{len(failures)} samples differ, {passed} do not:\n" + "\n".join(failures), pytrace=False)
    assert passed, f"no sample ran: {left_out}"
    assert left_out.keys() - ALWAYS_KNOWN == set(row.left_out)


@every_row
def test_wrong_calls(row):
    raised, taken, left_out = 0, [], Counter()
    for call, message in wrong_calls(infos()[row.theirs]):
        try:
            call.ours(row)
            taken.append(message)
        except LeftOut as reason:
            left_out[str(reason)] += 1
        except (ValueError, TypeError, IndexError):
            raised += 1
        except Exception as error:
            taken.append(f"{message} (and we raise {error!r})")
    assert all(reason in row.left_out or reason.startswith("option") for reason in left_out)
    unknown = [message for message in taken if not message.startswith(tuple(row.legal))]
    for start, reason in row.legal.items():
        left_out[reason] += sum(message.startswith(start) for message in taken)
    count(WRONG, row, raised + len(unknown), raised, left_out)
    assert not unknown, "torch refuses these calls, we do not:\n" + "\n".join(unknown)
    assert all(left_out.values()), f"calls that the row says are legal did not come: {left_out}"
