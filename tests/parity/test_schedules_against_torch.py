"""Learning rates at every step against PyTorch's schedulers, and Plateau against random metrics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nn import schedule

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

LR, STEPS = 0.2, 100
schedulers = torch.optim.lr_scheduler


def one_cycle(**settings):
    names = {"rise": "pct_start", "start_factor": "div_factor", "final_factor": "final_div_factor"}
    theirs = {names[name]: value for name, value in settings.items() if name in names}
    strategy = {"linear": "linear"}.get(settings.get("shape"), "cos")
    return schedule.one_cycle(LR, STEPS, **settings), lambda o: schedulers.OneCycleLR(
        o, LR, STEPS, anneal_strategy=strategy, cycle_momentum=False, **theirs
    )


def warmup_then_cosine(o):
    rise = schedulers.LinearLR(o, 0.1, 1.0, 9)
    return schedulers.SequentialLR(o, [rise, schedulers.CosineAnnealingLR(o, 90, 0.01)], [10])


SCHEDULES = {
    "constant": (schedule.constant(LR), lambda o: schedulers.ConstantLR(o, 1.0)),
    "linear": (schedule.linear(LR, 80), lambda o: schedulers.LinearLR(o, 1.0, 0.0, 80)),
    "linear to a rate": (schedule.linear(LR, 99, 0.05), lambda o: schedulers.LinearLR(o, 1.0, 0.25, 99)),
    "cosine": (schedule.cosine(LR, STEPS), lambda o: schedulers.CosineAnnealingLR(o, STEPS)),
    "cosine to a rate": (schedule.cosine(LR, STEPS, 0.05), lambda o: schedulers.CosineAnnealingLR(o, STEPS, 0.05)),
    "warm-up": (schedule.warmup(10, schedule.cosine(LR, 90, 0.01)), warmup_then_cosine),
    "step": (schedule.step(LR, 30), lambda o: schedulers.StepLR(o, 30)),
    "steps of one": (schedule.step(LR, 1, 0.97), lambda o: schedulers.StepLR(o, 1, 0.97)),
    "milestones": (schedule.milestones(LR, [70, 5, 31]), lambda o: schedulers.MultiStepLR(o, [70, 5, 31])),
    "milestones twice": (schedule.milestones(LR, [5, 5, 9], 0.5), lambda o: schedulers.MultiStepLR(o, [5, 5, 9], 0.5)),
    "exponential": (schedule.exponential(LR, 0.95), lambda o: schedulers.ExponentialLR(o, 0.95)),
    "one cycle": one_cycle(),
    "one cycle, linear": one_cycle(shape="linear"),
    "one cycle, early": one_cycle(rise=0.013, start_factor=10.0, final_factor=100.0),
    "one cycle, falling": one_cycle(rise=0.0),
    "one cycle, rising": one_cycle(rise=1.0),
} | {
    f"restarts {period} {growth} {final}": (
        schedule.cosine_restarts(LR, period, growth, final),
        lambda o, settings=(period, growth, final): schedulers.CosineAnnealingWarmRestarts(o, *settings),
    )
    for period, growth, final in ((10, 1, 0.0), (7, 1, 0.05), (1, 2, 0.01), (3, 3, 0.0), (200, 2, 0.0))
}  # fmt: skip


def torchs_optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)


@pytest.mark.parametrize(("made", "scheduler"), SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of a call of its own
def test_every_step(made, scheduler):
    optimizer = torchs_optimizer()
    theirs = scheduler(optimizer)
    expected = []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < STEPS:
            theirs.step()
    assert [made(step) for step in range(STEPS)] == pytest.approx(expected, rel=1e-12, abs=1e-15)


SETTINGS = [
    dict(zip(("mode", "threshold_mode", "patience", "cooldown", "threshold"), values))
    for values in itertools.product(("min", "max"), ("rel", "abs"), (0, 3), (0, 2), (0.0, 0.2))
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_plateau(settings):
    settings = settings | {"factor": 0.7, "min_lr": 1e-3, "eps": 1e-4}
    optimizer = torchs_optimizer()
    theirs, ours = schedulers.ReduceLROnPlateau(optimizer, **settings), schedule.Plateau(LR, **settings)
    metrics = np.random.default_rng(3).normal(size=STEPS).cumsum() * (1 if settings["mode"] == "max" else -1) / 3
    metrics[50] = np.nan
    for step, metric in enumerate(metrics):
        theirs.step(metric)
        assert ours(metric) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), step
    assert ours.state_dict() == {
        "lr": ours.lr, **{name: getattr(theirs, name) for name in ("best", "num_bad_epochs", "cooldown_counter")}
    }  # fmt: skip
