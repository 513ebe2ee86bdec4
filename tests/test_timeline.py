"""Timelines: events, phases and the peak against the ledger; and what recording costs."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

import nn
import ownt

pytestmark = pytest.mark.memory
TOKENS = np.random.default_rng(0).integers(0, 65, (4, 32))


def gpt(**options):
    return nn.GPT(nn.GPTConfig(vocab_size=65, block_size=32, n_layer=2, n_head=2, n_embd=64, **options))


def plain(model):
    optimizer = nn.AdamW(model.parameters())

    def step():
        model.loss(TOKENS, TOKENS).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def captured(model):
    step = nn.Step(model.loss, nn.AdamW(model.parameters()))
    return lambda: step(TOKENS, TOKENS)


@pytest.mark.parametrize("kind", [plain, captured])
def test_it_tells_what_the_ledger_tells(kind):
    step = kind(gpt())
    for _ in range(3):
        step()
    ownt.memory.reset_peak()
    with ownt.memory.record("a GPT") as timeline:
        for _ in range(4):
            step()
    totals = timeline.totals()
    assert max(totals) == timeline.report.peak_bytes == ownt.memory.ledger.peak
    assert totals[-1] == ownt.memory.ledger.live
    assert timeline.times == sorted(timeline.times)
    assert timeline.title == "a GPT"
    phases = [name for name, _, _ in timeline.phases if name != "forward"]
    assert phases.count("backward") == 4
    assert all(first < end for _, first, end in timeline.phases)


def test_a_tensor_that_is_held_is_told_with_its_line():
    with ownt.memory.record() as timeline:
        held = ownt.zeros(1000)
        with ownt.scratch.mark():
            ownt.scratch.empty((500,))
        kept = ownt.zeros(7)
        del held
    first, passing, last = (next(h for h in timeline.held if h.bytes == size) for size in (4000, 2000, 28))
    line = test_a_tensor_that_is_held_is_told_with_its_line.__code__.co_firstlineno + 2
    assert first.line.endswith(f"test_timeline.py:{line}")
    assert (first.text, passing.text) == ("(1000,) float32", "(500,) float32")
    assert 0 <= first.start < passing.start < passing.end < last.start < first.end
    assert last.end == -1
    del kept


def test_what_was_there_before_is_told():
    before = ownt.zeros(12345)
    with ownt.memory.record() as timeline:
        pass
    found = [held for held in timeline.held if held.bytes == before.nbytes]
    assert [(held.text, held.start, held.end) for held in found] == [("(12345,) float32", -1, -1)]


def test_one_at_a_time():
    with ownt.memory.record(), pytest.raises(RuntimeError, match="no recording to be in progress"):
        ownt.memory.record().__enter__()
    with ownt.memory.record():
        pass


def test_an_error_inside_ends_it():
    with pytest.raises(ZeroDivisionError), ownt.memory.record():
        raise ZeroDivisionError
    assert ownt.memory.ledger.timeline is None


def test_the_page_needs_a_recording(tmp_path):
    with pytest.raises(ValueError, match="report of a recording"):
        ownt.memory.report().to_html(tmp_path / "page.html")
    with ownt.memory.record("one") as timeline:
        plain(gpt())()
    timeline.report.to_html(tmp_path / "page.html", timeline.report)
    assert "one" in (tmp_path / "page.html").read_text("utf-8")


def test_the_report_names_the_largest_and_the_tree_adds_up():
    step = plain(gpt())
    step()
    with ownt.memory.record() as timeline:
        step()
    report = timeline.report
    rows = {name.strip(): (live, peak) for name, live, peak in report._tree()}
    blocks = [path for path in report.by_module() if path.startswith("blocks.")]
    assert rows["blocks"][0] == sum(report.by_module()[path] for path in blocks)
    there = sorted((held.bytes for held in timeline.at(timeline.peak())), reverse=True)
    assert [held.bytes for held in report.largest(3)] == there[:3]
    assert set(report.as_dict()["largest"][0]) == {"bytes", "kind", "path", "name", "op", "line", "shape"}


def test_recording_costs_little():
    """Of replays less than 5 %, as is promised; measured with a margin for a busy machine."""
    step = captured(gpt())
    with ownt.memory.record():
        for _ in range(5):
            step()

    def seconds(count):
        began = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - began

    ratios = []
    for _ in range(7):
        bare = seconds(30)
        with ownt.memory.record():
            step()  # is run as it is if it has not been seen
            ratios.append(seconds(30) / bare)
    assert statistics.median(ratios) < 1.25
