"""ScaledStep: what nn.Step computes, with losses scaled; and training in half precision from the command line."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import nn
import ownt
from nn import cli

TOKENS = np.random.default_rng(0).integers(0, 31, (2, 3, 12))


def trained(step, dtype="float32", steps=8, **options):
    """Losses and weights of a small GPT after some steps of two batches each."""
    ownt.manual_seed(0)
    config = nn.GPTConfig(vocab_size=31, block_size=12, n_layer=1, n_head=2, n_embd=16, dtype=dtype)
    model = nn.GPT(config)
    made = step(model.loss, nn.AdamW(model.parameters(), lr=3e-3), **options)
    losses = [made.accumulate([(part, part) for part in TOKENS]).item() for _ in range(steps)]
    return losses, [node.numpy().astype("float64") for node in model.parameters()], made


def test_a_scaled_step_is_the_step():
    """Powers of two change no bits of float32."""
    scaled, plain = trained(nn.ScaledStep), trained(nn.Step)
    assert scaled[0] == plain[0]
    assert all(np.array_equal(a, b) for a, b in zip(scaled[1], plain[1]))


def test_gradients_are_clipped_as_if_they_were_not_scaled():
    scaled, plain = trained(nn.ScaledStep, max_norm=0.1), trained(nn.Step, max_norm=0.1)
    np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-6)
    assert scaled[2].grad_norm.item() == pytest.approx(plain[2].grad_norm.item(), rel=1e-4)
    assert scaled[2].grad_norm.item() > 0.1


def test_float16_trains_as_float32():
    scaled, plain = trained(nn.ScaledStep, "float16", 30, max_norm=1.0), trained(nn.Step, steps=30, max_norm=1.0)
    np.testing.assert_allclose(scaled[0], plain[0], rtol=0.01)
    assert plain[0][-1] < 0.9 * plain[0][0]


def test_gradients_that_overflow_change_nothing_but_the_scale():
    scaler = nn.GradScaler(2.0**40)
    _, weights, step = trained(nn.ScaledStep, "float16", 1, scaler=scaler, max_norm=1.0)
    _, before, _ = trained(nn.ScaledStep, "float16", 0)
    assert all(np.array_equal(a, b) for a, b in zip(weights, before))
    assert scaler.get_scale() == 2.0**39
    assert not step.optimizer.state


def test_no_batches_are_refused():
    node = ownt.zeros(1)
    step = nn.ScaledStep(lambda: node, nn.SGD(nn.MLP([1, 1]).parameters(), lr=1.0))
    with pytest.raises(ValueError, match=r"ScaledStep\.accumulate: expected one batch or more; got none"):
        step.accumulate([])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_from_text_to_samples(capsys, tmp_path, dtype):
    """Training, saving, loading, sampling; the losses are within 1 % of float32's."""
    losses = {}
    settings = ["--n-embd=16", "--n-layer=1", "--n-head=2", "--steps=20", "--samples=2", "--log-every=1"]
    for name in ("float32", dtype):
        log = tmp_path / f"{name}.csv"
        given = [*settings, "--out", str(tmp_path / name), "--log", str(log), "--dtype", name]
        assert cli.main(["train", *given]) == 0
        with open(log) as file:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
        out, err = capsys.readouterr()
        assert out.count("\nsample ") == 2
        assert ("steps are not replayed" in err) is (name == "float16")
    np.testing.assert_allclose(losses[dtype], losses["float32"], rtol=0.01)
    assert losses[dtype] != losses["float32"]
    assert nn.GPT.load(tmp_path / dtype).wte.weight.dtype == dtype
    texts = []
    for options in ([], ["--dtype", "float32"]):
        arguments = ["sample", "--model", str(tmp_path / dtype), "-n", "2", "--temperature", "0", *options]
        assert cli.main(arguments) == 0
        texts.append(capsys.readouterr().out.splitlines())
    assert [len(lines) for lines in texts] == [2, 2]
