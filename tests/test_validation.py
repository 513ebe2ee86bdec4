"""Validation: which part of a text is held out, that it is read whole and without chance, and the loss on it."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

import nn
import ownt
from nn import data, presets, train

LETTERS = "".join(map(chr, range(100, 200)))


def held_out(text, layout, block_size, fraction, source=None):
    return data.load(text, layout, block_size, source or random.Random(1), fraction)


def in_turn(text, block_size, fraction):
    """Documents in the order of the text."""
    source = random.Random()
    source.shuffle = lambda documents: None
    return held_out(text, "lines", block_size, fraction, source)


def rows(made, size=3, most=10**9):
    """(tokens, targets) of each row of the part to validate on, without what does not count."""
    found = []
    for x, y in made.validation(size, most):
        assert x.shape == y.shape
        found += [
            ([token for token, target in zip(*row) if target != data.IGNORE], [t for t in row[1] if t != data.IGNORE])
            for row in zip(x.tolist(), y.tolist())
        ]
    return found


@pytest.mark.parametrize(("fraction", "trained"), [(0.0, 10), (0.01, 9), (0.1, 9), (0.25, 7), (0.9, 1)])
def test_the_last_documents_are_to_validate_on(fraction, trained):
    names = [letter * 4 for letter in "abcdefghij"]
    made = in_turn("\n".join(names), 4, fraction)
    texts = [made.tokenizer.decode(row) for row in made.batch(0, 20)[0].tolist()]
    assert [text[0] * 4 for text in texts] == (names[:trained] * 20)[:20]
    assert [made.tokenizer.decode(targets) for _, targets in rows(made)] == names[trained:]
    assert made.tokenizer.characters == list("abcdefghij")


def test_documents_to_validate_on_are_the_last_of_the_shuffled_ones_and_cut_at_the_block_size():
    text = "\n".join(str(number) for number in range(90, 130))
    made, all_of_it = held_out(text, "lines", 3, 0.1), held_out(text, "lines", 3, 0.0)
    assert made.documents == all_of_it.documents
    bos, encode = made.tokenizer.bos, made.tokenizer.encode
    whole = [[bos, *encode(name), bos][:4] for name in made.documents[36:]]
    assert rows(made) == [(row[:-1], row[1:]) for row in whole]
    assert {len(row) for row in whole} <= {3, 4}


@pytest.mark.parametrize(("fraction", "trained"), [(0.1, 90), (0.105, 89), (0.5, 50)])
def test_the_end_of_a_stream_is_to_validate_on_and_training_never_sees_it(fraction, trained):
    made = held_out(LETTERS, "stream", 8, fraction)
    seen = np.concatenate([tensor.numpy() for tensor in made.batch(0, 3000)], axis=1)
    assert set(seen.ravel()) == set(range(trained))
    found = rows(made)
    assert [token for tokens, _ in found for token in tokens] == list(range(trained, 99))
    assert all(targets == [token + 1 for token in tokens] for tokens, targets in found)
    assert [len(tokens) for tokens, _ in found[:-1]] == [8] * (len(found) - 1)
    assert 1 <= len(found[-1][0]) <= 8


@pytest.mark.parametrize("layout", data.LAYOUTS)
def test_without_a_part_to_validate_on_there_is_none(layout):
    assert rows(held_out(LETTERS, layout, 8, 0.0)) == []


@pytest.mark.parametrize(("most", "starts"), [(49, [50, 58, 66, 74, 82, 90, 98]), (48, 6), (16, [50, 74]), (8, [50])])
def test_of_more_than_enough_evenly_spread_rows_are_taken(most, starts):
    found = rows(held_out(LETTERS, "stream", 8, 0.5), 4, most)
    assert sum(len(tokens) for tokens, _ in found) <= most
    firsts = [tokens[0] for tokens, _ in found]
    assert firsts == starts if isinstance(starts, list) else len(firsts) == starts


@pytest.mark.parametrize("layout", ["lines", "stream"])
def test_reading_the_part_to_validate_on_draws_nothing_and_is_always_the_same(layout):
    text = "\n".join(LETTERS[i : i + 5] for i in range(0, 100, 5))
    source = random.Random(3)
    made = data.load(text, layout, 4, source, 0.3)
    before = source.getstate(), ownt.random.generator.state
    first = rows(made)
    assert (source.getstate(), ownt.random.generator.state) == before
    made.batch(0, 5)
    assert rows(made) == rows(made, size=2) == first != []


@pytest.mark.parametrize(
    ("layout", "fraction", "words"),
    [
        ("lines", 0.1, "part to validate on of 6 characters or more, one block; got 4. .*larger --val-fraction"),
        ("lines", 0.95, "part to train on of 6 characters or more, one block; got 0. .*smaller --val-fraction"),
        ("stream", 0.1, "part to validate on of 6 characters or more, one block; got 4. .*or 0 for none"),
        ("stream", 0.9, "part to train on of 6 characters or more, one block; got 3. .*smaller --block-size"),
    ],
)
def test_a_part_shorter_than_a_block_is_an_input_error(layout, fraction, words):
    text = "\n".join(letter * 4 for letter in "abcdefghij")
    with pytest.raises(nn.InputError, match=words):
        data.load(text, layout, 6, random.Random(0), fraction)
    data.load(text, layout, 6, random.Random(0), 0.5)


# its loss


@pytest.fixture
def path(tmp_path):
    """A text whose lines are of many lengths."""
    source = random.Random(5)
    lines = ["".join(source.choices("abcde", k=source.randrange(1, 12))) for _ in range(80)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    return tmp_path / "text.txt"


def trainer(path, dropout=0.0, **settings):
    shape = nn.GPTConfig(block_size=8, n_layer=1, n_head=2, n_embd=8, dropout=dropout, init_std=0.5, dtype="float64")
    chosen = {"steps": 6, "batch_size": 3, "optimizer": "sgd", "lr": 0.1, "data": path, "val_fraction": 0.2}
    return train.Trainer(presets.TrainConfig(model=shape, **chosen | settings))


def mean_loss(made, most=10**9):
    """By the formula, token by token, in plain NumPy."""
    losses = []
    for tokens, targets in rows(made.data, most=most):
        logits = made.model(np.array([tokens])).numpy()[0]
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        losses += list(-np.log(chances[range(len(targets)), targets]))
    return np.mean(losses), len(losses)


@pytest.mark.parametrize("layout", data.LAYOUTS)
@pytest.mark.parametrize(("most", "tokens"), [(200_000, None), (40, 40), (8, 8)])
def test_the_loss_is_the_mean_over_the_tokens(path, layout, most, tokens):
    made = trainer(path, layout=layout, eval_tokens=most)
    expected, count = mean_loss(made, most)
    assert made.validate() == pytest.approx(expected, rel=1e-12)
    assert count <= (tokens or 200)
    assert trainer(path, layout=layout, eval_tokens=most, batch_size=50).validate() == pytest.approx(
        expected, rel=1e-12
    )


def test_in_evaluation_mode_without_gradients(path):
    made = trainer(path, dropout=0.5)
    assert made.validate() == made.validate() == trainer(path, dropout=0.0).validate()
    for training in (True, False):
        made.model.train(training)
        made.validate()
        assert {module.training for module in made.model.modules()} == {training}
    assert all(node.grad is None for node in made.model.parameters())


def test_training_is_the_same_with_and_without(path):
    def weights(every):
        made = trainer(path, dropout=0.3, layout="stream", eval_every=every)
        made.run(lambda progress: None)
        return [node.numpy() for node in made.model.parameters()], made.stream.getstate(), ownt.random.generator.state

    (often, *streams), (seldom, *others) = weights(1), weights(6)
    assert streams == others
    assert all(map(np.array_equal, often, seldom))


def test_it_leaves_no_memory_behind(path):
    made = trainer(path, batch_size=8)
    made.step(0)
    ledger, arena = ownt.memory.ledger, ownt.memory.scratch()
    before = ledger.live, arena.capacity
    made.validate()
    assert (ledger.live, arena.capacity) == before


def test_interrupted_it_is_no_number(path):
    made = trainer(path)
    made.stopped = True
    assert math.isnan(made.validate())


def test_without_text_to_validate_on_it_is_an_input_error(path):
    with pytest.raises(nn.InputError, match="got val_fraction 0"):
        trainer(path, val_fraction=0.0).validate()


@pytest.mark.parametrize(
    ("settings", "reported", "validated"),
    [
        ({"eval_every": 4, "log_every": 3}, [0, 1, 3, 4, 6, 8, 9, 10], [0, 4, 8, 10]),
        ({"log_every": 5}, range(11), range(11)),
        ({"eval_every": 100, "log_every": 100}, [0, 1, 10], [0, 10]),
        ({"log_every": 4, "val_fraction": 0.0}, [1, 4, 8, 10], []),
    ],
)
def test_training_reports_it_first_last_and_every_so_many_steps(path, settings, reported, validated):
    seen, steps = [], {}
    made = trainer(path, steps=10, **settings)

    def report(progress):
        seen.append(progress)
        if progress.val_loss is not None:
            steps[progress.step] = (progress.val_loss, made.validate())

    made.run(report)
    assert [progress.step for progress in seen] == list(reported)
    assert list(steps) == list(validated)
    assert all(found == expected for found, expected in steps.values())
    assert [progress.step for progress in seen if progress.loss is None] == ([0] if validated else [])
    assert all(found.seconds <= later.seconds for found, later in zip(seen, seen[1:]))
    assert made.model.training
