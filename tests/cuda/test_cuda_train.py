"""`ownt train` and `ownt sample` on the simulated device: all that they launch runs as CUDA kernels and binders do."""

from __future__ import annotations

import pytest
from compile_for_cpu import missing
from simulated import SimulatedArray

import nn
import ownt
from nn import cli, presets, train

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]
SMALL = ["--n-embd=8", "--n-layer=1", "--n-head=2", "--block-size=8", "--batch-size=2", "--eval-tokens=64"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_a_model_is_trained_saved_loaded_and_sampled_from(capsys, tmp_path, dtype):
    where = ["--device", "simulated"]
    settings = [*SMALL, "--steps=3", "--samples=2", "--dtype", dtype, "--out", str(tmp_path)]
    assert cli.main(["train", *where, *settings]) == 0
    out, err = capsys.readouterr()
    assert out.count("\nsample ") == 2
    assert "optimizer" in err  # of the device's ledger
    assert nn.GPT.load(tmp_path).wte.weight.dtype == dtype
    assert cli.main(["sample", *where, "--model", str(tmp_path), "-n", "3", "--dtype", "float32"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_first_weights_are_made_on_the_device():
    made = []

    def draw(shape, std, dtype):
        made.append(ownt.zeros(shape, dtype=dtype))
        return made[-1]

    config = presets.TrainConfig(device="simulated", model=nn.GPTConfig(n_layer=1, n_head=2, n_embd=8))
    before = train.init.normal
    train.init.normal = draw
    try:
        model = train.Trainer(config).model
    finally:
        train.init.normal = before
    assert made and all(type(tensor.array) is SimulatedArray for tensor in made)
    assert {node.device for node in model.parameters()} == {"simulated"}
