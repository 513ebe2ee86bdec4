"""Promises about the bytes of nn.Step, each with a control that must fail."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import count

import pytest
from plain_step import Plain, adam, batch, gpt, loss_of, mlp

import ag
import nn
import ownt
from ownt.arena import Arena
from ownt.heap import Heap
from ownt.ledger import Ledger
from ownt.memory import ledger

pytestmark = pytest.mark.memory
KEPT, PASSING = ("parameter", "optimizer"), ("gradient", "activation", "workspace")


def made(kind=nn.Step, loss=loss_of, **options):
    """(model, step) of a small GPT whose optimizer has all its state."""
    model = gpt(dropout=0.1, **options)
    step = kind(loss(model), adam(model), max_norm=1.0)
    Plain(loss_of(model), step.optimizer)(*batch(model, 0))
    return model, step


# growth


def growth(step, model, change=lambda number: None):
    """Growth over 200 steps, after 10: of bytes in the ledger, of the arena, and of Python's objects in kB."""

    def measured():
        gc.collect()
        return ledger.live, ownt.memory.scratch().capacity, tracemalloc.get_traced_memory()[0] // 1000

    numbers = count()
    tracemalloc.start()
    try:
        for _ in range(10):
            step(*batch(model, next(numbers)))
        before = measured()
        for _ in range(200):
            change(next(numbers))
            step(*batch(model, 0))
        return tuple(b - a for a, b in zip(before, measured()))
    finally:
        tracemalloc.stop()


def test_replays_do_not_grow():
    model, step = made()
    live, capacity, objects_kb = growth(step, model)
    assert (step.why_not, live, capacity) == ("", 0, 0)
    assert objects_kb < 3


@pytest.mark.parametrize("what", ["tensors", "objects"])
def test_what_a_step_leaves_behind_is_seen_as_growth(what):
    model, step = made()
    left = []
    leak = {"tensors": lambda number: ownt.zeros(8), "objects": lambda number: [number] * 10}[what]
    live, _, objects_kb = growth(step, model, lambda number: left.append(leak(number)))
    assert live == (200 * 32 if what == "tensors" else 0)
    assert objects_kb > 10


def test_recordings_that_can_never_be_replayed_again_go():
    model, step = made()
    live, capacity, objects_kb = growth(step, model, lambda number: setattr(model.dropout, "p", 1 / (number + 2)))
    assert step.why_not == "the model, its mode or its optimizer has changed"
    assert (live, capacity) == (0, 0)
    assert objects_kb < 100


def test_those_that_can_are_kept_up_to_a_number_and_seen():
    """The control: given another number each time."""
    model, step = made(loss=lambda model: lambda x, y, size: loss_of(model)(x, y) * size)
    sizes = count(1.0)
    live, _, objects_kb = growth(lambda x, y: step(x, y, next(sizes)), model)
    assert live > 0
    assert objects_kb > 1000
    gc.collect()
    before = ledger.live
    step(*batch(model, 0), next(sizes))
    assert ledger.live == before


@pytest.mark.parametrize("size", [0, 1000])
def test_what_a_recording_holds_is_in_the_ledger(size):
    """Tensors that the loss function makes: replays write to them."""
    model, step = made(loss=lambda model: lambda x, y: loss_of(model)(x, y) * ag.sum(ownt.ones(1 + size)))
    gc.collect()
    before = ledger.live
    for number in range(3):
        step(*batch(model, number))
        assert (ledger.live - before >= 4000) is (size > 0)


# gradients


def sources(kind):
    """What the gradients of a step's parameters lie in, and bytes of gradients after it."""
    model = mlp()
    step, found = kind(loss_of(model), adam(model)), []
    for node in model.parameters():
        node.register_hook(lambda g: found.append(type(g.block.source)))
    before = ledger.by_kind()["gradient"]
    peaks = []
    for number in range(3):
        ledger.reset_peak()
        step(*batch(model, number))
        peaks.append(ledger.by_kind(at_peak=True)["gradient"] - before)
    return set(found), ledger.by_kind()["gradient"] - before, peaks


def test_gradients_are_scratch_memory_and_gone_after_the_step():
    found, left, peaks = sources(nn.Step)
    assert (found, left) == ({Arena}, 0)
    assert all(peak > 0 for peak in peaks)


def test_those_of_plain_steps_are_allocations_of_their_own():
    class Keeping(Plain):
        def accumulate(self, batches):
            for inputs in batches:
                self.loss_function(*inputs).backward()

    found, left, _ = sources(Keeping)
    assert (found, left) == ({Heap}, sum(node.nbytes for node in mlp().parameters()))


# peaks


def peaks(kind=nn.Step, **options):
    """(bytes at the peak of what is kept, and of what passes; the step's why_not) of three steps."""
    model, step = made(kind, **options)
    found = []
    gc.collect()
    for _ in range(3):
        ledger.reset_peak()
        step(*batch(model, 0))
        at_peak = ledger.by_kind(at_peak=True)
        found.append(({name: at_peak[name] for name in (*KEPT, *PASSING)}, ledger.peak, step.why_not))
    return found


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}, {"dtype": "float64"}])
def test_a_replay_has_the_peak_of_the_step_that_was_recorded(options):
    (recorded, _, why), (replayed, peak, why_not), again = peaks(**options)
    assert (bool(why), why_not) == (True, "")
    assert recorded == replayed
    assert all(replayed[kind] > 0 for kind in (*KEPT, *PASSING))
    assert again == (replayed, peak, why_not)


def test_a_replay_that_says_nothing_to_the_ledger_is_seen(monkeypatch):
    monkeypatch.setattr(Ledger, "visit", lambda *_: None)
    (recorded, *_), (replayed, *_), _ = peaks()
    assert recorded != replayed


def test_by_module_too():
    model, step = made()
    tables = []
    for _ in range(2):
        ledger.reset_peak()
        step(*batch(model, 0))
        at_peak = ledger.by_account(at_peak=True)
        tables.append({key: size for key, size in at_peak.items() if size and key[0] in PASSING})
    assert tables[0] == tables[1]
    assert len({path for _, path in tables[1]}) > 5


# what lies in scratch memory


def used(hold):
    """Bytes of scratch memory in use after each of four steps."""
    model, step = made()
    gc.collect()
    arena, found, held = ownt.memory.scratch(), [], []
    before = arena.used
    for number in range(4):
        step(*batch(model, number))
        if hold:
            with ag.no_grad():
                held.append(model(batch(model, number)[0]))
        found.append(arena.used - before)
    return found


def test_a_recording_takes_no_scratch_memory():
    assert used(hold=False) == [0, 0, 0, 0]


def test_what_is_held_between_steps_is_seen():
    assert all(b > a for a, b in zip([0, *used(hold=True)], used(hold=True)))


def test_a_replay_asks_for_no_scratch_memory():
    model, step = made()
    arena = ownt.memory.scratch()
    asked = []
    for number in range(3):
        before = arena.serial
        step(*batch(model, number))
        asked.append(arena.serial - before)
    assert asked[0] > 20
    assert asked[1:] == [0, 0]
