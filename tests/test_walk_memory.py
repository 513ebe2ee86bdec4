"""Walks and memory: when what they write to is scratch memory that nobody else has, and what is told of it."""

import threading
import weakref

import numpy as np
import pytest

pytest.importorskip("numba")

from walk_net import OFTEN, Net, leaf, net, same, walks

import ag
import nn
import ownt
from ag.places import Places
from ownt.thread import state

__all__ = ["net"]  # a fixture


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
        found = ownt.memory.ledger.by_account(at_peak=True)
        return {path for (_, path), count in found.items() if count and path[:1].isdigit()}

    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
    for _ in range(OFTEN):
        before = parts(model)
    whole = nn.Sequential(nn.Identity(), model)
    for _ in range(OFTEN):
        assert parts(whole[1]) == {f"1.{path}" for path in before}


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


def test_memory_that_others_give_back_while_a_walk_is_watched_is_not_written_to(at_once):
    """The control: what was saved, and is nobody else's, is."""
    x, w, seed = leaf(64, 64), leaf(64, 64), ownt.ones(64, 64)
    others, note = [], Places.note

    def run(holds):
        others.extend([x * 2.0] if holds else ())
        y = ag.gelu(ag.gelu(x @ w) @ w)
        y.backward(seed)
        found = x.grad.tolist()
        del y
        ag.zero_grad([x, w])
        others.clear()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Places, "note", lambda *given: others.clear() or note(*given))
        first = run(holds=True)
        for _ in range(OFTEN):
            assert run(holds=True) == first
    (walk,) = walks()
    assert not any(places.is_known for places in walk._places)
    for _ in range(3):
        assert run(holds=True) == first
    state.plans.clear()
    for _ in range(OFTEN):
        assert run(holds=False) == first
    assert walks()[0]._places[0].is_known


def test_chunks_that_are_given_back_are_freed(at_once, monkeypatch):
    """Of batches that grow. The control: they are there as long as the arena has them."""
    monkeypatch.setattr(state, "scratch", {})
    w, arena, chunks = leaf(64, 64), ownt.memory.scratch(), []
    held = ag.gelu(w)  # so that chunks are given back one by one
    for size in (1 << 12, 1 << 14, 1 << 16):
        x, seed = ag.constant(np.ones((size, 64), "float32")), ownt.ones(size, 64)
        for _ in range(OFTEN):
            y = ag.gelu(ag.gelu(x @ w) @ w)
            y.backward(seed)
            del y
        assert walks()[-1]._places[0].is_known
        ours = [chunk for chunk in arena._chunks if chunk is not None]
        chunks += [weakref.ref(chunk.base if chunk.base is not None else chunk) for chunk in ours]
        del ours
    there = {id(chunk.base if chunk.base is not None else chunk) for chunk in arena._chunks if chunk is not None}
    assert {id(chunk()) for chunk in chunks if chunk() is not None} == there
    assert any(chunk() is None for chunk in chunks)
    del held
