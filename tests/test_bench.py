"""The comparisons of bench/: they measure the same work on each side, say what is missing, and refuse to mislead."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nn

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import generate  # noqa: E402
import gpt_peers  # noqa: E402
import gpt_shown  # noqa: E402
import gpt_sizes  # noqa: E402
import gpt_worker  # noqa: E402
import kernel_cases  # noqa: E402
import kernels  # noqa: E402
import train_gpt  # noqa: E402
import workers  # noqa: E402

SIZE = gpt_sizes.SIZES["micro"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "micro.npz"
    gpt_sizes.write(SIZE, path)
    return path


def bench(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCH / script, *arguments, "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def result(framework: str, median_s: float = 1.0, heap: int | None = None, losses=(3.0, 2.9)) -> train_gpt.Result:
    return train_gpt.Result(
        "micro", framework, "", 1.0, list(losses), median_s, (median_s, median_s), heap_peak_bytes=heap
    )


def losses(framework: str, variant: str, file: Path, steps: int = 5) -> list[float]:
    return gpt_worker.Trainer(framework, variant, SIZE, str(file)).train(steps)["losses"]


def far(found: list[float], expected: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / b for a, b in zip(found, expected))


# train_gpt


def test_the_micro_run_prints_and_writes_its_figures(tmp_path):
    done = bench("train_gpt.py", "--steps", "5", "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["machine"]["threads"] == 1
    ours = found["results"][-1]
    assert ours["framework"] == "ownt"
    assert ours["tokens_per_s"] * ours["median_s"] == pytest.approx(SIZE.tokens)
    assert ours["losses"][-1] < ours["losses"][0]
    assert f"{SIZE.tokens / ours['median_s']:,.0f}" in done.stdout


def test_the_captured_step_trains_as_the_plain_loop(file):
    assert losses("ownt-step", "", file) == losses("ownt", "", file)


def test_texts_are_generated_and_their_time_is_measured():
    found = generate.measure("micro", [], threads=1)
    assert found.keys() == {"ownt"}
    assert 0 < found["ownt"] < 1000


@pytest.mark.parity
def test_pytorch_generates_the_same_text():
    pytest.importorskip("torch")
    assert generate.measure("micro", ["torch"], threads=1).keys() == {"ownt", "torch"}


def test_parameters_are_named_and_counted_as_in_the_model():
    for size in gpt_sizes.SIZES.values():
        config = nn.GPTConfig(size.vocab, size.block, size.layers, size.heads, size.width)
        assert kernel_cases.parameters(size) == config.parameters
    micro = nn.GPT(nn.GPTConfig(SIZE.vocab, SIZE.block, SIZE.layers, SIZE.heads, SIZE.width))
    shapes = {name: tensor.shape for name, tensor in micro.state_dict().items()}
    assert kernel_cases.parameter_shapes(SIZE) == shapes


@pytest.fixture
def strong_decay(monkeypatch):
    """Twenty steps with the decay of the bench would not show which parameters decay."""
    for module in (gpt_peers, gpt_worker):
        monkeypatch.setattr(module, "WEIGHT_DECAY", 3.0)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("framework", "variant"),
    [("torch", "fused"), ("torch", "foreach"), ("torch", "loop"), ("jax", "einsum"), ("jax", "fused")],
)
def test_peers_train_the_same_model(framework, variant, file, strong_decay):
    pytest.importorskip(framework)
    assert far(losses(framework, variant, file, 20), losses("ownt", "", file, 20)) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize(
    ("setting", "value"), [("LR", 6e-4), ("BETAS", (0.9, 0.999)), ("WEIGHT_DECAY", 0.1), ("decays", lambda *_: True)]
)
def test_another_optimizer_would_show(setting, value, file, strong_decay, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(gpt_peers, setting, value)
    assert far(losses("torch", "loop", file, 20), losses("ownt", "", file, 20)) > 1e-5


def test_losses_that_differ_by_rounding_agree():
    worst = train_gpt.check_losses([result("ownt"), result("torch", losses=(3.0, 2.9 * (1 + 5e-5)))])
    assert worst == pytest.approx(5e-5, rel=1e-3)


@pytest.mark.parametrize("wrong", [2.9 * (1 + 2e-4), math.nan])
def test_losses_that_differ_by_more_are_refused(wrong):
    with pytest.raises(workers.DisagreementError, match="its loss in step 2 is"):
        train_gpt.check_losses([result("ownt"), result("jax", losses=(3.0, wrong))])


def test_ratios_are_to_the_best_peer_and_to_pytorchs_heap():
    found = gpt_shown.ratios(
        [result("ownt-step", 1, 60), result("ownt", 2, 90), result("torch", 4, 120), result("jax", 3, 500)]
    )
    assert found == [
        "step time, the best peer's (jax) over ours: ownt-step 3.00x, ownt 1.50x",
        "heap at the peak, ours over PyTorch's: ownt-step 0.50, ownt 0.75",
    ]
    assert gpt_shown.ratios([result("ownt")]) == []


def test_heap_grows_by_what_the_model_keeps(tmp_path):
    pytest.importorskip("memray")
    char = gpt_sizes.SIZES["char"]
    gpt_sizes.write(char, file := tmp_path / "char.npz")
    found = train_gpt.heap_peak_bytes(train_gpt.Result("char", "ownt", "", 0, []), file, file, threads=1)
    kept = 4 * 4 * kernel_cases.parameters(char)  # weights, gradients and two of AdamW
    assert kept < found < kept + 25_000_000  # of activations; one workspace of BLAS would be above


def test_a_worker_whose_file_is_of_another_size_says_so(file):
    worker = workers.Worker("ownt", train_gpt.SCRIPT, "ownt", "", "char", str(file), *train_gpt.ON_CPU, threads=1)
    try:
        with pytest.raises(workers.WorkerError, match="ownt: .*shape"):
            worker.ask(steps=1)
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "expected threads from 1 to"),
        (["--threads", str(workers.cores() + 1)], f"the cores there are; got {workers.cores() + 1}"),
        (["--threads", "two"], "got two"),
        (["--peers", "tensorflow"], "expected names among torch, .*; got 'tensorflow'"),
        (["--steps", "0"], "--steps: expected 1 or more; got 0"),
    ],
)
def test_settings_that_cannot_be(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_gpt.parse(arguments)
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_a_plot_without_matplotlib_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(train_gpt, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        train_gpt.parse(["--plot", "figure.svg"])
    assert "pip install 'ownt[bench]'" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setattr(workers, "find_spec", lambda name: name == "jax")
    assert workers.installed(["torch-compile", "jax"]) == ["jax"]
    assert "torch-compile: left out, torch is not installed. pip install 'ownt[parity]'" in capsys.readouterr().out


def test_a_peer_that_fails_is_left_out_and_ours_is_not(capsys):
    with train_gpt.left_out("jax"):
        raise workers.WorkerError("jax: no memory")
    assert "jax: left out, it failed. jax: no memory" in capsys.readouterr().out
    with pytest.raises(workers.WorkerError, match="ours"), train_gpt.left_out("ownt-step"):
        raise workers.WorkerError("ours")


def test_the_figure_has_a_panel_for_each_size(tmp_path):
    pytest.importorskip("matplotlib")
    import gpt_plot

    rows = [
        {"config": config, "framework": name, "median_s": 0.002} for config in ("micro", "char") for name in ["torch"]
    ]
    rows += [{"config": "micro", "framework": "ownt", "median_s": 0.001}]
    gpt_plot.draw(rows, tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    assert all(f"<!-- {word} -->" in text for word in ("micro, ms a step", "char, ms a step", "ownt, plain loop"))


# workers


def script(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "worker.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(BENCH)!r})\nimport workers\n{body}\n")
    return path


def test_a_worker_answers_though_its_libraries_print(tmp_path):
    body = "print('noise') or (lambda question: print('noise') or {'twice': 2 * question['x']})"
    worker = workers.Worker("worker", script(tmp_path, f"workers.serve(lambda: {body})"), threads=1)
    try:
        assert [worker.ask(x=x)["twice"] for x in (1, 2)] == [2, 4]
    finally:
        worker.close()


def test_a_worker_that_dies_leaves_its_last_words(tmp_path):
    worker = workers.Worker("torch", script(tmp_path, "raise MemoryError('too big')"), threads=1)
    try:
        with pytest.raises(workers.WorkerError, match="torch: MemoryError: too big"):
            worker.ask(x=1)
    finally:
        worker.close()


# kernels


def test_every_case_runs_at_the_smallest_size(tmp_path):
    done = bench("kernels.py", "--config", "micro", "--seconds", "0.001", "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["results"]
    assert [row["kernel"] for row in found] == list(kernel_cases.CASES)
    assert all(row["median_s"]["ownt"] > 0 and row["bound_s"] > 0 for row in found)


@pytest.mark.parity
def test_every_case_computes_what_pytorch_does():
    pytest.importorskip("torch")
    done = bench("kernels.py", "--config", "micro", "--seconds", "0.001", "--peers", "torch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("x\n") == len(kernel_cases.CASES)


def test_the_bound_is_the_slower_of_memory_and_arithmetic():
    linear = kernel_cases.CASES["linear"]
    moved, done = linear.moved_bytes(SIZE), linear.operations(SIZE)
    assert moved == 4 * (512 * 16 + 64 * 16 + 64 + 512 * 64)
    assert done == 2 * 512 * 16 * 64
    assert linear.bound_s(SIZE, copied_per_s=moved, multiplied_per_s=2 * done) == (1.0, True)
    assert linear.bound_s(SIZE, copied_per_s=2 * moved, multiplied_per_s=done) == (1.0, False)


@pytest.mark.parametrize("found", [[1.01], [], [math.nan]])
def test_results_of_other_norms_are_refused(found):
    kernels.check_norms("gelu", {"ownt": [1.0], "torch": [1.0001]})
    with pytest.raises(workers.DisagreementError, match="gelu: torch computes results of norms"):
        kernels.check_norms("gelu", {"ownt": [1.0], "torch": found})


def test_an_unknown_kernel_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        kernels.parse(["--kernel", "convolution"])
    assert "--kernel: expected one of AdamW, add" in capsys.readouterr().err
