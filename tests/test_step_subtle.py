"""Where a replay could silently do what the program would not do now, and threads that record at once."""

from __future__ import annotations

import copy
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from plain_step import FIRST, adam, alike, batch, gpt, loss_of, mlp, steps

import ag
import nn
import ownt
from ownt.memory import ledger
from ownt.thread import state

sgd = lambda model: nn.SGD(model.parameters(), lr=0.01)


# replays that are not what the program would do now: silently, if nothing else is said


def replace_weight(run):
    node = run.model.parameters()[0]
    node.tensor = node.tensor.clone()


@pytest.mark.parametrize("change", [lambda run: run.optimizer.state.clear(), replace_weight], ids=["state", "weight"])
def test_what_was_replaced_is_seen_by_recordings_of_all_shapes(change):
    def drive(run):
        for number in range(8):
            if number == 4:
                change(run)
            steps(run, [number], 5 + number % 2)

    alike(drive)


def test_a_tensor_of_state_that_was_replaced_is_seen():
    def drive(run):
        steps(run, range(3))
        for kept in run.optimizer.state.values():
            kept["exp_avg"] = ownt.zeros(kept["exp_avg"].shape, kind="optimizer")
        steps(run, range(3, 6))

    alike(drive)


@pytest.mark.parametrize(
    "change",
    [
        lambda blocks: blocks.pop(0),
        lambda blocks: blocks.__delitem__(0),
        lambda blocks: blocks.insert(0, blocks[1]),
    ],
    ids=["pop", "del", "insert"],
)
def test_modules_in_a_list_may_move(change):
    def drive(run):
        steps(run, range(3))
        change(run.model.blocks)
        steps(run, range(3, 6))

    alike(drive, gpt)


class Own(nn.Module):
    """A model that is used by a method, as GPT.loss is."""

    def __init__(self):
        self.weight, self.mean = ag.param(np.ones(8)), ownt.zeros(dtype="float64")

    def loss(self, x):
        return ag.sum(ag.dropout(self.weight * x, 0.5, self.training))


def test_the_mode_of_a_model_that_is_not_called_counts():
    def drive(run):
        for number in range(6):
            run.model.train(number < 3)
            run(2.0 ** np.arange(8))

    alike(drive, Own, sgd, lambda model: model.loss)


def test_a_tensor_that_the_loss_function_sets_is_read_by_the_next_step():
    def loss(model):
        def function(x):
            y = ag.sum(model.weight * x)
            model.mean = (ag.constant(model.mean) * 0.5 + y.detach() * 0.5).tensor.clone()
            return y

        return function

    def drive(run):
        for number in range(4):
            run(np.full(8, float(number)))

    with pytest.warns(RuntimeWarning, match="'mean' of a Own was set"):
        alike(drive, Own, sgd, loss)


def test_a_mask_may_select_another_number_of_elements():
    def loss(model):
        return lambda x, mask: ag.sum(model.weight) * ag.sum(ag.constant(x)[mask])

    def drive(run):
        for count in (3, 1, 3):  # 1 is broadcast to the 3 that were recorded; 8 would be an error
            run(2.0 ** np.arange(8), np.arange(8) < count)

    with pytest.warns(RuntimeWarning, match="indexed by a mask"):
        alike(drive, Own, sgd, loss)


def test_another_loss_function_is_recorded():
    def drive(run):
        steps(run, range(2))
        run.step.loss_function = lambda x, y: loss_of(run.model)(x, y) * 2
        steps(run, range(2))

    alike(drive)


def test_numbers_that_are_equal_and_not_the_same_are_recorded_apart():
    def drive(run):
        for given in (True, 1, 1.0):
            run(*batch(run.model, 0), given)

    alike(drive, loss=lambda model: lambda x, y, given: loss_of(model)(x, y) * (2.0 if given is True else 1.0))


def test_what_a_loss_function_keeps_is_not_written_to_by_replays():
    model, kept = mlp(), []

    def function(x, y):
        loss = loss_of(model)(x, y)
        kept.append(loss.tensor.clone())
        return loss

    step = nn.Step(function, sgd(model))
    with pytest.warns(RuntimeWarning, match="kept outside"):
        first = step(*batch(model, 0)).item()
    step(*batch(model, 1))
    assert kept[0].item() == first


def test_a_norm_that_is_kept_is_not_written_to_by_replays():
    model = mlp()
    step = nn.Step(loss_of(model), sgd(model), max_norm=1.0)
    norms = []
    for number in range(3):
        step(*batch(model, number))
        norms.append(step.grad_norm)
    assert len({norm.item() for norm in norms}) == 3


# errors


def test_a_loss_function_may_seed():
    def loss(model):
        def function(x):
            ownt.manual_seed(3)
            return model.loss(x)

        return function

    def drive(run):
        for _ in range(3):
            run(2.0 ** np.arange(8))

    with pytest.warns(RuntimeWarning, match="random stream was set"):
        alike(drive, Own, sgd, loss)


def test_parameters_that_are_not_the_optimizers_get_their_gradients_as_ever():
    model = mlp()
    plain = copy.deepcopy(model)
    first, last = model.parameters()[0], model[2].parameters()
    step, optimizer = nn.Step(loss_of(model), nn.SGD(last, lr=0.01)), nn.SGD(plain[2].parameters(), lr=0.01)
    for number in range(3):
        with pytest.warns(RuntimeWarning, match="does not have needs a gradient") if not number else nullcontext():
            step(*batch(model, number))
        loss_of(plain)(*batch(plain, number)).backward()
        optimizer.step()
        optimizer.zero_grad()
    np.testing.assert_array_equal(first.grad.numpy(), plain.parameters()[0].grad.numpy())


def test_no_batches_are_an_error_in_words():
    model = mlp()
    with pytest.raises(ValueError, match=r"Step"):
        nn.Step(loss_of(model), sgd(model)).accumulate([])


def test_arrays_in_a_tuple_are_an_error_in_words():
    model = mlp()
    with pytest.raises(TypeError, match=r"Step: expected"):
        nn.Step(lambda xy: loss_of(model)(*xy), sgd(model))(batch(model, 0))


def test_an_anomaly_in_a_replay_leaves_the_thread_as_it_was(monkeypatch):
    for name in ("path", "op"):
        monkeypatch.setattr(state, name, "")
    model = gpt()
    step = nn.Step(model.loss, adam(model))
    step(*batch(model, 0))
    model.blocks[1].mlp.norm.weight.tensor[0] = np.inf
    with ag.detect_anomaly(), pytest.raises(ag.AnomalyError, match=r"in blocks\.1\.mlp"):
        step(*batch(model, 1))
    assert (step.why_not, state.path, state.op) == ("", "", "")


def test_the_peaks_table_lists_what_holds_bytes():
    model = gpt()
    step = nn.Step(model.loss, adam(model))
    for number in range(2):
        ledger.reset_peak()
        step(*batch(model, number))
    assert all(ledger.by_account(at_peak=True).values())


# threads


def test_two_threads_may_record_at_once():
    began, finished = [[threading.Event() for _ in range(2)] for _ in range(2)]
    errors = []

    def work(number):
        """The first to begin is the first to finish, while the second is at work."""
        model = mlp()

        def function(x, y):
            began[number].set()
            (began[1] if number == 0 else finished[0]).wait(5)
            return loss_of(model)(x, y)

        try:
            nn.Step(function, sgd(model))(*batch(model, 0))
        except AttributeError as error:
            errors.append(error)
        finished[number].set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for number, thread in enumerate(threads):
        thread.start()
        began[number].wait(5)
    for thread in threads:
        thread.join()
    assert errors == []


def test_an_arena_is_left_to_the_thread_that_made_it():
    model, arena = mlp(), ownt.memory.scratch()
    step = nn.Step(loss_of(model), sgd(model))
    step(*batch(model, 0))
    arena.empty((100_000,))  # freed at once, and to be put among the free when this thread allocates next
    waiting = list(arena._freed)
    thread = threading.Thread(target=step, args=batch(model, 0, 3))
    thread.start()
    thread.join()
    assert len(waiting) > 0
    assert list(arena._freed) == waiting


# recordings that are thrown away for nothing


def test_a_count_in_forward_does_not_cost_the_recordings_of_other_shapes():
    class Counting(nn.Module):
        def __init__(self):
            self.layer, self.count = nn.Linear(6, 4), ownt.zeros(dtype="int64")

        def forward(self, x):
            self.count += 1
            return self.layer(x)

    def drive(run):
        for number in range(6):
            steps(run, [number], 5 + number % 2)

    assert alike(drive, Counting).whys == [FIRST, FIRST, "", "", "", ""]
