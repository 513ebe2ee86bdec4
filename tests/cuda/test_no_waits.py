"""A training step waits for no GPU: on the simulated device, nobody reads an array but who asks for the loss."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from compile_for_cpu import missing
from simulated import Simulated, SimulatedArray

import nn
import ownt
from nn import presets, train

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def readers(monkeypatch):
    """The names of functions that have arrays of the device read."""
    found = set()

    def watch(kind, name):
        read = getattr(kind, name)

        def watched(*arguments):
            frame = sys._getframe(1)
            while not frame.f_code.co_filename.startswith(ROOT):  # in NumPy
                frame = frame.f_back
            found.add(frame.f_code.co_name)
            return read(*arguments)

        monkeypatch.setattr(kind, name, watched)

    watch(Simulated, "to_host")
    for name in ("__bool__", "__float__", "__index__", "__int__", "__iter__", "item", "tolist"):
        watch(SimulatedArray, name)
    return found


@pytest.mark.filterwarnings("ignore:a recorded step is no CUDA graph")
@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"dropout": 0.2, "checkpoint": True}], ids=str)
def test_training_reads_nothing_but_the_loss(readers, tmp_path, options):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(["the cat", "sat on", "the mat"] * 20))
    shape = nn.GPTConfig(block_size=8, n_layer=1, n_head=2, n_embd=8, **options)
    settings = presets.TrainConfig(data=path, device="simulated", batch_size=3, accumulate=2, steps=4, model=shape)
    trainer = train.Trainer(settings)
    readers.clear()
    for step in range(3):
        trainer.step(step, want_loss=False)
    assert not readers
    trainer.step(3)
    assert "item" in readers


def test_an_update_as_soon_as_a_gradient_is_there_reads_nothing(readers):
    model = nn.MLP([6, 9, 4]).to("simulated")
    step = nn.Step(lambda x: model(x).sum(), nn.AdamW(model.parameters()), fuse_optimizer=True)
    for _ in range(3):
        step(np.ones((5, 6), np.float32))
    assert not readers


def test_the_control_that_reading_is_seen(readers):
    x = ownt.ones(1, device="simulated")
    reads = (ownt.Tensor.item, ownt.Tensor.tolist, ownt.Tensor.numpy)
    on_arrays = (lambda x: float(x.array[0]), lambda x: x.array.tolist(), lambda x: bool((x.array > 0).all()))
    for read in (*reads, bool, *on_arrays):
        readers.clear()
        read(x)
        assert readers, read
