"""Learning rates by step: at the start, in the middle, at the end, after it; the warm-up; Plateau; errors."""

from __future__ import annotations

import math
import re

import numpy as np
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
        (schedule.step(LR, 30), {0: LR, 29: LR, 30: 0.02, 59: 0.02, 60: 0.002, 300: 2e-11}),
        (schedule.step(LR, 1, 0.5), {0: LR, 1: 0.1, 2: 0.05}),
        (schedule.milestones(LR, [50, 10, 50], 0.5), {0: LR, 9: LR, 10: 0.1, 49: 0.1, 50: 0.025, 1000: 0.025}),
        (schedule.milestones(LR, []), {0: LR, 1000: LR}),
        (schedule.exponential(LR, 0.5), {0: LR, 1: 0.1, 3: 0.025}),
        (schedule.cosine_restarts(LR, 10), {0: LR, 5: 0.1, 10: LR, 15: 0.1, 10**9: LR}),
        (schedule.cosine_restarts(LR, 10, 3, FINAL), {0: LR, 5: 0.125, 10: LR, 25: 0.125, 40: LR, 85: 0.125, 130: LR}),
        (schedule.one_cycle(LR, 100, 0.3, 10, 100), {0: 0.02, 29: LR, 64: 0.1001, 99: 0.0002, 10**6: 0.0002}),
        (
            schedule.one_cycle(LR, 101, 21 / 101, 10, 100, "linear"),
            {0: 0.02, 10: 0.11, 20: LR, 60: 0.1001, 100: 0.0002},
        ),
        (schedule.one_cycle(LR, 11, 1.0, 10, 100), {0: 0.02, 5: 0.11, 10: LR, 11: LR}),
        (schedule.one_cycle(LR, 2, 0.5, 10, 100), {0: LR, 1: 0.0002}),
        (schedule.one_cycle(LR, 11, 0.0, 10, 100, "linear"), {0: 0.0002 + 0.1998 * 10 / 11, 10: 0.0002}),
        (schedule.one_cycle(LR, 1, 1.0), {0: LR, 1: LR}),
    ],
)
def test_rates_at_the_start_the_middle_and_the_end(made, expected):
    assert {step: made(step) for step in expected} == pytest.approx(expected, rel=1e-12, abs=1e-17)


def test_a_warmup_rises_straight_to_the_first_rate_and_then_hands_over():
    made = schedule.warmup(4, schedule.linear(LR, 10))
    assert [made(step) for step in range(6)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.18])
    assert made(14) == 0


@pytest.mark.parametrize(
    ("name", "last", "after"),
    [
        ("constant", LR, LR),
        ("linear", FINAL + (LR - FINAL) / 90, FINAL),
        ("cosine", schedule.cosine(LR, 90, FINAL)(89), FINAL),
        ("step", LR / 100, LR / 1000),
        ("restarts", schedule.cosine(LR, 52, FINAL)(50), schedule.cosine(LR, 52, FINAL)(51)),
    ],
)
def test_by_name_spends_all_steps_and_begins_with_the_warmup(name, last, after):
    made = schedule.by_name(name, LR, 100, warmup_steps=10, final=FINAL)
    rates = [made(step) for step in range(100)]
    assert rates[0] == pytest.approx(LR / 10)
    assert rates[9] == rates[10] == max(rates) == LR
    assert rates[99] == pytest.approx(last)
    assert made(100) == pytest.approx(after)


def test_the_warmup_of_one_cycle_is_its_rise():
    rates = [schedule.by_name("one-cycle", LR, 100, warmup_steps=20)(step) for step in range(100)]
    assert rates == [schedule.one_cycle(LR, 100, 0.2)(step) for step in range(100)]
    assert rates[19] == max(rates) == LR
    assert rates[99] == pytest.approx(LR / 25 / 1e4)
    assert schedule.by_name("one-cycle", LR, 100)(29) == LR
    assert schedule.by_name("one-cycle", LR, 5, warmup_steps=9)(4) == LR


def test_restarts_are_three_waves_each_twice_as_long_as_the_one_before():
    rates = [schedule.by_name("restarts", LR, 70)(step) for step in range(70)]
    assert [step for step, rate in enumerate(rates) if rate == LR] == [0, 10, 30]
    assert rates[69] < 0.01 * LR


BEGINNINGS = {name: LR / 25 if name == "one-cycle" else LR for name in schedule.NAMES}


@pytest.mark.parametrize("name", schedule.NAMES)
def test_by_name_without_warmup_begins_at_its_first_rate(name):
    assert schedule.by_name(name, LR, STEPS)(0) == pytest.approx(BEGINNINGS[name])


@pytest.mark.parametrize("name", [name for name in schedule.NAMES if name != "one-cycle"])
@pytest.mark.parametrize("warmup_steps", [5, 9])
def test_a_warmup_as_long_as_the_run_or_longer_only_rises(name, warmup_steps):
    made = schedule.by_name(name, LR, 5, warmup_steps)
    rates = [made(step) for step in range(5)]
    assert rates == pytest.approx([LR * (step + 1) / warmup_steps for step in range(5)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedule.by_name("steps", LR, STEPS),
         "by_name: expected schedule among constant, linear, cosine, one-cycle, step, restarts; got 'steps'"),
        (lambda: schedule.linear(LR, 0), "linear: expected steps of 1 or more; got 0"),
        (lambda: schedule.cosine(LR, 0), "cosine: expected steps of 1 or more; got 0"),
        (lambda: schedule.warmup(-1, schedule.constant(LR)), "warmup: expected steps of 0 or more; got -1"),
        (lambda: schedule.step(LR, 0), "step: expected every of 1 or more; got 0"),
        (lambda: schedule.step(LR, 1, -0.1), "step: expected factor of 0 or more; got -0.1"),
        (lambda: schedule.milestones(LR, [1], math.nan), "milestones: expected factor of 0 or more; got nan"),
        (lambda: schedule.exponential(LR, -1), "exponential: expected factor of 0 or more; got -1"),
        (lambda: schedule.cosine_restarts(LR, 0), "cosine_restarts: expected period of 1 or more; got 0"),
        (lambda: schedule.cosine_restarts(LR, 3, 0), "cosine_restarts: expected growth of 1 or more; got 0"),
        (lambda: schedule.one_cycle(LR, 0), "one_cycle: expected steps of 1 or more; got 0"),
        (lambda: schedule.one_cycle(LR, 9, 1.1), "one_cycle: expected rise from 0 to 1; got 1.1"),
        (lambda: schedule.one_cycle(LR, 9, start_factor=0), "one_cycle: expected start_factor of 1 or more; got 0"),
        (lambda: schedule.one_cycle(LR, 9, final_factor=0), "one_cycle: expected final_factor of 1 or more; got 0"),
        (lambda: schedule.one_cycle(1, 9, shape="x"), "one_cycle: expected shape among cosine, linear; got 'x'"),
        (lambda: schedule.Plateau(-1.0), "Plateau: expected lr of 0 or more; got -1.0"),
        (lambda: schedule.Plateau(LR, 1.0), "Plateau: expected factor from 0 up to, without, 1; got 1.0"),
        (lambda: schedule.Plateau(LR, patience=-1), "Plateau: expected patience of 0 or more; got -1"),
        (lambda: schedule.Plateau(LR, threshold=math.nan), "Plateau: expected threshold of 0 or more; got nan"),
        (lambda: schedule.Plateau(LR, cooldown=-1), "Plateau: expected cooldown of 0 or more; got -1"),
        (lambda: schedule.Plateau(LR, min_lr=-1), "Plateau: expected min_lr of 0 or more; got -1"),
        (lambda: schedule.Plateau(LR, eps=-1), "Plateau: expected eps of 0 or more; got -1"),
        (lambda: schedule.Plateau(LR, mode="least"), "Plateau: expected mode among min, max; got 'least'"),
        (lambda: schedule.Plateau(LR, threshold_mode="x"), "Plateau: expected threshold_mode among rel, abs; got 'x'"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(call, message):
    with pytest.raises(nn.InputError, match=f"^{re.escape(message)}$"):
        call()


# by a metric


def rates(plateau, metrics):
    return [plateau(metric) for metric in metrics]


def test_a_plateau_cuts_the_rate_after_more_than_its_patience():
    assert rates(schedule.Plateau(1.0, 0.5, patience=2), [3, 2, 2, 2, 2, 2, 2, 2]) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert rates(schedule.Plateau(1.0, 0.5, patience=0), [3, 2, 2, 1, math.nan]) == [1, 1, 0.5, 0.5, 0.25]


def test_a_plateau_of_a_metric_that_should_rise():
    assert rates(schedule.Plateau(1.0, 0.5, patience=0, mode="max"), [1, 2, 3, 3, 2]) == [1, 1, 1, 0.5, 0.25]


@pytest.mark.parametrize(("threshold_mode", "cut"), [("rel", [10.0, 9.5, 8.5]), ("abs", [10.0, 9.95, 9.85])])
def test_an_improvement_has_to_pass_the_threshold(threshold_mode, cut):
    plateau = schedule.Plateau(1.0, 0.5, patience=0, threshold=0.1, threshold_mode=threshold_mode)
    assert rates(plateau, cut) == [1, 0.5, 0.5]


def test_a_plateau_rests_after_a_cut_and_stops_at_the_lowest_rate():
    plateau = schedule.Plateau(1.0, 0.5, patience=0, cooldown=2, min_lr=0.2)
    assert rates(plateau, [1] * 12) == [1, *[0.5] * 3, *[0.25] * 3, *[0.2] * 5]
    assert rates(schedule.Plateau(1e-8, 0.5, patience=0), [1, 1, 1]) == [1e-8] * 3  # less than eps is no cut


def test_a_plateau_goes_on_from_a_saved_state():
    metrics = np.random.default_rng(0).normal(size=60)
    whole, first, second = (schedule.Plateau(1.0, 0.9, patience=1, cooldown=1) for _ in range(3))
    expected = rates(whole, metrics)
    rates(first, metrics[:31])
    second.load_state_dict(first.state_dict())
    assert rates(second, metrics[31:]) == expected[31:]
    assert expected[-1] < expected[31] < 1
    assert set(second.state_dict()) == {"lr", "best", "num_bad_epochs", "cooldown_counter"}


@pytest.mark.parametrize(("state", "got"), [({}, "nothing"), ({"lr": 1.0, "speed": 2}, "lr, speed")])
def test_a_state_with_other_keys_is_an_error(state, got):
    plateau = schedule.Plateau(0.5)
    message = f"Plateau.load_state_dict: expected lr, best, num_bad_epochs, cooldown_counter; got {got}"
    with pytest.raises(ValueError, match=message):
        plateau.load_state_dict(state)
    assert plateau.lr == 0.5
