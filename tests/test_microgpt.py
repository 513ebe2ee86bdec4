"""The microgpt presets are microgpt: losses and samples equal those of plain Python, and of the published run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import plain_microgpt
import pytest

from nn import cli, data, presets, train

ROOT = Path(__file__).parents[1]
MADE_UP = "\n".join(["tik", "tok, tik", "  a tak!", "", "tiktoktak tok tik tak", "o", "kit", "akt"] * 3)
TEXTS = {"names": data.read_text(), "made-up": MADE_UP}


def results(printed):
    """The lines with losses and samples."""
    return [line for line in printed.splitlines() if line.startswith(("step", "sample"))]


def train_arguments(preset, path, folder, *options):
    data_and_out = ["--data", str(path), "--out", str(folder / "model")]
    return ["train", "--preset", preset, "--dtype", "float64", "--log-every", "1", *data_and_out, *options]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("seed", [42, 7])
@pytest.mark.parametrize("preset", plain_microgpt.VERSIONS)
def test_the_first_losses_are_those_of_plain_python(tmp_path, preset, seed, text):
    path = tmp_path / "text.txt"
    path.write_text(text, "utf-8")
    config = presets.get(preset)
    double = dataclasses.replace(config.model, dtype="float64")
    trainer = train.Trainer(dataclasses.replace(config, seed=seed, data=path, model=double))
    found = [f"step {i + 1:4d} / {config.steps:4d} | loss {trainer.step(i)[0]:.4f}" for i in range(30)]
    assert found == list(plain_microgpt.run(preset, text, seed, 30, 0))


def test_all_losses_and_samples_are_those_of_plain_python(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text(MADE_UP, "utf-8")
    assert cli.main(train_arguments("microgpt-500", path, tmp_path, "--seed", "3", "--samples", "10")) == 0
    found = results(capsys.readouterr().out)
    assert len(found) == 510
    assert found == list(plain_microgpt.run("microgpt-500", MADE_UP, 3, 500, 10))


def test_the_command_line_prints_the_published_run(shared_data, tmp_path):
    arguments = train_arguments("microgpt-500", shared_data / "names.txt", tmp_path)
    line = [sys.executable, "-m", "nn", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True)
    expected = (shared_data / "microgpt_500_expected.txt").read_text("utf-8").splitlines()
    assert len(expected) == 520
    assert results(done.stdout) == expected


def test_in_float32_the_run_is_the_same_but_for_rounding(tmp_path):
    losses = []
    for dtype in ("float32", "float64"):
        config = presets.get("microgpt-1000")
        trainer = train.Trainer(dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype)))
        losses.append([trainer.step(i)[0] for i in range(30)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] != losses[1]
