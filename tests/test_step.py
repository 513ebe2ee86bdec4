"""nn.Step: replays that equal the plain loop bit for bit."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
from optimizer_rules import RULES
from plain_step import FIRST, Plain, Run, adam, alike, assert_equal, batch, gpt, loss_of, mlp, steps

import ag
import nn
import ownt

MODELS = {
    "mlp": mlp,
    "mlp-float64": partial(mlp, "float64"),
    "gpt": gpt,
    "gpt-float64": partial(gpt, dtype="float64"),
    "gpt-dropout": partial(gpt, dropout=0.2),
    "gpt-checkpoint": partial(gpt, checkpoint=True),
    "gpt-checkpoint-dropout": partial(gpt, checkpoint=True, dropout=0.2),
}


# replays


@pytest.mark.parametrize("max_norm", [None, 0.1, 1e9])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_replays_equal_the_plain_loop(model, max_norm):
    run = alike(lambda run: steps(run, range(20)), model, max_norm=max_norm)
    assert run.whys == [FIRST, *[""] * 19]
    if max_norm is not None:
        assert all(0.1 < norm < 1e9 for norm in run.norms)  # so that one of the two clips, and the other does not


@pytest.mark.parametrize(("kind", "_", "options", "copies"), RULES.values(), ids=RULES)
def test_every_optimizer_updates_alike(kind, _, options, copies):
    optimizer = lambda model: kind(model.parameters(), lr=0.01, **options)
    run = alike(lambda run: steps(run, range(20)), optimizer=optimizer, max_norm=1.0)
    assert run.whys == [FIRST, *[""] * 19]
    assert all(len(state) - ("step" in state) == copies for state in run.optimizer.state.values())


@pytest.mark.parametrize("kind", [nn.AdamW, nn.Lion])
def test_groups_of_weight_decay_and_rates_update_alike(kind):
    def optimizer(model):
        decayed, others = nn.decay_groups(model, 0.2)
        return kind([decayed, {**others, "lr": 0.1}], lr=0.01)

    assert alike(lambda run: steps(run, range(8)), gpt, optimizer).replayed == [False, *[True] * 7]


def test_weights_of_float16_and_their_masters_update_alike():
    run = alike(lambda run: steps(run, range(20)), lambda: mlp().to(dtype="float16"), max_norm=1.0)
    assert run.replayed == [False, *[True] * 19]
    assert all(state["master"].dtype == "float32" for state in run.optimizer.state.values())


@pytest.mark.parametrize("model", [mlp, MODELS["gpt-dropout"]])
def test_accumulated_batches_replay_together(model):
    def drive(run):
        for number in range(12):
            sizes = [(3, 5), (4,), (5, 2, 3)][number % 3]
            batches = [batch(run.model, 10 * number + i, size) for i, size in enumerate(sizes)]
            run.accumulate((x, y, np.float32(1 / len(batches))) for x, y in batches)

    def loss(model):
        return lambda x, y, share: loss_of(model)(x, y) * share

    assert alike(drive, model, loss=loss, max_norm=0.5).replayed == [*[False] * 3, *[True] * 9]


def test_a_replay_makes_no_node_and_calls_no_function(monkeypatch):
    made, called, model = [], [], gpt(dropout=0.1)
    init = ag.Node.__init__
    monkeypatch.setattr(ag.Node, "__init__", lambda *args, **options: (made.append(1), init(*args, **options))[1])
    step = nn.Step(lambda x, y: (called.append(1), model.loss(x, y))[1], adam(model), max_norm=1.0)
    for number in range(3):
        made.clear(), called.clear()
        step(*batch(model, number))
        assert (len(made) > 20, len(called)) == ((True, 1) if number == 0 else (False, 0))
        assert number == 0 or not made


def test_a_loss_is_a_tensor_of_its_own_and_inputs_are_not_kept():
    """Neither later steps nor the caller's writes to what it gave change a loss that is there already."""
    model = mlp()
    step = nn.Step(loss_of(model), nn.SGD(model.parameters(), lr=0.0))
    x, y = batch(model, 0)
    first, before = step(x, y), x.copy()
    x += 1
    second, third = step(x, y), step(before, y)
    assert first.item() == third.item() != second.item()


def test_tensors_arrays_lists_and_nodes_are_inputs_alike():
    def drive(run):
        x, y = batch(run.model, 0)
        for given in ((x, y), (ownt.asarray(x), ownt.asarray(y)), (ag.constant(x), y), (x[::-1], y), (x, y.tolist())):
            run(*given)

    assert alike(drive).replayed == [False, *[True] * 4]


def test_numbers_are_part_of_what_is_recorded():
    def drive(run):
        for factor in (1.0, 2.0, 1.0, 2.0):
            run(*batch(run.model, 0), factor)

    def loss(model):
        return lambda x, y, factor: loss_of(model)(x, y) * factor

    assert alike(drive, loss=loss).replayed == [False, False, True, True]


class Counting(nn.Module):
    """A model that writes to tensors of its own while it runs."""

    def __init__(self):
        self.layer = nn.Linear(6, 4)
        self.count, self.mean = ownt.zeros(dtype="int64"), ownt.zeros(4)

    def forward(self, x):
        y = self.layer(x)
        self.count += 1
        self.mean *= 0.9
        self.mean += ag.mean(y.detach(), 0).tensor
        self.mean[0] = 3
        return y - self.mean


def test_writes_in_place_to_a_models_tensors_are_repeated():
    run = alike(lambda run: steps(run, range(6)), Counting)
    assert run.replayed == [False, *[True] * 5]
    assert run.model.count.item() == 6


def test_a_graph_from_before_a_replay_knows_that_weights_have_changed():
    model = mlp()
    step, weight = nn.Step(loss_of(model), adam(model)), model.parameters()[0]
    for number in range(3):
        square = None
        square = ag.sum(weight * weight)  # where it lay when the step was recorded: not in the way
        step(*batch(model, number))
    assert step.why_not == ""
    with pytest.raises(RuntimeError, match="written in place before backward"):
        square.backward()


# two steps, two threads


def test_two_models_may_be_trained_in_turn():
    found = []
    for kind in (Plain, nn.Step):
        ownt.manual_seed(0)
        models = [gpt(dropout=0.2), mlp()]
        runs = [Run(kind(loss_of(model), adam(model), max_norm=1.0), model) for model in models]
        for number in range(6):
            for run in runs:
                steps(run, [number])
        found.append(runs)
    for plain, run in zip(*found):
        assert_equal(plain, run)
        assert run.replayed == [False, *[True] * 5]


def test_two_steps_may_train_one_model_in_turn():
    def drive(run):
        other = Run(type(run.step)(lambda x, y: loss_of(run.model)(x, y) * 0.5, run.optimizer), run.model)
        for number in range(5):
            steps(run, [number])
            steps(other, [number])

    assert alike(drive, max_norm=1.0).replayed == [False, *[True] * 4]


def test_another_thread_records_for_itself():
    def drive(run):
        steps(run, range(3))
        for numbers in (range(3, 5), range(5, 7)):
            thread = threading.Thread(target=steps, args=(run, numbers))
            thread.start()
            thread.join()
        steps(run, range(7, 9))

    run = alike(drive, MODELS["gpt-dropout"])
    other = "in the way of a replay: scratch memory of another thread"
    assert run.whys == [FIRST, "", "", other, "", other, "", "", ""]
