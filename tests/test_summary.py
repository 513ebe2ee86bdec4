"""Summaries of a call: rows in the order of calls, what is kept, and that nothing is changed by looking."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import ag
import nn
import ownt
from ownt import random
from ownt.ledger import ledger

CONFIG = nn.GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=8)


class Odd(nn.Module):
    """Calls its parts in another order than they are set in, one of them twice, one never."""

    def __init__(self):
        self.last = nn.Linear(4, 2)
        self.body = nn.ModuleList([nn.Linear(4, 4), nn.ReLU()])
        self.unused = nn.Linear(3, 3)
        self.again = self.last
        self.steps = ownt.zeros(1)
        self.first = nn.Dropout(0.5)

    def forward(self, x, scale=None):
        self.steps += 1
        x = self.first(x)
        for module in (*self.body, *self.body):
            x = module(x)
        return self.last(x), x


def rows_of(text):
    """(indentation, words) of each row, the title left out."""
    lines = text.splitlines()[1:]
    return [(len(line) - len(line.lstrip()), line.split()) for line in lines]


def test_rows_are_a_tree_in_the_order_of_calls():
    rows = rows_of(Odd().summary((3, 4)))
    assert [(indent, words[0]) for indent, words in rows[:-2]] == [
        (0, "(root)"), (2, "first"), (2, "body"), (4, "0"), (4, "1"), (2, "unused"), (2, "last"), (2, "again")
    ]  # fmt: skip
    shown = {words[0]: " ".join(words[1:]) for _, words in rows}
    assert shown["(root)"].startswith("Odd (3, 2), (3, 4) 0 0 B")
    assert shown["0"].startswith("Linear, 2 calls (3, 4) 20 80 B 80 B")
    assert shown["unused"] == "Linear - 12 48 B 48 B 0 B"
    assert shown["last"].startswith("Linear (3, 2) 10 40 B 40 B")
    assert shown["again"] == "Linear, see last"
    assert shown["total"].startswith("Odd 42 168 B 168 B")
    assert rows[-1][1] == ["parameters:", "42", "trained,", "0", "frozen"]


def test_frozen_parameters_have_no_gradient_to_come():
    model = Odd()
    model.body[0].requires_grad_(False)
    text = model.summary((3, 4))
    assert "parameters: 22 trained, 20 frozen" in text
    assert ["0", "Linear,", "2", "calls", "(3,", "4)", "20", "80", "B", "0", "B"] in [w[:11] for _, w in rows_of(text)]


def test_kept_bytes_are_what_forward_leaves_held():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    shown = {words[0]: words for _, words in rows_of(model.summary((3, 4)))}
    assert shown["0"][-2:] == ["0", "B"]  # relu keeps what it made, not what it was given
    assert shown["1"][-2:] == [str(3 * 5 * 4), "B"]
    assert shown["2"][-2:] == [str(3 * 2 * 4), "B"]
    assert shown["total"][-2:] == [str(3 * 7 * 4), "B"]
    with ag.no_grad():
        assert rows_of(model.summary((3, 4)))[-2][1][-2:] == [str(3 * 2 * 4), "B"]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_total_is_that_of_the_ledger(checkpoint):
    model = nn.GPT(nn.GPTConfig(**{**vars(CONFIG), "checkpoint": checkpoint}))
    tokens = ownt.zeros(2, 5, dtype="int64")
    shown = rows_of(model.summary(tokens))[-2][1][-2:]
    gc.collect()
    before = ledger.live
    logits = model(tokens)
    kept = ledger.live - before
    del logits
    assert shown == ownt.report.human_bytes(kept).split()
    assert ledger.live == before


def test_checkpoints_keep_less():
    kept = []
    for checkpoint in (False, True):
        model = nn.GPT(nn.GPTConfig(**{**vars(CONFIG), "checkpoint": checkpoint}))
        number, unit = rows_of(model.summary((2, 6), dtype="int64"))[-2][1][-2:]
        kept.append(float(number) * {"B": 1, "kB": 1000}[unit])
    assert kept[1] < kept[0] / 2


def snapshot(model):
    return (
        {path: tensor.numpy().copy().tolist() for path, tensor in model.state_dict().items()},
        [node.grad for node in model.parameters()],
        [tensor.block.version for tensor in model.state_dict().values() if tensor.shape != (1,)],
        [module.training for module in model.modules()],
        [module._hooks for module in model.modules()],
        random.generator.state,
    )


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_changed_by_looking(fails):
    model = Odd()
    model.body.eval()
    model.first.register_forward_pre_hook(lambda module, args: None)
    model(ownt.ones(1, 4))[0].sum().backward()
    before, blocks = snapshot(model), ownt.memory.scratch().blocks
    steps = model.steps
    if fails:
        model.last.register_forward_pre_hook(lambda module, args: model.missing)
        before = snapshot(model)
        with pytest.raises(AttributeError, match="missing"):
            model.summary((3, 4))
    else:
        model.summary((3, 4))
    assert snapshot(model) == before
    assert model.steps is steps
    gc.collect()
    assert ownt.memory.scratch().blocks == blocks


def test_a_buffer_that_forward_replaces_is_put_back():
    class Average(nn.Module):
        def __init__(self):
            self.mean = ownt.zeros(2)

        def forward(self, x):
            self.mean = ag.mean(x, 0).tensor.clone()
            return ag.sub(x, self.mean)

    model = Average()
    mean = model.mean
    model.summary(ownt.ones(3, 2))
    assert model.mean is mean and mean.tolist() == [0, 0]


def test_inputs_are_zeros_of_the_models_dtype_or_as_given():
    seen = []
    model = nn.Sequential(nn.Linear(4, 2, dtype="float64"))
    model.register_forward_pre_hook(lambda module, args: seen.extend(args))
    x, array = ag.constant(ownt.ones(1, 4, dtype="float64")), np.ones((2, 4))
    for given in ((1, 4), x, x.tensor, array):
        model.summary(given)
    assert (seen[0].dtype, seen[0].tolist()) == ("float64", [[0] * 4])
    assert seen[1] is x and seen[2] is x.tensor and seen[3] is array
    with pytest.raises(TypeError, match="linear: expected tensors of one dtype"):
        model.summary((1, 4), dtype="float32")
    assert nn.ReLU().summary((2, 3)).splitlines()[1].split()[1:4] == ["ReLU", "(2,", "3)"]


def test_several_inputs():
    model = nn.MultiheadAttention(4, 2)
    assert "(2, 3, 4)" in model.summary((2, 3, 4), (2, 5, 4)).splitlines()[1]


def test_a_part_of_a_model_is_summarised_by_itself():
    model = nn.GPT(CONFIG)
    rows = rows_of(model.blocks[1].summary((1, 3, 8)))
    assert [words[0] for _, words in rows[:3]] == ["(root)", "attention", "norm"]
    assert rows[1][1][-2:] != ["0", "B"]
    assert model.blocks[1].mlp.path == "blocks.1.mlp"


@pytest.mark.parametrize("given", [8, [2, 4], "x"])
def test_what_is_no_input(given):
    with pytest.raises(TypeError, match=r"Linear.summary: expected shapes as tuples, .*summary\(\(8,\)\)"):
        nn.Linear(4, 2).summary(given)
