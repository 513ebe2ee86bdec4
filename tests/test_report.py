"""The ledger and its report: bytes by kind and by module path, live and at the peak."""

from __future__ import annotations

import gc

import pytest

import ag
import nn
import ownt
from ownt.ledger import Ledger
from ownt.report import human_bytes


def test_live_and_peak_with_what_was_there_at_the_peak():
    ledger = Ledger()
    a, b = ledger.account("activation", "x"), ledger.account("workspace", "y")
    ledger.add(a, 100)
    ledger.add(b, 50)
    assert ledger.by_account(at_peak=True) == {("activation", "x"): 100, ("workspace", "y"): 50}
    ledger.subtract(b, 50)
    ledger.add(a, 20)
    assert (ledger.live, ledger.peak) == (120, 150)
    assert ledger.by_kind(at_peak=True)["workspace"] == 50
    ledger.reset_peak()
    assert (ledger.peak, ledger.by_kind(at_peak=True)["workspace"]) == (120, 0)
    ledger.add(b, 1)
    assert ledger.by_account(at_peak=True) == {("activation", "x"): 120, ("workspace", "y"): 1}


def test_moving_bytes_keeps_the_total():
    ledger = Ledger()
    a, b = ledger.account("buffer", ""), ledger.account("parameter", "w")
    ledger.add(a, 10)
    ledger.move(a, b, 10)
    assert ledger.by_account() == {("parameter", "w"): 10}
    assert ledger.live == ledger.peak == 10


@pytest.fixture
def trained_step():
    gc.collect()  # models of other tests, if in cycles, would be in the ledger too
    model = nn.GPT(nn.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8))
    optimizer = nn.Adam(model.parameters())
    ownt.memory.reset_peak()
    tokens = ownt.randint(0, 11, 3, 8)
    model.loss(tokens, tokens).backward()
    optimizer.step()
    return model, optimizer


def test_a_training_step_by_kind(trained_step):
    model, optimizer = trained_step
    size = sum(p.nbytes for p in model.parameters())
    live = ownt.memory.report().by_kind()
    assert (live["parameter"], live["gradient"], live["optimizer"]) == (size, size, 2 * size)
    assert (live["activation"], live["workspace"]) == (0, 0)
    peak = ownt.memory.report().by_kind(at_peak=True)
    assert peak["activation"] > 0
    optimizer.zero_grad()
    assert ownt.memory.report().by_kind()["gradient"] == 0


def test_a_training_step_by_module(trained_step):
    model, _ = trained_step
    report = ownt.memory.report()
    for path, node in model.named_parameters():
        assert report.live["parameter"][path] == report.live["gradient"][path] == node.nbytes
    assert report.by_module(depth=1)["blocks"] == 4 * sum(p.nbytes for p in model.blocks.parameters())
    assert any(path.startswith("blocks.1.mlp") for path in report.peak["activation"])


def test_dict_and_text(trained_step):
    report = ownt.memory.report()
    table = report.as_dict()
    assert table["live_bytes"] == sum(table["by_kind"].values()) == ownt.memory.ledger.live
    assert table["peak_bytes"] == sum(table["by_kind_at_peak"].values()) == ownt.memory.ledger.peak
    assert table["arenas"][0]["capacity"] == ownt.memory.scratch().capacity
    assert 0 < table["resident"] < 1 << 36
    text = str(report)
    for word in ("parameter", "gradient", "optimizer", "activation", "\n  1  ", "total", "scratch on cpu", "resident"):
        assert word in text


def test_what_is_not_a_models_has_no_module():
    held = ag.param(ownt.zeros(10), name="W")
    assert ownt.memory.report().live["parameter"]["W"] == 40
    del held
    assert "W" not in ownt.memory.report().live["parameter"]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1_234_567, "1.23 MB"), (5 * 10**9, "5.00 GB")]
)
def test_human_bytes(size, text):
    assert human_bytes(size) == text
