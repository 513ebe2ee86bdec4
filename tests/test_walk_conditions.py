"""What walks depend on: when a backward is repeated, when it is not, and what happens when it fails."""

import threading

import numpy as np
import pytest

pytest.importorskip("numba")

import ag
import nn
import ownt
from ag.walk import Walk
from ownt import Tensor
from ownt.arena import Arena
from ownt.kernel import Kernel, Out
from ownt.thread import state

OFTEN = 6  # rounds after which places are known, if ops are watched at once


def leaf(*shape, value=1.0):
    return ag.param(np.full(shape, value, "float32"))


def walks():
    return [found for found in state.plans.values() if type(found) is Walk]


class Net:
    """A small graph that is repeated: views, a leaf that is used twice, one that is added to."""

    def __init__(self, seed=0):
        numbers = np.random.default_rng(seed)
        shapes = {"x": (4, 6), "w": (6, 6), "b": (6,), "table": (8, 6)}
        self.leaves = {name: ag.param(numbers.normal(size=shape).astype("float32")) for name, shape in shapes.items()}
        self.seed = ownt.ones(2, 6)

    def forward(self):
        x, w, b, table = self.leaves.values()
        y = ag.linear(ag.gelu(x), w, b) + table[2:6]
        upper, lower = y[:2], y[2:]
        return ag.gelu(lower) + upper * 2.0 + ag.linear(x, w).reshape(2, 2, 6)[1]

    def backward(self):
        y = self.forward()
        y.backward(self.seed)
        return {name: node.grad.numpy().copy() for name, node in self.leaves.items()}

    def clear(self):
        ag.zero_grad(self.leaves.values())

    def run(self):
        self.clear()
        return self.backward()


def same(found, wanted):
    return all((found[name] == wanted[name]).all() for name in wanted)


@pytest.fixture
def net(at_once):
    """One whose walk knows its places."""
    made = Net()
    made.first = made.run()
    for _ in range(OFTEN):
        assert same(made.run(), made.first)
    assert [bool(walk._places) for walk in walks()] == [True]
    made.clear()
    return made


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


@pytest.mark.parametrize("added", [False, True])
def test_out_of_memory_leaves_gradients_as_they_were(net, monkeypatch, added):
    """All of them, also those that were added to."""
    for _ in range(OFTEN):
        before = net.run() if added else net.clear() or {}
        net.leaves["b"].grad = None
        net.backward()
    before = net.run() if added else net.clear() or {}
    net.leaves["b"].grad = None
    y, live = net.forward(), ownt.memory.ledger.live
    scratch = ownt.memory.scratch().used

    def empty(*_, **__):
        raise MemoryError("no more")

    monkeypatch.setattr(type(ownt.memory.heap()), "empty", empty)
    with pytest.raises(MemoryError, match="no more"):
        y.backward(net.seed)
    monkeypatch.undo()
    del y
    assert net.leaves["b"].grad is None
    assert all((net.leaves[name].grad.numpy() == g).all() for name, g in before.items() if name != "b")
    assert ownt.memory.ledger.live == live - _activations(net)
    assert scratch > 0
    assert ownt.memory.scratch().used == 0
    assert same(net.run(), net.first)


def _activations(net):
    before = ownt.memory.ledger.live
    y = net.forward()
    found = ownt.memory.ledger.live - before
    del y
    return found


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


def test_memory_that_is_given_back_is_let_go(net, monkeypatch):
    """The control: it is used as long as it is there."""
    (walk,) = walks()
    assert walk._places[0].is_known
    arena = ownt.memory.scratch()
    for places in list(arena.recordings):
        places.forget()
    assert not any(places.is_known for places in walk._places)
    assert same(net.run(), net.first)
    assert walk._places[0].is_known


def test_scratch_memory_of_another_arena(net, monkeypatch):
    monkeypatch.setattr(state, "scratch", {})
    for _ in range(OFTEN):
        assert same(net.run(), net.first)


def test_modules_account_for_what_is_theirs(at_once):
    """The same graph under another name: its bytes at the peak are booked there."""
    x = ag.constant(np.ones((16, 8), "float32"))

    def parts(model):
        ownt.memory.reset_peak()
        y = model(x)
        y.backward(ownt.ones(16, 8))
        del y
        ag.zero_grad(model.parameters())
        return {path for (_, path), count in ownt.memory.ledger.by_account(at_peak=True).items() if count}

    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
    for _ in range(OFTEN):
        before = parts(model)
    whole = nn.Sequential(nn.Identity(), model)
    for _ in range(OFTEN):
        assert parts(whole[1]) == {f"1.{path}" if path else "" for path in before}


def test_each_thread_has_its_own(at_once):
    wrong = []

    def work(seed):
        state.plans.clear()
        net = Net(seed)
        first = net.run()
        wrong.extend(seed for _ in range(60) if not same(net.run(), first))
        if not [walk for walk in walks() if walk._places]:
            wrong.append("no walk")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_another_thread_gives_back_meanwhile(net):
    """Between two steps: scratch memory is not as it was, and then it is again."""
    for i in range(12):
        kept = [net.forward()]
        thread = threading.Thread(target=kept.clear)
        assert same(net.run(), net.first)
        if i % 3:
            thread.start()
            thread.join()
        assert same(net.run(), net.first)
        kept.clear()


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
