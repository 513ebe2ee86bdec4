"""The benches of a GPU, as far as they go without one: queued steps, errors against float64, the table, the script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import clocks  # noqa: E402
import gpt_queued  # noqa: E402
import gpt_sizes  # noqa: E402
import gpt_worker  # noqa: E402
import gradients  # noqa: E402
import half  # noqa: E402
import kernel_cases  # noqa: E402
import kernel_ops  # noqa: E402
import kernel_worker  # noqa: E402
import train_gpt  # noqa: E402

import nn  # noqa: E402

SIZE = gpt_sizes.SIZES["micro"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "micro.npz"
    gpt_sizes.write(SIZE, path)
    return path


# train_gpt


def test_sizes_know_their_parameters_and_operations():
    for size in gpt_sizes.ALL_SIZES.values():
        config = nn.GPTConfig(size.vocab, size.block, size.layers, size.heads, size.width)
        assert size.parameters == config.parameters
    assert gpt_sizes.ALL_SIZES["124m-b4"].operations == 6 * 124_475_904 + 6 * 12 * 768 * 1024


@pytest.mark.parametrize("framework", ["ownt", "ownt-step"])
def test_queued_steps_are_the_steps(file, framework):
    one, other = (gpt_worker.Trainer(framework, "", SIZE, str(file), "cpu", "bfloat16") for _ in range(2))
    expected = one.train(6)["losses"]
    found = other.queue(steps=3, groups=2)
    assert len(found["times_s"]) == 2 and min(found["times_s"]) > 0
    assert found["loss"] == expected[-1]


def test_a_queued_run_writes_its_figures(tmp_path, capsys):
    given = ["--queued", "--config", "micro", "--dtype", "bfloat16", "--steps", "2", "--threads", "1"]
    with pytest.raises(SystemExit) as ended:
        train_gpt.main([*given, "--json", str(tmp_path / "train.json")])
    assert ended.value.code == 0, capsys.readouterr().out
    found = json.loads((tmp_path / "train.json").read_text())
    assert found["rates"]["copied_per_s"] > 0
    for row, framework in zip(found["results"], ["ownt-step", "ownt"], strict=True):
        assert row["framework"] == framework and not row["failed"]
        assert row["tokens_per_s"] * row["median_s"] == pytest.approx(SIZE.tokens)
        assert row["peak_bytes"] > 2 * 4 * SIZE.parameters
        assert row["difference"] == 0


def result(framework, *losses, failed=""):
    return gpt_queued.Result("micro", framework, "", failed, losses=list(losses))


def test_losses_are_compared_with_the_first_peers():
    rows = [result("ownt", 3.0, 2.9), result("torch", 3.0, 2.903), result("torch-compile", failed="no memory")]
    gpt_queued.compare(rows, "bfloat16")
    assert [row.failed for row in rows] == ["", "", "no memory"]
    assert rows[0].difference == pytest.approx(0.003 / 2.903)
    for wrong in (3.0, float("nan")):
        rows = [result("ownt", 3.0, wrong), result("torch", 3.0, 2.9)]
        gpt_queued.compare(rows, "bfloat16")
        assert rows[0].failed.startswith("its losses [3.0, ") and not rows[1].failed
    gpt_queued.compare([result("ownt", failed="no memory")], "float32")


def test_a_framework_that_fails_is_a_row(file):
    options = train_gpt.parse(["--queued", "--config", "micro", "--threads", "1", "--peers", "torch"])
    rows = list(gpt_queued.measure("char", file, options))  # whose weights are of another size
    assert len(rows) == 3
    assert all(row.failed and not row.median_s for row in rows)
    assert "shape" in rows[0].failed


def test_float16_is_not_replayed_and_peers_take_it_by_autocast():
    options = train_gpt.parse(["--queued", "--dtype", "float16", "--peers", "torch,torch-compile"])
    assert gpt_queued.ways(options) == [
        [("ownt", "")],
        [("torch", "autocast")],
        [("torch-compile", "autocast, default")],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "bfloat16"], "expected float32 on the CPU, unless --queued"),
        (["--queued", "--peers", "jax"], "expected torch and torch-compile with --device cuda and --queued; got jax"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["--config", "huge"], "got 'huge'"),
    ],
)
def test_settings_that_cannot_be(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_gpt.parse(arguments)
    assert message in capsys.readouterr().err


def test_of_a_gpu_all_means_small_and_large_batches():
    options = train_gpt.parse(["--device", "cuda"])
    assert (options.queued, options.dtype, options.config) == (True, "bfloat16", ["all"])
    assert set(gpt_queued.ALL) <= set(gpt_sizes.GPU_SIZES)


# kernels


@pytest.mark.parametrize("name", ["gelu backward", "norm_linear backward", "cross_entropy backward"])
@pytest.mark.parametrize(("dtype", "least", "most"), [("float32", 1e-9, 1e-5), ("bfloat16", 1e-4, 1e-2)])
def test_errors_are_those_of_the_dtype(name, dtype, least, most):
    assert least < kernel_worker.error_of(kernel_ops.Ours("cpu", dtype), name, "micro") < most


def test_nothing_is_compared_where_nothing_is_returned():
    for name in ("AdamW", "dropout"):
        assert kernel_worker.error_of(kernel_ops.Ours(), name, "micro") is None


def test_large_inputs_repeat_numbers():
    numbers = np.arange(7, dtype="float32")
    made = kernel_ops.Ours("cpu", "bfloat16").tensor(kernel_ops.repeated(numbers, (4, 5)))
    assert made.numpy().astype(int).tolist() == np.resize(numbers, (4, 5)).astype(int).tolist()
    assert kernel_ops.repeated(numbers, (7, 1)).shape == (7, 1)


def test_bytes_are_of_the_dtype_but_what_adamw_keeps_is_float32():
    for name, half_of in (("gelu", 2), ("AdamW", 1)):
        case = kernel_cases.CASES[name]
        assert case.moved_bytes(SIZE) == half_of * case.moved_bytes(SIZE, "bfloat16")


class Event:
    """One that is recorded when it is made, by a clock that a launch moves."""

    now_ms = 0.0

    def __init__(self):
        self.at = Event.now_ms

    def synchronize(self):
        pass


def test_a_gpus_clock_times_what_is_launched_between_events():
    def wait(ms):
        Event.now_ms += ms

    clock = clocks.Gpu(Event, lambda: wait(4), lambda start, end: end.at - start.at)
    found = clock(lambda: wait(7), lambda _: wait(0.5), 0)
    assert found == [0.0005] * clocks.AT_ONCE


# gradients and half precision


def test_the_error_is_of_all_gradients_and_of_the_worst():
    expected = {"a": np.array([3.0]), "b": np.array([4.0])}
    found = gradients.compare({"a": np.array([3.0]), "b": np.array([4.4])}, expected)
    assert found == {"error": pytest.approx(0.08), "worst": "b", "worst_error": pytest.approx(0.1)}


def test_gradients_of_bfloat16_are_near_and_what_is_far_is_refused(tmp_path, monkeypatch, capsys):
    given = ["--device", "cpu", "--config", "micro", "--threads", "1", "--json", str(tmp_path / "found.json")]
    assert gradients.main(given) == 0
    found = json.loads((tmp_path / "found.json").read_text())["results"]
    assert [row["dtype"] for row in found] == ["bfloat16", "float32"]
    assert found[1]["error"] < 1e-6 < 1e-3 < found[0]["error"] < 1e-2
    monkeypatch.setitem(gradients.LIMIT, "bfloat16", 1e-3)
    assert gradients.main(given) == 1
    assert "above 1e-03" in capsys.readouterr().out


def test_half_precision_trains_as_float32(capsys, monkeypatch):
    assert half.main(["--config", "micro", "--steps", "12", "--every", "5"]) == 0
    out = capsys.readouterr().out
    assert "| 11 to 12 |" in out
    assert "- bfloat16: gradients 8,000 bytes, parameters 8,000" in out
    monkeypatch.setattr(half, "FAR", 0.0)
    assert half.main(["--config", "micro", "--steps", "12"]) == 1
