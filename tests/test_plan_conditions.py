"""What plans depend on: which calls look the same and are not, and when no plan may be followed."""

import threading

import numpy as np
import pytest

pytest.importorskip("numba")

import ag
import nn
import ownt
from ag import plans
from ag.plan import Plan
from ownt import Tensor
from ownt.kernel import Out
from ownt.thread import state


def leaf(*values):
    return ag.param(np.array(values, "float32"))


def test_arguments_that_only_look_the_same_have_plans_of_their_own(at_once):
    x = leaf(-2.0, 3.0)
    for _ in range(2):
        assert np.signbit((x * 0.0).numpy()).tolist() == [True, False]
        assert np.signbit((x * -0.0).numpy()).tolist() == [False, True]
        assert np.signbit((x * np.nan).numpy()).tolist() == [False, False]
        assert np.signbit((x * -np.nan).numpy()).tolist() == [True, True]
        assert (x.sum(axis=0, keepdims=True)).shape == (1,)
        assert (x.sum(axis=0, keepdims=False)).shape == ()
        assert [(x * k).numpy().tolist() for k in (1, 2, 3)] == [[-2, 3], [-4, 6], [-6, 9]]


def test_one_tensor_given_twice_after_two(at_once):
    for _ in range(3):
        a, b = leaf(1.0, 2.0), leaf(3.0, 5.0)
        (a * b).sum().backward()
        assert (a.grad.tolist(), b.grad.tolist()) == ([3, 5], [1, 2])
        (a * a).sum().backward()
        assert a.grad.tolist() == [3 + 2, 5 + 4]
        (a * a[::1]).sum().backward()
        assert a.grad.tolist() == [3 + 4, 5 + 8]


def test_strides_are_told_apart(at_once):
    square = np.arange(9, dtype="float32").reshape(3, 3)
    for _ in range(3):
        x = ag.param(square)
        assert ag.relu(x).numpy().tolist() == square.tolist()
        assert ag.relu(x.T).numpy().tolist() == square.T.tolist()
        assert ag.relu(x[:, ::2]).numpy().tolist() == square[:, ::2].tolist()
        assert ag.relu(x[::-1]).numpy().tolist() == square[::-1].tolist()
        assert ag.embedding(np.array([0, 1, 2])[::-1], x).numpy().tolist() == square[::-1].tolist()
        assert ag.matmul(x[::-1], x).numpy().tolist() == (square[::-1] @ square).tolist()


def test_what_was_saved_and_then_written_is_still_an_error(at_once):
    for _ in range(3):
        x, w = ag.param(np.ones((2, 3), "float32")), ag.param(np.ones((2, 3), "float32"))
        y = (x * w).sum()
        w.tensor += 1
        with pytest.raises(RuntimeError, match="written in place"):
            y.backward()


def test_writing_to_an_argument_counts_as_one(at_once):
    """Batch norm writes its running statistics: who saved them is told."""
    layer = nn.BatchNorm1d(3)
    for _ in range(4):
        before = layer.running_mean.block.version
        layer(ag.param(np.random.default_rng(0).normal(size=(5, 3)).astype("float32")))
        assert layer.running_mean.block.version > before


def test_a_tensor_whose_memory_was_reclaimed_is_not_read(at_once):
    for _ in range(3):
        arena = ownt.Arena()
        lost = arena.zeros((3,))
        ag.relu(ag.constant(lost))
    arena.clear()
    with pytest.raises(RuntimeError, match="reclaimed"):
        ag.relu(ag.constant(lost))


def test_gradients_that_are_shared_are_copied_before_they_are_added_to(at_once):
    for _ in range(4):
        x = leaf(1.0, -2.0)
        y = ag.relu(x)
        (y + y * 3 + ag.relu(y)).sum().backward()
        assert x.grad.tolist() == [5, 0]


def test_a_leaf_does_not_take_a_gradient_that_is_anothers(at_once):
    """Interior nodes do: what was seen of them is not done to leaves, nor the other way round."""
    seed = ownt.ones(3)
    for _ in range(3):
        for leaf_first in (True, False):
            a, b = leaf(1.0, 2.0, 3.0), leaf(1.0, 2.0, 3.0)
            both = (a, ag.relu(b)) if leaf_first else (ag.relu(b), a)
            with ownt.scratch.mark():
                ag.add(*both).backward(seed)
            for found in (a.grad, b.grad):
                assert (found.tolist(), found.block.account.kind) == ([1, 1, 1], "gradient")


@pytest.mark.parametrize("join", [ag.stack, ag.concat])
def test_parts_of_a_gradient_go_to_leaves_and_to_others(at_once, join):
    for _ in range(4):
        a, b = leaf(1.0, 2.0, 3.0), leaf(1.0, 2.0, 3.0)
        (join([a, ag.relu(b)]) * 2).sum().backward()
        (join([ag.relu(a), b]) * 2).sum().backward()
        assert (a.grad.tolist(), b.grad.tolist()) == ([4, 4, 4], [4, 4, 4])


def test_a_number_too_large_for_the_dtype_is_infinite_and_not_warned_of(at_once, recwarn):
    for _ in range(3):
        assert (leaf(1.0, -1.0) * 1e300).numpy().tolist() == [np.inf, -np.inf]
    assert [str(each.message) for each in recwarn] == []


def test_an_array_of_the_users_may_change_its_shape(at_once):
    array = np.arange(6, dtype="float32")
    x = ag.constant(array)
    for _ in range(3):
        assert ag.relu(x).shape == (6,)
    array.shape = (2, 3)
    assert ag.relu(x).numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_hooks_see_gradients(at_once):
    for _ in range(3):
        x, seen = leaf(1.0, 2.0), []
        y = ag.relu(x)
        y.register_hook(lambda g, seen=seen: seen.append(g.tolist()))
        (y * 2).sum().backward()
        assert (seen, x.grad.tolist()) == ([[2, 2]], [2, 2])


def test_who_watches_launches_sees_them_all(at_once):
    x, w = ag.param(np.ones((4, 4), "float32")), ag.param(np.ones((4, 4), "float32"))
    for _ in range(3):
        ag.linear(x, w).sum().backward()
    with ownt.profile() as profile:
        ag.linear(x, w).sum().backward()
    assert {"affine_kernel", "matmul_kernel"} <= {row.name for row in profile.rows}


def test_a_checkpoint_counts_nothing_twice(at_once):
    """The control: without a checkpoint the statistics are the same."""
    found = []
    for wrap in (lambda function, x: function(x), ag.checkpoint):
        state.plans.clear()
        layer = nn.BatchNorm1d(3)
        for i in range(5):
            x = ag.param(np.random.default_rng(i).normal(size=(5, 3)).astype("float32"))
            wrap(layer, x).sum().backward()
        found.append((layer.running_mean.tolist(), layer.running_var.tolist()))
    assert found[0] == found[1]


def test_ops_of_others_have_no_plans(at_once):
    """What they do may depend on what nobody can know of."""
    factor = [1.0]

    @ag.op
    def scaled(x: "Tensor"):
        y = ownt.scratch.empty(x.shape, like=x)
        ag.kernels.copy(x, out=Out(y))
        y *= factor[0]
        return y, ()

    try:
        x = ag.constant(np.ones(3, "float32"))
        for factor[0] in (1.0, 2.0, 3.0):
            assert scaled(x).numpy().tolist() == [factor[0]] * 3
    finally:
        del ag.registry["scaled"], ag.methods["scaled"]


def test_an_override_that_is_registered_later_is_used(at_once, monkeypatch):
    relu_kernel = ag.relu.kernels[0]
    monkeypatch.setattr(relu_kernel, "overrides", {place: dict(each) for place, each in relu_kernel.overrides.items()})
    monkeypatch.setattr(relu_kernel, "_by_array", {})
    x = leaf(-1.0, 2.0)
    for _ in range(3):
        assert ag.relu(x).numpy().tolist() == [0, 2]

    @relu_kernel.on("cpu", "float32")
    def _(x, *, out):
        return (lambda: out.store(7)), ()

    assert ag.relu(x).numpy().tolist() == [7, 7]


def test_a_random_op_has_no_plan(at_once):
    x = ag.param(np.ones((64,), "float32"))
    drawn = {ag.dropout(x, 0.5).numpy().tobytes() for _ in range(5)}
    assert len(drawn) == 5


def test_arguments_that_overlap(at_once):
    """Which of them a kernel reads cannot be told, so that no plan is made of such a run."""
    whole = ag.constant(np.arange(8, dtype="float32"))
    for _ in range(3):
        y = ag.add(whole[:6], whole[2:])
        assert y.numpy().tolist() == [2, 4, 6, 8, 10, 12]
    apart = ag.constant(np.zeros(6, "float32"))
    for _ in range(3):
        assert ag.add(whole[:6], apart).numpy().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_graph_may_be_walked_by_other_threads_than_made_it(at_once):
    """At the same time: a plan is filled in by one thread alone."""
    x, w = (ag.constant(np.full(30_000, value, "float32")) for value in (2, 3))
    wrong = []

    def walk(graphs, factor):
        for leaf, y in graphs:
            ag.backward(y, ownt.full((30_000,), factor))
            if not (leaf.grad.numpy() == 3 * factor).all():
                wrong.append(factor)

    def graph():
        leaf = ag.param(x.tensor)
        return leaf, leaf * w

    for _ in range(3):
        walk([graph()], 1.0)
    work = [([graph() for _ in range(100)], factor) for factor in (5.0, 7.0)]
    threads = [threading.Thread(target=walk, args=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_plans_are_bounded(at_once, monkeypatch):
    monkeypatch.setattr(plans, "_MOST", 20)
    x = leaf(1.0, 2.0)
    for i in range(100):
        assert (x * (i / 7)).numpy().tolist() == (np.array([1, 2], "float32") * np.float32(i / 7)).tolist()
    assert len(state.plans) <= 22


def test_a_program_is_watched_when_it_comes_up_often(monkeypatch):
    monkeypatch.setattr(state, "plans", {})
    x = leaf(1.0, 2.0)
    for i in range(plans.OFTEN + 3):
        assert sum(type(plan) is Plan for plan in state.plans.values()) == (i > plans.OFTEN)
        ag.relu(x)
