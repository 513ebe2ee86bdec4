"""nn.Step where a step cannot be replayed, or fails: what it says, and that it can be used after it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from plain_step import FIRST, adam, alike, batch, gpt, loss_of, mlp, steps

import ag
import nn
import ownt

# what cannot be replayed

READS = {
    "item": (lambda y: y.item(), "a tensor was read"),
    "float": (lambda y: float(y), "a tensor was read"),
    "bool": (lambda y: bool(y), "a tensor was read"),
    "numpy": (lambda y: y.numpy(), "a tensor was read"),
    "asarray": (lambda y: np.asarray(y.detach()), "a tensor was read"),
    "tolist": (lambda y: y.tensor.tolist(), "a tensor was read"),
    "repr": (lambda y: repr(y), "a tensor was shown"),
    "an array as index": (lambda y: y.tensor.reshape(1)[np.array([0])], "a tensor was indexed by an array"),
    "rand": (lambda y: ownt.rand(2), "random numbers were drawn by no op"),
    "randn": (lambda y: ownt.randn(2), "random numbers were drawn by no op"),
    "randint": (lambda y: ownt.randint(0, 2, 2), "random numbers were drawn by no op"),
}


@pytest.mark.parametrize(("read", "what"), READS.values(), ids=READS)
def test_a_step_that_reads_a_value_is_run_each_time_and_says_so_once(read, what):
    called = []

    def loss(model):
        def function(x, y):
            called.append(1)
            loss = loss_of(model)(x, y)
            read(loss)
            return loss

        return function

    def drive(run):
        called.clear()
        if run.is_recorded:
            with pytest.warns(RuntimeWarning, match=what) as warned:
                steps(run, [0])
            (warning,) = warned
            assert __file__ in str(warning.message)
            assert warning.filename.endswith("plain_step.py")  # where the step was called
        else:
            steps(run, [0])
        steps(run, range(1, 6))  # of which none warns: warnings are errors

    run = alike(drive, lambda: gpt(dropout=0.2), loss=loss, max_norm=1.0)
    assert len(called) == 6
    assert all(what in why and __file__ in why for why in run.whys[1:])


def test_other_shapes_may_be_replayed_all_the_same():
    def loss(model):
        def function(x, y):
            loss = loss_of(model)(x, y)
            if len(x) == 3:
                loss.item()
            return loss

        return function

    def drive(run):
        for number, size in enumerate((5, 3, 5, 3, 5)):
            if run.is_recorded and number == 1:
                with pytest.warns(RuntimeWarning, match="a tensor was read"):
                    steps(run, [number], size)
            else:
                steps(run, [number], size)

    assert alike(drive, loss=loss).replayed == [False, False, True, False, True]


def test_what_python_does_happens_only_when_the_function_is_called():
    """As its docstring says; what the framework cannot see stays what it was."""
    model, stream = mlp(), random.Random(0)
    drawn = []

    def function(x, y):
        drawn.append(stream.random())
        return loss_of(model)(x, y) * drawn[-1]

    step = nn.Step(function, nn.SGD(model.parameters(), lr=0.0))
    losses = {step(*batch(model, 0)).item() for _ in range(3)}
    assert (len(losses), len(drawn)) == (1, 1)


# errors


def wrong(model, place):
    """A batch with a number out of range in it: among a GPT's tokens or targets."""
    x, y = (part.copy() for part in batch(model, 9))
    (x if place == "tokens" else y)[0, 1] = 99
    return x, y


@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize("place", ["tokens", "targets"])
def test_numbers_out_of_range_are_an_error_before_any_weight_changes(place, number):
    def drive(run):
        steps(run, range(number))
        if run.is_recorded:
            before = [tensor.clone().numpy() for tensor in run.model.state_dict().values()]
            with pytest.raises(IndexError, match=r"expected .* from 0 to 10; got 99 at \(0, 1\)"):
                run.step(*wrong(run.model, place))
            assert (run.step.why_not == "") is (number > 0)
            for tensor, values in zip(run.model.state_dict().values(), before):
                np.testing.assert_array_equal(tensor.numpy(), values)
        steps(run, range(number, number + 4))

    run = alike(drive, gpt, max_norm=1.0)
    assert run.replayed == [step > 0 for step in range(number + 4)]


def test_a_batch_that_fails_counts_no_step_of_the_optimizer():
    model = gpt()
    step = nn.Step(model.loss, adam(model))
    for number in range(3):
        step(*batch(model, number))
    with pytest.raises(IndexError):
        step(*wrong(model, "tokens"))
    assert {state["step"] for state in step.optimizer.state.values()} == {3}


LOSSES = {
    "a vector": (lambda h: ag.mean(h, 0), TypeError, "to return a scalar Node; got Node"),
    "a number": (lambda h: 3.0, TypeError, "to return a scalar Node; got 3.0"),
    "nothing": (lambda h: None, TypeError, "to return a scalar Node; got None"),
    "a tensor": (lambda h: ag.mean(h).tensor, TypeError, "to return a scalar Node; got Tensor"),
    "a constant": (lambda h: ag.mean(h.detach()), RuntimeError, "computed from a parameter; got a constant"),
    "an error": (lambda h: 1 / 0, ZeroDivisionError, "division by zero"),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("made", "error", "words"), LOSSES.values(), ids=LOSSES)
def test_after_a_loss_that_is_none_a_step_can_be_used_again(made, error, words, first):
    def loss(model):
        return lambda x, y, how: loss_of(model)(x, y) if how == "good" else made(model(x))

    def drive(run):
        arena = ownt.memory.scratch()
        blocks = arena.blocks
        for number in range(6):
            if run.is_recorded and number in (0 if first else 2, 4):
                with pytest.raises(error, match=words):
                    run.step(*batch(run.model, number), "bad")
                assert all(node.grad is None for node in run.model.parameters())
                assert arena.blocks == blocks
            run(*batch(run.model, number), "good")

    assert alike(drive, loss=loss, max_norm=1.0).replayed == [False, *[True] * 5]


def test_a_batch_that_fails_takes_those_before_it_along():
    """Their gradients are not left for the next step."""

    def drive(run):
        for number in range(4):
            if run.is_recorded:
                with pytest.raises(IndexError):
                    run.step.accumulate([batch(run.model, 7), wrong(run.model, "tokens")])
                assert all(node.grad is None for node in run.model.parameters())
            run.accumulate([batch(run.model, number), batch(run.model, number + 1)])

    assert alike(drive, gpt, max_norm=1.0).replayed == [False, True, True, True]


@pytest.mark.parametrize("given", [{}, {1}, bytearray()])
def test_inputs_that_cannot_be_told_apart_are_an_error(given):
    def drive(run):
        steps(run, range(2))
        if run.is_recorded:
            with pytest.raises(
                TypeError, match=rf"arrays, tensors and hashable values as inputs; got {type(given).__name__}"
            ):
                run.step(given, given)
        steps(run, range(2))

    assert alike(drive).replayed == [False, *[True] * 3]


@pytest.mark.parametrize("max_norm", [-1.0, float("nan")])
def test_a_norm_below_0_is_an_error(max_norm):
    model = mlp()
    with pytest.raises(ValueError, match=f"Step: expected max_norm of 0 or more; got {max_norm}"):
        nn.Step(loss_of(model), adam(model), max_norm=max_norm)


def test_scratch_memory_that_is_kept_is_an_error_that_says_what():
    model, kept = mlp(), []

    def function(x, y, keep):
        h = model(x)
        if keep:
            kept.append(h)
        return ag.cross_entropy(h, y)

    step = nn.Step(function, adam(model))
    with pytest.raises(ownt.HeldError, match="activation of 80 bytes, made by linear in 2"):
        step(*batch(model, 0), True)
    with pytest.raises(RuntimeError, match="read after its scratch memory was reclaimed"):
        kept[0].numpy()
    for expected in (FIRST, ""):
        step(*batch(model, 0), False)
        assert step.why_not == expected
