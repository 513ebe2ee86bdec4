"""Training by settings: presets, batches that add up, what is reported and logged, memory that does not grow."""

from __future__ import annotations

import csv
import dataclasses
import math
import random
import sys

import numpy as np
import pytest

import nn
import ownt
from nn import memory_check, presets, progress, train
from ownt.memory import ledger

CHARACTERS = ("tiny", "small", "medium", "large")


@pytest.fixture
def path(tmp_path):
    """A text of lines of many lengths."""
    source = random.Random(3)
    words = ("the cat", "a dog", "sat", "on a mat and", "ran", "to be", "or")
    lines = (" ".join(source.choices(words, k=source.randrange(1, 5))) for _ in range(300))
    (tmp_path / "text.txt").write_text("\n".join(lines))
    return tmp_path / "text.txt"


def trainer(path, **settings):
    shape = nn.GPTConfig(block_size=8, n_layer=1, n_head=2, n_embd=8, init_std=0.3, dtype="float64")
    chosen = {"steps": 4, "batch_size": 3, "optimizer": "sgd", "lr": 0.1, "schedule": "constant", "data": path}
    return train.Trainer(presets.TrainConfig(model=shape, **chosen | settings))


# presets


@pytest.mark.parametrize(
    ("name", "vocab_size", "parameters"),
    [
        ("tiny", 66, 50_306 - 66 - 64 * 96),  # those of a trainer in C, whose head has a bias and whose table of
        ("small", 66, 430_146 - 66 - 128 * 64),  # positions has 128 rows
        ("medium", 66, 3_226_178 - 66 - 256 * 64),
        ("large", 66, 19_048_514 - 66 - 512 * 64),
        ("gpt2", 50257, 124_439_808),
    ],
)
def test_presets_have_their_sizes(name, vocab_size, parameters):
    shape = dataclasses.replace(presets.get(name).model, vocab_size=vocab_size)
    assert shape.parameters == parameters
    if parameters < 1e6:
        assert sum(node.size for node in nn.GPT(shape).parameters()) == parameters


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_is_called_by_its_name_and_can_be(name, path):
    preset = presets.get(name)
    assert (preset.preset, preset.out.name) == (name, name)
    dataclasses.replace(preset, data=path).validate()


@pytest.mark.parametrize("name", [*CHARACTERS, "gpt2"])
def test_presets_for_long_texts_want_one(name):
    with pytest.raises(nn.InputError, match="expected --data FILE, a long text in UTF-8, for layout stream; got none"):
        train.Trainer(presets.get(name))


def test_presets_for_characters_train_with_adam_down_to_a_tenth_of_the_rate(path):
    made = train.Trainer(dataclasses.replace(presets.get("tiny"), data=path))
    assert type(made.optimizer) is nn.Adam
    assert {(group["betas"], group["weight_decay"]) for group in made.optimizer.param_groups} == {((0.9, 0.99), 0.0)}
    lr, steps = made.config.lr, made.config.steps
    rates = [made.schedule(step) for step in range(steps + 1)]
    assert max(rates) == rates[made.config.warmup] == lr
    assert min(rates[made.config.warmup :]) == pytest.approx(lr / 10)
    assert rates[steps] == pytest.approx(lr / 10)


@pytest.mark.parametrize("name", presets.OPTIMIZERS)
def test_every_optimizer_takes_its_settings_and_vectors_do_not_decay(path, name):
    made = trainer(path, optimizer=name, betas=(0.7, 0.8), weight_decay=0.3)
    matrices, vectors = made.optimizer.param_groups
    assert type(made.optimizer) is presets.OPTIMIZERS[name]
    expected = {"sgd": {"momentum": 0.7}, "rmsprop": {"alpha": 0.8}}.get(name, {"betas": (0.7, 0.8)})
    assert {option: matrices[option] for option in expected} == expected
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert {node.ndim for node in matrices["params"]} == {2}
    assert {node.ndim for node in vectors["params"]} == {1}


# batches that add up


@pytest.mark.parametrize("layout", ["lines", "stream"])
def test_batches_that_are_accumulated_equal_one_large_batch(path, layout):
    def trained(**settings):
        made = trainer(path, layout=layout, **settings)
        results = [made.step(step) for step in range(4)]
        return results, made.grad_norm, np.concatenate([node.numpy().ravel() for node in made.model.parameters()])

    one, norm, weights = trained(batch_size=12)
    four, norms, accumulated = trained(batch_size=3, accumulate=4)
    assert [tokens for _, tokens in four] == [tokens for _, tokens in one]
    assert [loss for loss, _ in four] == pytest.approx([loss for loss, _ in one], rel=1e-12)
    assert norms == pytest.approx(norm, rel=1e-12)
    np.testing.assert_allclose(accumulated, weights, rtol=1e-12, atol=1e-12)
    assert len({tokens for _, tokens in one}) == (1 if layout == "stream" else 4)  # batches of unequal weight


def test_accumulating_takes_the_memory_of_one_batch(path):
    def activations(**settings):
        made = trainer(path, layout="stream", **settings)
        ledger.reset_peak()
        made.step(0)
        return ledger.by_kind(at_peak=True)["activation"]

    one, four, large = activations(batch_size=8), activations(batch_size=8, accumulate=4), activations(batch_size=32)
    assert four < 1.1 * one < large / 3  # beside gradients, which are there from the second batch on


# what is reported and logged


def test_progress_has_rate_norm_and_speed_of_the_last_step(path):
    seen = []
    made = trainer(path, schedule="linear", layout="stream", log_every=1)
    made.run(seen.append)
    assert [report.lr for report in seen] == [None, *map(made.schedule, range(4))]
    assert [report.tokens_per_s is None for report in seen] == [True, *[False] * 4]
    assert all(report.tokens_per_s > 0 for report in seen[1:])
    other = trainer(path, layout="stream")
    other.model.loss(*other.data.batch(0, 3)).backward()
    norm = np.sqrt(sum((node.grad.numpy() ** 2).sum() for node in other.model.parameters()))
    assert seen[0].grad_norm is None
    assert seen[1].grad_norm == pytest.approx(norm, rel=1e-12)


def test_without_clipping_there_is_no_norm(path):
    seen = []
    trainer(path, grad_clip=None).run(seen.append)
    assert {report.grad_norm for report in seen} == {None}


def reported(step, loss, val_loss=None, tokens_per_s=None):
    return train.Progress(step, loss, val_loss, None, None, tokens_per_s, 0.0)


def test_lines_have_the_losses_there_are(capsys):
    with progress.Display(5000) as display:
        for report in (reported(0, None, 4.2), reported(1, 4.1, None, 9000.4), reported(500, 1.9, 1.95, 1e4)):
            display.show(report)
    out, err = capsys.readouterr()
    first, second, third = "step    0 / 5000 | val 4.2000", "step    1 / 5000 | loss 4.1000", "loss 1.9000 | val 1.9500"
    assert out.splitlines() == [first, second, f"step  500 / 5000 | {third}"]
    assert [line.split(" | ")[0] for line in err.splitlines()[1:]] == ["9,000 tokens/s", "10,000 tokens/s"]
    assert "tokens/s" not in err.splitlines()[0]


def test_a_terminal_has_a_bar_on_which_the_last_validation_stays(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = []
    with progress.Display(5000) as display:
        for report in (reported(0, None, 4.2), reported(1, 4.1, None, 9000.4), reported(500, 1.9, 1.95, 1e4)):
            display.show(report)
            shown.append(display.bar.tasks[0].description)
    assert shown == [
        "val 4.2000",
        "loss 4.1000 | val 4.2000 | 9,000 tokens/s",
        "loss 1.9000 | val 1.9500 | 10,000 tokens/s",
    ]
    assert display.bar.tasks[0].completed == 500
    assert capsys.readouterr().out == ""


def test_the_log_has_a_line_of_figures_for_each_report_at_once(path, tmp_path):
    seen, lengths = [], []
    with progress.log_to(tmp_path / "log.csv") as write:
        trainer(path).run(seen.append, write, lambda _: lengths.append(len((tmp_path / "log.csv").read_text())))
    assert sorted(set(lengths)) == lengths
    with open(tmp_path / "log.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["step", "loss", "val_loss", "lr", "grad_norm", "tokens_per_s", "seconds"]
    for line, report in zip(lines, seen, strict=True):
        figures = {name: math.nan if value is None else value for name, value in vars(report).items()}
        assert {name: float(value or "nan") for name, value in line.items()} == pytest.approx(
            figures, 1e-8, nan_ok=True
        )


def test_without_a_path_nothing_is_logged(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with progress.log_to(None) as write:
        trainer(path).run(write)
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_that_cannot_be_written_is_an_input_error_naming_it(tmp_path):
    with (
        pytest.raises(nn.InputError, match="log: expected a file to write to; got .*none.*No such file"),
        progress.log_to(tmp_path / "none" / "log.csv"),
    ):
        pass


# memory


def watched(path, **settings):
    made = train.Trainer(dataclasses.replace(presets.get("tiny"), data=path, batch_size=4, **settings))
    first, last = memory_check.watch(made, {100, 300})
    return last.live_bytes - first.live_bytes, last.capacity_bytes - first.capacity_bytes


@pytest.mark.memory
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_and_validating_do_not_grow(path, accumulate):
    assert watched(path, accumulate=accumulate) == (0, 0)


@pytest.mark.memory
def test_a_kilobyte_a_step_is_seen_as_growth(path, monkeypatch):
    leaked, step = [], train.Trainer.step

    def leaking(self, number, **options):
        leaked.append(ownt.zeros(256))
        return step(self, number, **options)

    monkeypatch.setattr(train.Trainer, "step", leaking)
    assert watched(path) == (1024 * 200, 0)


@pytest.mark.memory
def test_what_validating_leaves_behind_is_seen_as_growth(path, monkeypatch):
    leaked, validate = [], train.Trainer.validate

    def leaking(self):
        leaked.append(ownt.zeros(256))
        return validate(self)

    monkeypatch.setattr(train.Trainer, "validate", leaking)
    assert watched(path) == (1024, 0)
