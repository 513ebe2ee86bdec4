"""nn.Step where things change between steps: shapes, modes, models, optimizers, what is held in scratch memory."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from plain_step import FIRST, Plain, Run, alike, batch, gpt, loss_of, mlp, steps

import ag
import nn
import ownt
from ownt.threads import cores

CHANGED = "the model, its mode or its optimizer has changed"
dropout = partial(gpt, dropout=0.2)


def test_each_shape_has_a_recording_of_its_own():
    sizes = (5, 7, 5, 7, 3, 5, 3, 8, 7)

    def drive(run):
        for number, size in enumerate(sizes):
            steps(run, [number], size)

    run = alike(drive, dropout, max_norm=1.0)
    assert run.replayed == [size in sizes[:number] for number, size in enumerate(sizes)]


def test_plain_steps_in_between_change_nothing():
    def drive(run):
        plain = Run(Plain(run.step.loss_function, run.optimizer, run.step.max_norm), run.model)
        for number in range(16):
            steps(plain if number % 5 == 3 else run, [number])

    assert alike(drive, dropout, max_norm=1.0).replayed == [False, *[True] * 12]


def test_modes_have_recordings_of_their_own_and_going_back_replays_the_first():
    def drive(run):
        for number in range(12):
            run.model.train(number % 6 < 3)
            steps(run, [number])

    run = alike(drive, dropout)
    assert run.replayed == [number not in (0, 3) for number in range(12)]


CHANGES = {  # what is done to a model and its optimizer, and whether a step has to be recorded anew
    "dropout": (lambda model, _: setattr(model.blocks[0].dropout, "p", 0.5), True),
    "freeze": (lambda model, _: model.blocks[1].requires_grad_(False), True),
    "replace a module": (lambda model, _: setattr(model, "dropout", nn.Identity()), True),
    "delete a module": (lambda model, _: delattr(model.blocks, "1"), True),
    "hook a module": (lambda model, _: model.dropout.register_forward_hook(lambda m, args, y: y * 2), True),
    "hook a gradient": (lambda model, _: model.wpe.weight.register_hook(lambda g: g.fill_(0.1)), True),
    "load weights": (lambda model, _: model.load_state_dict({"wpe.weight": np.ones((8, 8))}, strict=False), False),
    "write a weight": (lambda model, _: model.wpe.weight.tensor.fill_(0.5), False),
    "betas": (lambda _, optimizer: optimizer.param_groups[0].update(betas=(0.5, 0.7), eps=1e-4), False),
    "load the optimizer": (lambda _, optimizer: optimizer.load_state_dict(optimizer.state_dict()), True),
}  # fmt: skip


@pytest.mark.parametrize(("change", "anew"), CHANGES.values(), ids=CHANGES)
def test_what_changes_between_steps_counts(change, anew):
    def drive(run):
        steps(run, range(4))
        change(run.model, run.optimizer)
        steps(run, range(4, 8))

    run = alike(drive, dropout)
    assert run.whys == [FIRST, *[""] * 3, CHANGED if anew else "", *[""] * 3]
    unchanged = alike(lambda run: steps(run, range(8)), dropout)
    same = [a.item() == b.item() for a, b in zip(run.losses, unchanged.losses)]
    assert same[:4] == [True] * 4
    assert all(same) is (change is CHANGES["load the optimizer"][0])  # which was given what it had


def test_a_parameter_may_be_frozen_and_freed_again():
    def drive(run):
        for number in range(12):
            if number in (4, 8):
                run.model.wpe.requires_grad_(number == 8)
            steps(run, [number])

    assert alike(drive, gpt).replayed == [number not in (0, 4, 8) for number in range(12)]


def test_momentum_may_be_switched_on_and_off():
    def drive(run):
        for number in range(9):
            run.optimizer.param_groups[0]["momentum"] = [0.0, 0.9, 0.0][number // 3]
            steps(run, [number])

    run = alike(drive, optimizer=lambda model: nn.SGD(model.parameters(), lr=0.01, dampening=0.3))
    assert run.replayed == [number not in (0, 3) for number in range(9)]


def test_parameters_may_be_added():
    def drive(run):
        steps(run, range(3))
        run.model.scale.requires_grad = True
        run.optimizer.add_param_group({"params": [run.model.scale], "lr": 0.5})
        steps(run, range(3, 6))

    def model():
        made = mlp()
        made.scale = ag.constant(np.ones(4, "float32"))
        return made

    def loss(model):
        return lambda x, y: ag.cross_entropy(model(x) * model.scale, y)

    def optimizer(model):
        return nn.Adam([node for name, node in model.named_parameters() if name != "scale"], lr=0.01)

    assert alike(drive, model, optimizer, loss).replayed == [False, True, True, False, True, True]


def test_the_common_norm_may_be_limited_anew():
    def drive(run):
        for number in range(9):
            run.step.max_norm = [None, 0.1, 0.01][number % 3]
            steps(run, [number])

    run = alike(drive)
    assert run.replayed == [False] * 3 + [True] * 6


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_another_number_of_threads_is_recorded_apart():
    """Of a model so large that kernels are shared out among them."""
    before = ownt.get_num_threads()

    def drive(run):
        for number in range(6):
            ownt.set_num_threads(1 + number % 2)
            tokens = np.random.default_rng(number).integers(0, 65, (8, 64))
            run(tokens, tokens)

    model = lambda: nn.GPT(nn.GPTConfig(65, block_size=64, n_layer=1, n_head=4, n_embd=64, dropout=0.1))
    try:
        assert alike(drive, model, max_norm=1.0).replayed == [False] * 2 + [True] * 4
    finally:
        ownt.set_num_threads(before)


def test_what_is_held_in_scratch_memory_stays_as_it_is():
    def drive(run):
        for number in range(3):
            steps(run, [number])
            with ag.no_grad():
                held = run.model(batch(run.model, number)[0])
            expected = held.numpy().copy()
            steps(run, range(number, number + 2))
            np.testing.assert_array_equal(held.numpy(), expected)
            del held

    run = alike(drive)
    assert run.whys[1].startswith("in the way of a replay: activation of ")
    assert run.replayed == [number not in (0, 1) for number in range(9)]  # the second lies elsewhere


def test_gradients_from_before_are_added_to():
    def drive(run):
        x, y = batch(run.model, 0)
        steps(run, range(2))
        for number in range(2):
            loss_of(run.model)(x, y).backward()
            warns = run.is_recorded and number == 0
            with pytest.warns(RuntimeWarning, match="gradients from before") if warns else nullcontext():
                steps(run, [2])
            assert all(node.grad is None for node in run.model.parameters())
        steps(run, range(4))

    run = alike(drive, max_norm=1.0)
    assert run.replayed == [False, True, False, False, *[True] * 4]
    assert ["gradients from before" in why for why in run.whys] == [False, False, False, True, *[False] * 4]
