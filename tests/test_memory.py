"""Promises about bytes, counted four ways; each with a control that a doubled buffer or a leak must fail."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ag
import nn
import ownt
from ag.slot import GradSlot
from ownt.device import Device
from ownt.memory import ledger

pytestmark = pytest.mark.memory
ROOT = Path(__file__).parents[1]
memray = pytest.importorskip("memray", reason="needs memray, which the test extra installs on Linux and macOS")


def leaf(*shape: int) -> tuple[list[ag.Node], Callable[[], ag.Node]]:
    w = ag.param(ownt.ones(*shape), name="W")
    return [w], lambda: ag.sum(w)


def mlp():
    model = nn.MLP([784, 3000, 2500, 10])
    x = ownt.randn(4, 784)
    return model.parameters(), lambda: ag.cross_entropy(model(x), [1, 2, 3, 4])


def gpt():
    model = nn.GPT(nn.GPTConfig(vocab_size=65, block_size=32, n_layer=3, n_head=4, n_embd=64))
    tokens = ownt.randint(0, 65, 2, 32)
    return model.parameters(), lambda: model.loss(tokens, tokens)


CASES = {
    "leaf of 1000 x 1000": (lambda: leaf(1000, 1000), 4_000_000),
    "leaf of 25 M": (lambda: leaf(25_000_000), 100_000_000),
    "MLP of 10 M": (mlp, None),
    "GPT": (gpt, None),
}


@pytest.fixture(params=CASES)
def case(request):
    """Parameters, a function that computes the loss, and the bytes their gradients should take."""
    build, expected = CASES[request.param]
    parameters, loss = build()
    size = sum(p.nbytes for p in parameters)
    assert expected in (None, size)
    return parameters, loss, size


@pytest.fixture
def doubled(monkeypatch):
    """Every gradient allocated twice, as the C++ library of the bug report did."""
    allocate, kept = GradSlot.allocate, []

    def twice(slot):
        if slot.leaf:
            allocate(slot)
            kept.append(slot.tensor)
        allocate(slot)

    monkeypatch.setattr(GradSlot, "allocate", twice)


def by_ledger(loss: Callable[[], ag.Node]) -> int:
    before = ledger.by_kind()["gradient"]
    loss().backward()
    return ledger.by_kind()["gradient"] - before


def by_ledger_at_the_peak(loss: Callable[[], ag.Node]) -> int:
    before = ledger.by_kind()["gradient"]
    ownt.memory.reset_peak()
    loss().backward()
    return ledger.by_kind(at_peak=True)["gradient"] - before


def by_tracemalloc(loss: Callable[[], ag.Node]) -> int:
    """NumPy's own count of its data, to the byte, of what the heap allocated."""
    tracemalloc.start()
    try:
        loss().backward()
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    data = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    heap = tracemalloc.Filter(inclusive=True, filename_pattern="*/ownt/device.py")
    return sum(s.size for s in snapshot.filter_traces([data]).filter_traces([heap]).statistics("filename"))


def by_memray(loss: Callable[[], ag.Node], folder: Path) -> int:
    """What the heap allocated for gradients and did not free, in blocks of 1 KiB and more: NumPy caches the rest."""
    file = folder / "run.bin"
    with memray.Tracker(file):
        loss().backward()
    live = {}
    for record in memray.FileReader(file).get_allocation_records():
        if record.allocator in (memray.AllocatorType.FREE, memray.AllocatorType.MUNMAP):
            live.pop(record.address, None)
        elif record.size >= 1024 and is_gradient(record):
            live[record.address] = record.size
    return sum(live.values())


def is_gradient(record) -> bool:
    """Whether a GradSlot asked the heap for it, and Device.empty is the innermost caller: no Python object of ours."""
    calls = [(function, Path(file).name, line) for function, file, line in record.stack_trace()]
    source, first = inspect.getsourcelines(Device.empty)
    function, file, line = calls[0] if calls else ("", "", 0)
    in_heap = (function, file) == ("empty", "device.py") and first <= line < first + len(source)
    return in_heap and ("allocate", "slot.py") in [call[:2] for call in calls]


def large(parameters: list[ag.Node]) -> int:
    return sum(p.nbytes for p in parameters if p.nbytes >= 1024)


def test_by_the_ledger(case):
    parameters, loss, size = case
    assert sum(0 if p.grad is None else p.grad.nbytes for p in parameters) == 0  # before backward there is none
    assert by_ledger(loss) == size
    assert sum(p.grad.nbytes for p in parameters) == size
    assert by_ledger(loss) == 0  # the second accumulates


@pytest.mark.parametrize("name", ["leaf of 1000 x 1000", "GPT"])
def test_at_the_peak_by_the_ledger(name):
    parameters, loss = CASES[name][0]()
    size = sum(p.nbytes for p in parameters)
    assert by_ledger_at_the_peak(loss) <= size
    assert by_ledger_at_the_peak(loss) == 0


def test_by_tracemalloc(case):
    _, loss, size = case
    assert by_tracemalloc(loss) == size


def test_by_memray(case, tmp_path):
    parameters, loss, _ = case
    assert by_memray(loss, tmp_path) == large(parameters)


@pytest.mark.parametrize("name", CASES)
def test_a_doubled_buffer_is_seen_by_each_count(name, doubled, tmp_path):
    def counted(count: Callable[..., int], *args) -> tuple[int, list[ag.Node]]:
        parameters, loss = CASES[name][0]()
        return count(loss, *args), parameters

    for count in (by_ledger, by_tracemalloc):
        found, parameters = counted(count)
        assert found == 2 * sum(p.nbytes for p in parameters)
    found, parameters = counted(by_memray, tmp_path)
    assert found == 2 * large(parameters)


def test_zero_grad_frees_and_keeping_keeps(tmp_path):
    parameters, loss = mlp()
    loss().backward()
    before = ledger.by_kind()["gradient"]
    ag.zero_grad(parameters, set_to_none=False)
    assert ledger.by_kind()["gradient"] == before
    ag.zero_grad(parameters)
    assert before - ledger.by_kind()["gradient"] == sum(p.nbytes for p in parameters)


def measured_apart(*arguments: str) -> dict:
    """The figures of a case of bench/gradient_peak.py, from a process of its own."""
    return from_process(ROOT / "bench" / "gradient_peak.py", "--run", *arguments)


def from_process(*command: object) -> dict:
    """What a script prints as JSON."""
    arguments = [sys.executable, *map(str, command)]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


@pytest.mark.parametrize("control", [False, True])
def test_the_three_counts_of_the_mlp_bench(control):
    found = from_process(ROOT / "bench" / "mlp_mem.py", "--run", "mlp", *["--control"] * control)
    expected = found["parameter_bytes"] * (2 if control else 1)
    assert found["gradient_bytes_by_ledger"] == found["gradient_bytes_by_memray"] == expected
    assert found["at_the_peak"]["optimizer"] == 2 * found["parameter_bytes"]


def within(growth: int, parameters: int, share: float) -> bool:
    return growth <= share * parameters + 8_000_000


@pytest.mark.parametrize("name", ["linears", "tied", "reused", "slices"])
def test_heap_growth_at_the_peak_of_a_backward(name):
    """All of it, by memray: gradients, chunks and temporaries."""
    found = measured_apart("ownt", name)
    assert found["first"] >= found["parameter_bytes"]
    assert within(found["first"], found["parameter_bytes"], 1.05)
    assert within(found["second"], found["parameter_bytes"], 0.05)


def test_a_doubled_buffer_shows_in_the_heap_growth():
    found = measured_apart("ownt", "linears", "doubled")
    assert not within(found["first"], found["parameter_bytes"], 1.05)
    assert not within(found["second"], found["parameter_bytes"], 0.05)


def many_steps(*arguments: str) -> dict:
    return from_process(ROOT / "tests" / "many_steps.py", *arguments)


def test_10000_steps_without_garbage_collection_do_not_grow():
    found = many_steps("10000")
    assert found["different_addresses"] == 1
    assert found["capacity"] == found["live"] == 0
    assert found["resident"] < 1_000_000


def test_a_kilobyte_a_step_is_seen_as_growth():
    found = many_steps("3000", "leak")
    assert found["live"] == 1024 * (3000 - 101)
    assert found["resident"] >= 1_000_000
