"""Ctrl-C during `ownt train`: the step ends, the model is saved, the status is 130."""

from __future__ import annotations

import signal
import subprocess
import sys

from test_cli import ROOT, SMALL, STEP, in_process

import nn
from nn import train


def test_ctrl_c_saves_the_model_and_exits_with_130(tmp_path):
    line = [sys.executable, "-m", "nn", "train", "--steps", "100000", "--log-every", "1", "--out", tmp_path / "model"]
    with (
        open(tmp_path / "err", "w+") as err,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=err, text=True, cwd=ROOT) as process,
    ):
        try:
            assert STEP.fullmatch(process.stdout.readline().rstrip())
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
        err.seek(0)
        shown = err.read()
    assert process.returncode == 130
    assert "interrupted" in shown
    assert "Traceback" not in shown
    assert rest.endswith(f"saved the model in {tmp_path / 'model'}\n")
    assert len(train.sample(nn.GPT.load(tmp_path / "model"), "an", 0.5)) >= 2


IN_DEL = """
import signal, sys
from itertools import count
from nn import cli
from ownt.arena import Block
free, numbers = Block.__del__, count()
def interrupted(block):
    if next(numbers) == 1000:
        signal.raise_signal(signal.SIGINT)
    free(block)
Block.__del__ = interrupted
sys.exit(cli.main(["train", "--preset=microgpt-500", "--log-every=100", "--out", sys.argv[1]]))
"""


def test_ctrl_c_is_not_lost_where_python_ignores_exceptions(tmp_path):
    done = subprocess.run([sys.executable, "-c", IN_DEL, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_samples_are_written_still_saves_the_model(capsys, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.Trainer, "samples", interrupted)
    assert in_process(capsys, "train", "--steps", 2, "--out", tmp_path / "model", *SMALL)[0] == 130
    nn.GPT.load(tmp_path / "model")
