"""Backward: what it computes, shares, frees and refuses."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import ag
import ownt
from ownt.memory import ledger


def grads(*nodes):
    return [None if n.grad is None else n.grad.tolist() for n in nodes]


def test_shared_nodes_are_visited_once():
    """d(ab + ab)/da at a = 3, b = 4 is 8; without topological order it comes out as 16."""
    a, b = ag.param(3.0), ag.param(4.0)
    c = a * b
    (c + c).backward()
    assert grads(a, b) == [8, 6]


def test_micrograds_example():
    """The example of micrograd's README, whose value and gradients are published there."""
    a, b = ag.param(ownt.Tensor(-4.0, dtype="float64")), ag.param(ownt.Tensor(2.0, dtype="float64"))
    c = a + b
    d = a * b + b**3
    c = c + c + 1
    c = c + 1 + c + (-a)
    d = d + d * 2 + (b + a).relu()
    d = d + 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g = g + 10.0 / f
    g.backward()
    assert round(g.item(), 4) == 24.7041
    assert [round(n.grad.item(), 4) for n in (a, b)] == [138.8338, 645.5773]


def test_a_scalar_mlp_trains():
    """micrograd's world: every weight a Node of shape ()."""
    ownt.manual_seed(4)
    draw = lambda: ag.param(ownt.rand(()))
    hidden = [[draw() for _ in range(3)] for _ in range(4)]
    out = [draw() for _ in range(5)]
    weights = [w for row in hidden for w in row] + out
    for w in weights:
        w.tensor.copy_(2 * w.item() - 1)
    points = [((0, 0), -1), ((0, 1), 1), ((1, 0), 1), ((1, 1), -1)]
    losses = []
    for _ in range(150):
        loss = 0.0
        for (x, y), target in points:
            h = [(w[0] * x + w[1] * y + w[2]).tanh() for w in hidden]
            loss = loss + (sum((w * v for w, v in zip(out, h)), out[4]) - target) ** 2
        loss.backward()
        losses.append(loss.item())
        for w in weights:
            w.tensor -= 0.1 * w.grad.item()
        ag.zero_grad(weights)
    assert losses[-1] < 0.05 < losses[0]


def test_operators_with_numbers_arrays_and_tensors():
    x = ag.param([1.0, 2.0])
    array, tensor = np.array([3.0, 4.0], "float32"), ownt.Tensor([5.0, 6.0])
    y = 1 + x - 2 * x / 4 + array * x + (tensor - x) ** 2 + (-x) @ array + 2**x + (array - x) + (tensor + x) + 1 / x
    assert y.requires_grad
    v = np.array([1.0, 2.0])
    expected = 1 + v - v / 2 + array * v + ([4, 4] * np.array([4, 4])) - v @ array + 2**v + array - v + [6, 8] + 1 / v
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
    assert isinstance(array + x, ag.Node)
    assert isinstance(np.float64(2) * x, ag.Node)
    assert (np.float64(2) * x).dtype == "float32"


def test_every_op_is_a_method():
    x = ag.param([[1.0, -2.0]])
    assert x.relu().tensor.tolist() == [[1, 0]]
    assert x.sum(axis=1).shape == (1,)
    assert x.reshape(2).shape == x.reshape((2,)).shape == (2,)
    assert x.transpose(1, 0).shape == x.T.shape == (2, 1)
    with pytest.raises(AttributeError, match="no attribute 'rleu'"):
        _ = x.rleu


def test_a_chain_of_100000_ops_and_dropping_one_without_backward():
    for run in (True, False):
        x = ag.param(1.0)
        y = x
        for _ in range(100_000):
            y = y + 0.5
        if run:
            y.backward()
            assert grads(x) == [1]
        del y
        assert ownt.memory.scratch().blocks == 0


def test_broadcasting_sums_gradients():
    a, b = ag.param(ownt.ones(2, 1, 3)), ag.param(ownt.ones(4, 1))
    ag.sum(a * b).backward()
    assert (a.grad.shape, b.grad.shape) == ((2, 1, 3), (4, 1))
    np.testing.assert_array_equal(a.grad.numpy(), 4)
    np.testing.assert_array_equal(b.grad.numpy(), 6)


def test_gradients_accumulate_over_backwards_until_zeroed():
    w = ag.param([1.0, 2.0])
    for _ in range(3):
        ag.sum(w * w).backward()
    assert grads(w) == [[6, 12]]
    address = w.grad.numpy().ctypes.data
    ag.zero_grad([w], set_to_none=False)
    assert grads(w) == [[0, 0]]
    ag.sum(w * w).backward()
    assert grads(w) == [[2, 4]]
    assert w.grad.numpy().ctypes.data == address
    ag.zero_grad([w])
    assert w.grad is None


def test_backward_from_a_vector_with_a_gradient_of_its_own():
    w = ag.param([1.0, 2.0])
    seed = ownt.Tensor([10.0, 100.0])
    ag.backward(w * w, seed)
    assert grads(w) == [[20, 400]]
    assert seed.tolist() == [10, 100]
    (w + 0).backward(seed)
    assert grads(w) == [[30, 500]]
    assert seed.tolist() == [10, 100]


def test_no_grad_and_constants_and_frozen_parameters():
    w, c = ag.param([1.0]), ag.constant([2.0])
    with ag.no_grad():
        assert not (w * c).requires_grad
    assert (w * c).requires_grad
    w.requires_grad = False
    assert not (w * c).requires_grad
    w.requires_grad = True
    ag.sum(w * c).backward()
    assert grads(w, c) == [[2], None]
    assert not w.detach().requires_grad


def test_an_exception_inside_no_grad_restores_recording():
    with pytest.raises(ZeroDivisionError), ag.no_grad():
        _ = 1 / 0
    assert (ag.param(1.0) * 2).requires_grad


def test_unused_and_frozen_parameters_never_get_a_buffer():
    used, unused, frozen = (ag.param(ownt.ones(10)) for _ in range(3))
    frozen.requires_grad = False
    before = ledger.by_kind()["gradient"]
    ag.sum(used * frozen).backward()
    assert (unused.grad, frozen.grad) == (None, None)
    assert ledger.by_kind()["gradient"] - before == 40


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: ag.constant(1.0).backward(), RuntimeError, "got a constant"),
        (lambda w: (w * 2).backward(), ValueError, r"expected a scalar loss; got shape \(2,\)"),
        (lambda w: ag.backward(w * 2, ownt.ones(3)), ValueError, r"expected grad of shape \(2,\) .*; got \(3,\)"),
        (lambda w: ag.backward(w * 2, ownt.ones(2, dtype="float64")), ValueError, "got .* float64"),
        (lambda w: ag.constant([1.0]).register_hook(print), RuntimeError, "got a constant"),
        (lambda w: setattr(w * 2, "requires_grad", False), RuntimeError, "expected a leaf"),
        (lambda w: setattr(w * 2, "grad", None), RuntimeError, "expected a leaf"),
        (lambda w: setattr(w, "grad", ownt.ones(3)), ValueError, r"expected \(2,\) of float32; got \(3,\)"),
        (lambda w: ag.param([1, 2]), TypeError, "expected a float tensor; got int64"),
        (lambda w: np.asarray(w), RuntimeError, r"detach\(\)"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(ag.param([1.0, 2.0]))


def test_a_second_backward_is_refused_and_so_is_a_second_loss_over_a_spent_trunk():
    w = ag.param([1.0, 2.0])
    trunk = w * w
    first, second = ag.sum(trunk), ag.mean(trunk)
    first.backward()
    with pytest.raises(RuntimeError, match=r"Compute the loss again"):
        first.backward()
    with pytest.raises(RuntimeError, match=r"what it saved is freed"):
        second.backward()
    assert grads(w) == [[2, 4]]


def test_an_input_changed_in_place_before_backward_names_the_op():
    w, x = ag.param([1.0, 2.0]), ownt.Tensor([3.0, 4.0])
    loss = ag.sum(w * x)
    x += 1
    with pytest.raises(RuntimeError, match=r"mul: .*\(2,\).* written in place"):
        loss.backward()


def test_a_view_changed_in_place_before_backward_is_seen_too():
    w, x = ag.param([1.0, 2.0]), ownt.Tensor([3.0, 4.0])
    loss = ag.sum(w * x)
    x[:1].fill_(9)
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


def test_an_optimizer_step_between_forward_and_backward_is_seen():
    w = ag.param([1.0, 2.0])
    loss = ag.sum(w * w)
    w.tensor -= 1
    with pytest.raises(RuntimeError, match="mul"):
        loss.backward()


def test_dropping_the_loss_frees_the_graph_and_records_hold_no_nodes():
    gc.disable()
    try:
        w = ag.param(ownt.ones(10))
        h = w * 2
        node = weakref.ref(h)
        loss = ag.sum(h + 1)
        del h
        assert node() is None
        del loss
        assert ownt.memory.scratch().blocks == 0
    finally:
        gc.enable()


def test_an_activation_that_nobody_saved_is_freed_in_forward():
    w = ag.param(ownt.ones(1000))
    h = (w + 1) + 1
    for _ in range(10):
        h = h + 1  # add saves nothing, so each result frees the one before
    assert ownt.memory.scratch().blocks == 1
    assert h.requires_grad


def test_threads_do_not_disturb_each_other():
    failures = []

    def work(seed: float) -> None:
        try:
            for _ in range(50):
                w = ag.param(ownt.full((50,), seed))
                with ownt.scratch.mark():
                    loss = ag.sum((w * w).tanh() * 2)
                    loss.backward()
                    del loss
                expected = 2 * (1 - np.tanh(seed**2) ** 2) * 2 * seed
                np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-4)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(0.1 * i,)) for i in range(1, 5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures


def test_no_grad_is_of_its_thread():
    found = []
    with ag.no_grad():
        thread = threading.Thread(target=lambda: found.append((ag.param(1.0) * 2).requires_grad))
        thread.start()
        thread.join()
    assert found == [True]


def test_no_grad_nests_in_itself_and_decorates():
    quiet = ag.no_grad()
    with quiet, quiet:
        pass
    assert (ag.param(1.0) * 2).requires_grad

    @ag.no_grad()
    def double(x):
        return x * 2

    assert not double(ag.param(1.0)).requires_grad
    assert (ag.param(1.0) * 2).requires_grad
