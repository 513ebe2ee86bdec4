"""Learning rates by step: at the start, in the middle, at the end, after it; and the warm-up."""

from __future__ import annotations

import pytest

import nn
from nn import schedule

LR, STEPS, FINAL = 0.2, 100, 0.05


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (schedule.constant(LR), {0: LR, 50: LR, 100: LR, 10**6: LR}),
        (schedule.linear(LR, STEPS), {0: LR, 25: 0.15, 50: 0.1, 99: 0.002, 100: 0, 1000: 0}),
        (schedule.linear(LR, STEPS, FINAL), {0: LR, 50: 0.125, 100: FINAL, 1000: FINAL}),
        (schedule.cosine(LR, STEPS), {0: LR, 25: 0.1 * (1 + 0.5**0.5), 50: 0.1, 100: 0, 1000: 0}),
        (schedule.cosine(LR, STEPS, FINAL), {0: LR, 50: 0.125, 100: FINAL, 1000: FINAL}),
    ],
    ids=["constant", "linear", "linear-final", "cosine", "cosine-final"],
)
def test_rates_at_the_start_the_middle_and_the_end(made, expected):
    assert {step: made(step) for step in expected} == pytest.approx(expected, rel=1e-12, abs=1e-17)


def test_a_warmup_rises_straight_to_the_first_rate_and_then_hands_over():
    made = schedule.warmup(4, schedule.linear(LR, 10))
    assert [made(step) for step in range(6)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.18])
    assert made(14) == 0


@pytest.mark.parametrize(
    ("name", "last"),
    [("constant", LR), ("linear", LR / 90), ("cosine", schedule.cosine(LR, 90)(89))],
)
def test_by_name_spends_all_steps_and_begins_with_the_warmup(name, last):
    made = schedule.by_name(name, LR, 100, warmup_steps=10)
    rates = [made(step) for step in range(100)]
    assert rates[0] == pytest.approx(LR / 10)
    assert rates[9] == rates[10] == max(rates) == LR
    assert rates[99] == pytest.approx(last)
    assert made(100) == (LR if name == "constant" else 0)


@pytest.mark.parametrize("name", schedule.NAMES)
def test_by_name_without_warmup_begins_at_the_rate(name):
    assert schedule.by_name(name, LR, STEPS)(0) == LR


@pytest.mark.parametrize("name", schedule.NAMES)
@pytest.mark.parametrize("warmup_steps", [5, 9])
def test_a_warmup_as_long_as_the_run_or_longer_only_rises(name, warmup_steps):
    made = schedule.by_name(name, LR, 5, warmup_steps)
    rates = [made(step) for step in range(5)]
    assert rates == pytest.approx([LR * (step + 1) / warmup_steps for step in range(5)])


def test_an_unknown_name_is_an_input_error_naming_those_there_are():
    with pytest.raises(nn.InputError, match="expected schedule among constant, linear, cosine; got 'step'"):
        schedule.by_name("step", LR, STEPS)
