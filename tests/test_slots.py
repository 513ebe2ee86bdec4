"""Gradient slots: hooks, sharing, and windows as the gradients of views."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import ownt
from ownt.heap import Heap
from ownt.memory import ledger


def grads(*nodes):
    return [None if n.grad is None else n.grad.tolist() for n in nodes]


def test_hooks_see_and_replace_complete_gradients():
    w = ag.param([1.0, 2.0])
    h = w * 3
    seen = []
    h.register_hook(lambda g: seen.append(("h", g.tolist())))
    w.register_hook(lambda g: seen.append(("w", g.tolist())))
    remove = h.register_hook(lambda g: ownt.Tensor([10.0, 20.0]))
    ag.sum(h * 2 + h).backward()
    assert seen == [("h", [3, 3]), ("w", [30, 60])]
    remove()
    ag.zero_grad([w])
    seen.clear()
    h = w * 3
    ag.sum(h).backward()
    assert grads(w) == [[3, 3]]
    with pytest.raises(ValueError, match=r"expected shape \(2,\) back; got \(3,\)"):
        w.register_hook(lambda g: ownt.ones(3))
        ag.sum(w * 1).backward()


def test_a_hook_owns_what_it_gets():
    """A gradient that two nodes share is copied before a hook may write to it."""
    a, b = ag.param([1.0]), ag.param([1.0])
    x, y = a * 1, b * 1
    x.register_hook(lambda g: g.fill_(100) and None)
    ag.sum(x + y).backward()
    assert grads(a, b) == [[100], [1]]


def test_a_hook_on_a_view_sees_that_views_gradient_alone():
    w = ag.param(ownt.arange(4, dtype="float32"))
    left, right = w[:3], w[1:]
    seen = []
    right.register_hook(lambda g: seen.append(g.tolist()))
    ag.sum(ag.concat([left * 10.0, right])).backward()
    assert seen == [[1, 1, 1]]
    assert grads(w) == [[10, 11, 11, 1]]


def test_gradients_that_pass_through_are_not_shared_with_what_is_added_later():
    a, b = ag.param([1.0]), ag.param([1.0])
    x, y = a * 1, b * 1
    ag.sum((x + y) + x * 5).backward()
    assert grads(a, b) == [[6], [1]]


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.T,
        lambda w: w[1:3],
        lambda w: w[:, ::2],
        lambda w: w[::-1],
        lambda w: w[2],
        lambda w: w[1, 2],
        lambda w: w.reshape(2, 8),
        lambda w: w.T[1:3].T[..., None],
        lambda w: w[1:3].reshape(-1),
        lambda w: w.T.reshape(-1)[3:7],
        lambda w: w.reshape(2, 2, 4).transpose(1, 0, 2)[0].reshape(8),
    ],
)
def test_gradients_through_views_equal_gradients_through_copies(view):
    w, c = ag.param(ownt.randn(4, 4, dtype="float64")), ag.param(ownt.zeros(4, 4, dtype="float64"))
    c.tensor.copy_(w.tensor)
    for leaf, cut in ((w, lambda x: x), (c, lambda x: x * 1.0)):  # a copy cuts the window
        v = cut(view(leaf)) if leaf is w else view(cut(leaf))
        ag.sum(v * v + ag.exp(v)).backward()
    np.testing.assert_allclose(w.grad.numpy(), c.grad.numpy(), rtol=1e-13)


def test_views_of_a_leaf_have_no_gradient_buffer_of_their_own():
    w = ag.param(ownt.ones(100, 1000))
    before = ledger.by_kind()
    ownt.memory.reset_peak()
    ag.sum(ag.concat([w[i] @ ownt.ones(1000, 1) for i in range(0, 100, 10)])).backward()
    peak = ledger.by_kind(at_peak=True)
    assert peak["gradient"] - before["gradient"] == w.nbytes
    assert peak["activation"] < 4000  # a row's gradient alone would be that
    assert w.grad.numpy().sum() == 10_000


def test_a_backward_that_fails_leaves_no_half_gradient_in_the_trunk():
    x, s = ag.param([1.0]), ownt.Tensor([1.0])
    h = x * 1
    v, u = h * s, h * 3
    loss = ag.sum(u + v)
    s += 1
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()
    x.grad = None
    ag.sum(h).backward()
    assert grads(x) == [[1]]


def test_one_node_given_twice_to_an_op_of_many_outputs():
    x = ownt.randn(4, dtype="float64")
    assert ag.gradcheck(lambda x: ag.layer_norm(x, x, x), [x])
    assert ag.gradcheck(lambda x: ag.rms_norm(x * 1.0, x), [x])
    assert ag.gradcheck(lambda x: ag.gelu_linear(x, x.T), [ownt.randn(3, 3, dtype="float64")])


def test_assigning_a_gradient():
    w = ag.param([1.0, 2.0])
    w.grad = ownt.Tensor([3.0, 4.0])
    address = w.grad.numpy().ctypes.data
    w.grad *= 0.5
    assert grads(w) == [[1.5, 2]]
    assert w.grad.numpy().ctypes.data == address
    with pytest.raises(TypeError, match="got ndarray"):
        w.grad = np.zeros(2, "float32")
    assert grads(w) == [[1.5, 2]]


@pytest.mark.parametrize(
    "step",
    [
        lambda y, c: y * 0.5,
        lambda y, c: y * c,
        lambda y, c: y / c,
        lambda y, c: y + c,
        lambda y, c: ag.linear(y, c),
    ],
)
def test_nothing_is_kept_that_no_gradient_needs(step):
    """Ten ops whose other operand is a constant: only the last result is alive."""
    y, c = ag.param(ownt.ones(8, 8)) * 1, ownt.ones(8, 8)
    for _ in range(10):
        y = step(y, c)
    assert ownt.memory.scratch().blocks == 1
    assert y.requires_grad


def test_an_index_array_is_kept_alive_and_watched():
    x = ag.param(ownt.arange(5, dtype="float32"))
    indices = (ag.constant([0, 1]) + 1).tensor
    y = x[indices]
    del indices
    ownt.scratch.empty((2,), dtype="int64").fill_(4)
    ag.sum(y).backward()
    assert grads(x) == [[0, 1, 1, 0, 0]]
    indices = ownt.Tensor([0, 1])
    y = ag.sum(x[indices])
    indices += 2
    with pytest.raises(RuntimeError, match="index: .*written in place"):
        y.backward()


def test_a_reshape_that_copies_stays_in_scratch():
    heap = ledger.by_kind()["buffer"]
    with ownt.scratch.mark():
        y = ag.reshape(ag.constant(ownt.ones(3, 4)).T * 1.0, (4, 3)).T.reshape(12)
        assert ledger.by_kind()["buffer"] - heap <= 48
        del y


def test_parameters_are_never_scratch_nor_somebody_elses_memory():
    made = ag.param((ag.constant([1.0]) * 2).tensor)
    array = np.ones(1, "float32")
    shared = ag.constant(array)
    shared.requires_grad = True
    shared.tensor -= 1
    assert array[0] == 1
    assert ownt.memory.scratch().blocks == 0
    assert made.tensor.tolist() == [2]


def test_an_op_without_gradient_says_so():
    qkv = ag.param(ownt.ones(1, 1, 6))
    kept = ownt.zeros(1, 1, 2, 2), ownt.zeros(1, 1, 2, 2)
    with pytest.raises(RuntimeError, match=r"cached_attention has no gradient: use it inside ag.no_grad"):
        ag.cached_attention(qkv, *kept, 0)
    with ag.no_grad():
        assert ag.cached_attention(qkv, *kept, 0).shape == (1, 1, 2)


def test_targets_that_are_a_slice_are_copied_to_scratch_if_at_all(monkeypatch):
    """tokens[:, 1:] as targets: of what ops make of it nothing lands on the heap, gradients alone do."""
    tokens, logits = ownt.randint(0, 5, 4, 9), ag.param(ownt.randn(4, 8, 5))
    w, taken, empty = ag.param(ownt.randn(5, 3)), [], Heap.empty
    monkeypatch.setattr(Heap, "empty", lambda heap, shape, dtype, kind, *rest: (
        taken.append(kind), empty(heap, shape, dtype, kind, *rest))[1])  # fmt: skip
    ag.cross_entropy(logits, tokens[:, 1:]).backward()
    ag.sum(ag.embedding(tokens[:, :-1], w)).backward()
    ag.argmax(logits.detach().transpose(2, 0, 1))
    assert taken == ["gradient", "gradient"]


@pytest.mark.parametrize(
    ("view", "options"),
    [
        (ag.flip, {"axis": 1}),
        (ag.transpose, {"axes": (1, 0, 2)}),
        (ag.reshape, {"shape": (4, 6)}),
        (ag.unsqueeze, {"axis": 1}),
        (ag.swapaxes, {"axis1": 0, "axis2": 2}),
    ],
)
def test_options_of_views_may_be_given_by_name(view, options):
    """Of the gradient they make a window, in which they must not be forgotten."""
    found = []
    for by_name in (True, False):
        x = ag.param(ownt.arange(24, dtype="float32").reshape(2, 3, 4))
        y = view(x, **options) if by_name else view(x, *options.values())
        (y * ownt.arange(24, dtype="float32").reshape(y.shape)).sum().backward()
        found.append(x.grad.tolist())
    assert found[0] == found[1]
