"""What walks depend on: when a backward is repeated, when it is not, and what happens when it fails."""

import numpy as np
import pytest

pytest.importorskip("numba")

from walk_net import OFTEN, leaf, net, same

import ag
import ownt
from ownt import Tensor
from ownt.arena import Arena
from ownt.kernel import Kernel, Out

__all__ = ["net"]  # a fixture


def test_a_repeated_walk_runs_no_rule_and_takes_no_scratch_memory(net, monkeypatch):
    """The control: another graph does."""
    y = net.forward()

    def refuse(*_, **__):
        raise AssertionError("refused")

    for op in ag.registry.values():
        monkeypatch.setattr(op, "rule", op.rule and refuse)
    monkeypatch.setattr(Arena, "make", refuse)
    y.backward(net.seed)
    monkeypatch.undo()
    assert same({name: node.grad.numpy() for name, node in net.leaves.items()}, net.first)
    net.clear()
    y = net.forward() * 3.0
    monkeypatch.setattr(Arena, "make", refuse)
    with pytest.raises(AssertionError, match="refused"):
        y.backward(net.seed)


def test_gradients_that_are_there_are_added_to(net):
    for _ in range(OFTEN):
        net.run()
        for name, g in net.backward().items():
            np.testing.assert_allclose(g, 2 * net.first[name], rtol=1e-5)


def test_what_was_written_is_an_error_and_changes_nothing(net):
    y = net.forward()
    net.leaves["w"].tensor += 1
    with pytest.raises(RuntimeError, match="written in place"):
        y.backward(net.seed)
    assert [node.grad for node in net.leaves.values()] == [None] * 4
    net.leaves["w"].tensor -= 1
    assert ownt.memory.scratch().used > 0  # the graph is there still
    del y
    assert ownt.memory.scratch().used == 0


def test_a_second_backward_is_an_error(net):
    y = net.forward()
    y.backward(net.seed)
    with pytest.raises(RuntimeError, match="graph of its own"):
        y.backward(net.seed)


def test_hooks_are_run(net):
    y, seen = net.forward(), []
    remove = net.leaves["b"].register_hook(lambda g: seen.append(g.numpy().copy()))
    y.backward(net.seed)
    assert (seen[0] == net.first["b"]).all()
    remove()
    assert same(net.run(), net.first)


def test_who_watches_sees_all(net):
    net.clear()
    with ownt.profile() as profile:
        assert same(net.backward(), net.first)
    assert {"gelu_vjp", "matmul_kernel"} <= {row.name for row in profile.rows}
    net.clear()
    with ownt.memory.record() as timeline:
        assert same(net.backward(), net.first)
    assert {"linear", "gelu", "add"} <= {held.op for held in timeline.held}


def test_a_frozen_leaf_gets_no_gradient(net):
    net.leaves["b"].requires_grad = False
    for _ in range(OFTEN):
        ag.zero_grad(net.leaves.values())
        net.forward().backward(net.seed)
        assert net.leaves["b"].grad is None
        assert (net.leaves["w"].grad.numpy() == net.first["w"]).all()
    net.leaves["b"].requires_grad = True
    assert same(net.run(), net.first)


def test_a_loss_that_is_a_view(at_once):
    x, seed = leaf(4, 6), ownt.ones(2, 6)
    for _ in range(OFTEN):
        ag.zero_grad([x])
        (x * 1.5)[1:3].backward(seed)
        assert x.grad.tolist() == [[0.0] * 6, [1.5] * 6, [1.5] * 6, [0.0] * 6]


def test_a_gradient_that_was_read_and_is_added_to_is_an_error(at_once):
    v, w, seed = leaf(3, 4), leaf(3, 4), ownt.ones(3, 4)
    for _ in range(OFTEN):
        ag.zero_grad([v, w])
        (w * 2.0).backward(seed)
        y = (v * ag.constant(w.grad)) * w
        with pytest.raises(RuntimeError, match="written in place"):
            y.backward(seed)


def test_a_leaf_of_another_dtype_is_not_mistaken(at_once):
    """Its tensor was exchanged: its gradient is still of the dtype that it had."""
    seed = ownt.ones(3, 4, dtype="float64")
    for _ in range(OFTEN):
        x = ag.param(np.ones((3, 4)))
        (x * 2.0).backward(seed)
    x = leaf(3, 4)
    x.tensor = ownt.ones(3, 4, dtype="float64")
    with pytest.raises(TypeError):
        (x * 2.0).backward(seed)


def test_an_op_of_others_is_run_as_it_is(at_once):
    seen = []

    @ag.op
    def doubled(x: "Tensor"):
        y = ownt.scratch.empty(x.shape, like=x)
        ag.kernels.copy(x, out=Out(y))
        y += x
        return y, ()

    @doubled.vjp
    def _(g, saved, dx):
        seen.append(g.numpy().copy())
        ag.kernels.copy(g, out=dx.out())
        ag.kernels.copy(g, out=dx.out())

    try:
        x, seed = leaf(3, 4), ownt.ones(3, 4)
        for i in range(OFTEN):
            ag.zero_grad([x])
            (doubled(x * 1.5) * 2.0).backward(seed)
            assert x.grad.tolist() == [[6.0] * 4] * 3
            assert len(seen) == i + 1
    finally:
        del ag.registry["doubled"], ag.methods["doubled"]


def test_kernels_that_are_watched_are_not_repeated(net):
    calls = []
    original = Kernel.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "__call__", lambda *args, **outs: calls.append(1) or original(*args, **outs))
        with ag.detect_anomaly():
            assert same(net.run(), net.first)
    assert len(calls) > 5
