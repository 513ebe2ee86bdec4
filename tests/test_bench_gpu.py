"""The benches of a GPU, as far as they go without one: queued steps, errors against float64, the table, the script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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
import gpu_table  # noqa: E402
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
    assert [row["dtype"] for row in found] == ["float32", "bfloat16"]
    assert found[0]["error"] < 1e-6 < 1e-3 < found[1]["error"] < 1e-2
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


# the table and the script


def training_row(framework, variant, median_s, peak_bytes, failed=""):
    return {
        "config": "124m-b4", "framework": framework, "variant": variant, "failed": failed, "median_s": median_s,
        "tokens_per_s": 4096 / median_s if median_s else 0, "operations_per_s": 4e12 / median_s if median_s else 0,
        "peak_bytes": peak_bytes, "held_bytes": peak_bytes, "difference": 1e-3,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Figures as an H200 might give them, of which some parts failed."""
    rates = {"copied_per_s": 4e12, "multiplied_per_s": 8e14, "name": "NVIDIA H200"}
    rows = [
        training_row("ownt-step", "", 0.01, 3e9),
        training_row("ownt", "", 0.012, 3e9, failed="its losses [1] are not [2]"),
        training_row("torch", "pure", 0.03, 6e9),
        training_row("torch-compile", "pure, default", 0.015, 5e9),
        training_row("torch-compile", "autocast, default", 0, None, failed="no memory | at all"),
    ]
    (tmp_path / "train.json").write_text(json.dumps({"rates": rates, "dtype": "bfloat16", "results": rows}))
    kernel = {
        "kernel": "gelu", "config": "124m-b64", "median_s": {"ownt": 2e-4}, "bound_s": 1e-4, "by_memory": True,
        "moved_bytes": 4e8, "operations": 0, "error": 2e-3,
    }  # fmt: skip
    fast = kernel | {"kernel": "linear", "by_memory": False, "operations": 8e10, "bound_s": 1.8e-4, "error": None}
    kernels = {"dtype": "bfloat16", "results": [kernel, fast], "failed": {"softmax": "TypeError:\nno"}}
    (tmp_path / "kernels.json").write_text(json.dumps(kernels))
    (tmp_path / "train.status").write_text("124 260\n")
    (tmp_path / "kernels.status").write_text("1 9\n")
    (tmp_path / "kernels.log").write_text("...\nkernels: broken\n\n")
    (tmp_path / "tests.status").write_text("0 30\n")
    suite = '<testsuites><testsuite tests="9" failures="1" errors="0" skipped="2"></testsuite></testsuites>'
    (tmp_path / "tests.xml").write_text(suite)
    return tmp_path


def test_the_table_has_all_figures_and_all_failures(folder):
    text = gpu_table.table(folder)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1  # one table
    rows = {cells[1]: cells[2:-1] for cells in ([cell.strip() for cell in line.split("|")] for line in lines)}
    assert "NVIDIA H200" in text and "4,000 GB/s" in text and "800 TFLOP/s" in text
    assert rows["part tests"][-1] == "6 passed, 1 failed, 2 skipped, done, 30 s"
    assert rows["part train"][-1] == "failed: out of time, 260 s"
    assert rows["part kernels"][-1] == "failed: kernels: broken, 9 s"
    assert rows["part gradients"][-1] == "failed: it did not run"
    ours = rows["124m-b4, bfloat16: ownt-step"]
    assert ours[:4] == ["10", "409,600 tokens/s", "50.0% of a product, 40.4% of 989 TFLOP/s", "3.00 GB"]
    assert ours[-1] == "1.50x torch-compile pure, default, 0.60 of its bytes"
    assert rows["124m-b4, bfloat16: ownt"][-1] == "failed: its losses [1] are not [2]"
    assert rows["124m-b4, bfloat16: torch-compile autocast, default"][-1] == "failed: no memory / at all"
    assert rows["124m-b64, bfloat16: gelu"][1:3] == ["2,000 GB/s", "50% of a copy"]
    assert rows["124m-b64, bfloat16: gelu"][-2:] == ["2.0e-03", "below 80%"]
    assert rows["124m-b64, bfloat16: linear"][1:3] == ["400,000 GFLOP/s", "90% of a product"]
    assert rows["kernel softmax"][-1] == "failed: TypeError: no"
    assert gpu_table.main(["table", str(folder)]) == 1


def test_a_table_of_nothing_says_that_nothing_ran(tmp_path):
    text = gpu_table.table(tmp_path)
    assert "no GPU: this is a dry run" in text
    assert text.count("failed: it did not run") == len(gpu_table.PARTS)


def test_missing_wheels_are_named(monkeypatch, capsys):
    monkeypatch.setattr(gpu_table, "find_spec", lambda module: None if module in ("ml_dtypes", "torch") else module)
    assert gpu_table.check(dry=True) == 1
    assert "expected these wheels to be installed: ml_dtypes" in capsys.readouterr().err
    monkeypatch.setattr(gpu_table, "find_spec", lambda module: None if module == "torch" else module)
    assert gpu_table.check(dry=True) == 0
    assert "torch is not installed: nothing is compared with PyTorch" in capsys.readouterr().out


def test_the_script_parses_and_refuses_what_it_does_not_know():
    bash = shutil.which("bash") or pytest.skip("needs bash")
    subprocess.run([bash, "-n", BENCH / "gpu.sh"], check=True)
    done = subprocess.run([bash, BENCH / "gpu.sh", "--fast"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected --batches, --dtype, --modes, --out or --dry-run; got --fast" in done.stderr
    assert os.access(BENCH / "gpu.sh", os.X_OK)
