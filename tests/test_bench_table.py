"""What bench/gpu.sh makes of its parts: the table, also of those that failed; and the processes that it measures in."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import gpu_table  # noqa: E402
import kernels  # noqa: E402
import workers  # noqa: E402


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
        training_row("torch-compile", "autocast, reduce-overhead", 0.001, 1e9, failed="its losses [1] are not [2]"),
        training_row("torch-compile", "pure, reduce-overhead", 0.0105, 4e9),
    ]
    (tmp_path / "train.json").write_text(
        json.dumps({"device": "cuda", "rates": rates, "dtype": "bfloat16", "results": rows})
    )
    kernel = {
        "kernel": "gelu", "config": "124m-b64", "median_s": {"ownt": 2e-4}, "bound_s": 1e-4, "by_memory": True,
        "moved_bytes": 4e8, "operations": 0, "error": 2e-3,
    }  # fmt: skip
    fast = kernel | {"kernel": "linear", "by_memory": False, "operations": 8e10, "bound_s": 1.8e-4, "error": None}
    found = {"dtype": "bfloat16", "results": [kernel, fast], "failed": {"softmax": "TypeError:\nno"}}
    (tmp_path / "kernels.json").write_text(json.dumps(found))
    (tmp_path / "train.status").write_text("124 260\n")
    (tmp_path / "train.command").write_text(f"bench/train_gpt.py --json {tmp_path}/train.json\n")
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
    assert ours[-1] == (
        "1.50x torch-compile pure, default, 0.60 of its bytes; "
        "1.05x torch-compile pure, reduce-overhead (wanted 1.1), 0.75 of its bytes (wanted 0.7)"
    )
    assert "\n    bench/train_gpt.py --json FOLDER/train.json\n" in text and "dry run" not in text
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


TALKER = """
import json, sys, time
print("a word of warning", file=sys.stderr, flush=True)
for line in sys.stdin:
    question = json.loads(line)
    time.sleep(question["pause"])
    if question["pause"] < 0.01:
        print("RuntimeError: no memory\\nCompile with more", file=sys.stderr)
        sys.exit(3)
    print(json.dumps(question), flush=True)
"""


def test_a_worker_passes_on_what_it_says_and_is_given_up_when_it_takes_too_long(tmp_path, capfd):
    script = tmp_path / "talker.py"
    script.write_text(TALKER)
    start = functools.partial(workers.Worker, "talker", script, threads=1, limit_s=5.0)
    answers, fails, hangs = start(), start(), start(limit_s=0.3)
    assert answers.ask(pause=0.02) == {"pause": 0.02}
    with pytest.raises(workers.WorkerError, match=r"^talker: RuntimeError: no memory$"):
        fails.ask(pause=0)
    with pytest.raises(workers.WorkerError, match="no answer in 0.3 s to {'pause': 60}"):
        hangs.ask(pause=60)
    for worker in (answers, fails, hangs):
        worker.close()
    said = capfd.readouterr().err
    assert said.count("talker: a word of warning") >= 2 and "talker: Compile with more" in said


def test_what_was_measured_is_there_when_the_rest_is_not(tmp_path, monkeypatch):
    measured, file = [], tmp_path / "kernels.json"

    def stopped(name, *_):
        if measured:
            assert [row["kernel"] for row in json.loads(file.read_text())["results"]] == [measured[0]]
            raise KeyboardInterrupt
        measured.append(name)
        return kernels.Result(name, "micro", {"ownt": 1.0}, 0.5, True, 10, 10)

    monkeypatch.setattr(kernels, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        kernels.main(["--config", "micro", "--threads", "1", "--json", str(file)])


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
