"""The command line: what it prints and where, exit statuses, errors in one line, Ctrl-C."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nn
from nn import cli, data, presets, schedule

ROOT = Path(__file__).parents[1]
SMALL = ["--n-embd=8", "--n-layer=1", "--n-head=2", "--batch-size=2", "--samples=2"]
STEP = re.compile(r"step +\d+ / +\d+( \| loss \d+\.\d{4})?( \| val \d+\.\d{4})?")


def command(*arguments, **options):
    line = [sys.executable, "-m", "nn", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=60, **options)


def in_process(capsys, *arguments):
    """(exit status, standard output, standard error) of a command."""
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def assert_input_error(capsys, arguments, words):
    """One line on standard error, which says `words`, and nothing else."""
    status, out, err = in_process(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"ownt {arguments[0]}: ")
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a small trained model."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    assert cli.main(["train", "--steps", "2", "--out", str(folder), *SMALL]) == 0
    return folder


def test_train_prints_steps_and_samples_and_saves_a_model_to_sample_from(tmp_path):
    folder = tmp_path / "new" / "model"
    done = command("train", "--steps", 20, "--samples", 3, "--out", folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(STEP.fullmatch(line) for line in lines[:21])
    assert [line[:17] for line in lines[:21]] == [f"step {step:4d} /   20 " for step in range(21)]
    assert [step for step in range(21) if "loss" not in lines[step]] == [0]
    assert [step for step in range(21) if "val" in lines[step]] == [*range(0, 21, 2)]
    assert all(re.fullmatch(rf"sample  {number}: [a-z]*", lines[20 + number]) for number in (1, 2, 3))
    assert lines[24:] == [f"saved the model in {folder}"]
    assert float(lines[20].split()[-1]) < float(lines[0].split()[-1])
    assert re.search(r"^kind +live +at the peak$", done.stderr, re.MULTILINE)
    assert re.search(r"^optimizer +[\d.]+ kB +[\d.]+ kB$", done.stderr, re.MULTILINE)
    assert re.search(r"^blocks +[\d.]+ MB", done.stderr, re.MULTILINE)
    assert len(re.findall(r"^[\d,]+ tokens/s \| parameter .* gradient ", done.stderr, re.MULTILINE)) == 20

    again = [command("sample", "--model", folder, "--prompt", "mar", "-n", 4, "--seed", 7) for _ in range(2)]
    assert (again[0].returncode, again[0].stderr) == (0, "")
    assert again[0].stdout == again[1].stdout
    texts = again[0].stdout.splitlines()
    assert len(texts) == 4
    assert all(re.fullmatch("mar[a-z]*", text) for text in texts)


@pytest.mark.parametrize("name", ["train", "sample"])
def test_the_same_seed_gives_the_same_run(capsys, tmp_path, model, name):
    arguments = [name, *(["--steps", 3, "--out", tmp_path, *SMALL] if name == "train" else ["--model", model])]
    first, again, other = (in_process(capsys, *arguments, "--seed", seed)[1] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ([], [0, 1, *range(2, 45, 2), 45]),
        (["--log-every", 20, "--eval-every", 30], [0, 1, 20, 30, 40, 45]),
        (["--log-every", 20, "--val-fraction", 0], [1, 20, 40, 45]),
    ],
)
def test_the_first_and_last_step_are_printed_and_every_so_many(capsys, tmp_path, options, steps):
    _, out, _ = in_process(capsys, "train", "--steps", 45, *options, "--out", tmp_path, *SMALL)
    assert [int(line.split()[1]) for line in out.splitlines() if line.startswith("step")] == steps


@pytest.mark.parametrize(
    "options",
    [
        ["--optimizer", "sgd", "--schedule", "linear"],
        ["--optimizer", "adam", "--schedule", "constant", "--warmup", "2", "--grad-clip", "None"],
        ["--layout", "stream", "--batch-size", "2", "--dtype", "float64", "--checkpoint", "True", "--tied", "False"],
        ["--preset", "microgpt-1000", "--python-stream", "False"],
        ["--preset=microgpt-500"],
        ["--tied", "--checkpoint", "--python_stream"],
    ],
)
def test_settings_are_taken(capsys, tmp_path, options):
    (tmp_path / "text").write_text("to be, or not to be\n" * 9)
    common = ["--data", tmp_path / "text", "--val-fraction", 0, "--steps", 3, "--samples", 1, "--out", tmp_path]
    status, out, _ = in_process(capsys, "train", *common, *options)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["step", "step", "step", "sample", "saved"]
    config = nn.GPT.load(tmp_path).config
    assert config.dtype == ("float64" if "float64" in options else "float32")
    assert config.checkpoint is ("--checkpoint" in options)
    assert config.n_embd == (64 if "--preset" not in options[0] else 16)


def test_a_preset_learns_from_a_long_text_and_logs(capsys, tmp_path):
    (tmp_path / "text").write_text("to be, or not to be\n" * 50)
    log = tmp_path / "log.csv"
    common = ["--preset", "tiny", "--data", tmp_path / "text", "--out", tmp_path / "model", "--log", log]
    status, out, _ = in_process(capsys, "train", *common, "--steps", 100, "--eval-every", 50, "--n-hidden", 32)
    assert status == 0
    vals = [float(line.split(" | val ")[1]) for line in out.splitlines() if " | val " in line]
    assert len(vals) == 3
    assert vals[-1] < 0.5 < 2 < vals[0]
    logged = [line.split(",") for line in log.read_text().splitlines()]
    assert [f"{float(line[2]):.4f}" for line in logged[1:] if line[2]] == [f"{val:.4f}" for val in vals]
    assert [line[0] for line in logged] == ["step", "0", "1", *map(str, range(5, 101, 5))]
    assert nn.GPT.load(tmp_path / "model").config.hidden == 32


def test_usage_help_and_commands_that_do_not_exist():
    for arguments, status in (([], 2), (["--help"], 0), (["-h"], 0), (["fly"], 2)):
        done = command(*arguments)
        shown = done.stderr if status else done.stdout
        assert done.returncode == status
        assert shown.startswith("usage:")
        assert all(f"ownt {name}" in shown for name in ("train", "sample", "memory-check"))
        assert "" in (done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["train", "sample", "memory-check"])
def test_each_command_has_help(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "--help"])
    assert f"ownt {name}" in capsys.readouterr().out


def test_help_lists_what_can_be_chosen_and_the_presets_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "--preset", "gpt2", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    for names in (presets.PRESETS, presets.OPTIMIZERS, schedule.NAMES, data.LAYOUTS):
        assert all(re.search(rf"[ :]{name}[ ,;:)]", shown) for name in names), names
    assert "--n-embd INT width; divisible by n_head (default: 768)" in shown


# errors


@pytest.mark.parametrize(
    ("contents", "words"),
    [(None, "No such file"), (b"", "empty"), (b"\x89PNG\0\xff", "UTF-8"), (b"a\0b", "zero byte"), (b"ab\n", "got 2")],
)
@pytest.mark.parametrize("layout", ["lines", "stream"])
def test_data_that_cannot_be_used_is_an_error(capsys, tmp_path, contents, words, layout):
    path = tmp_path / "data.txt"
    if contents is not None:
        path.write_bytes(contents)
    arguments = ["train", "--data", path, "--layout", layout, "--out", tmp_path / "model"]
    assert_input_error(capsys, arguments, words)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--preset nanogpt", "unknown preset 'nanogpt': expected one of names, microgpt-500, microgpt-1000, tiny"),
        ("--preset small", "expected --data FILE, a long text in UTF-8, for layout stream; got none"),
        ("--layout stream", "expected --data FILE"),
        ("--n-embd 30", "n_embd to be divisible by the heads n_head; got 30 and 4"),
        ("--n-layer 0", "n_layer of 1 or more; got 0"),
        ("--n-hidden -1", "n_hidden"),
        ("--dropout 1", "dropout from 0 up to, without, 1; got 1.0"),
        ("--temperature -0.5", "temperature of 0 or more; got -0.5"),
        ("--steps 0", "steps of 1 or more; got 0"),
        ("--batch-size 0", "batch_size of 1 or more; got 0"),
        ("--log-every 0", "log_every of 1 or more; got 0"),
        ("--eval-every 0", "eval_every of 1 or more; got 0"),
        ("--accumulate 0", "accumulate of 1 or more; got 0"),
        ("--eval-tokens 0", "eval_tokens of 16 or more, one block; got 0"),
        ("--val-fraction 1", "val_fraction from 0 up to, without, 1; got 1"),
        ("--val-fraction -0.1", "val_fraction from 0 up to, without, 1; got -0.1"),
        ("--final-lr-fraction 2", "final_lr_fraction from 0 to 1; got 2"),
        ("--samples -1", "samples of 0 or more; got -1"),
        ("--lr nan", "lr of 0 or more; got nan"),
        ("--warmup -1", "warmup of 0 or more; got -1"),
        ("--betas 1.5 0.9", "betas"),
        ("--grad-clip -1", "grad_clip"),
        ("--device abacus", "unknown device 'abacus': expected one of cpu"),
        ("--device meta", "a device that computes, such as cpu or cuda; got 'meta'"),
        ("--optimizer adagrad", "optimizer among sgd, adam, adamw, rmsprop, lion; got 'adagrad'"),
        ("--schedule wave", "schedule among constant, linear, cosine, one-cycle, step, restarts; got 'wave'"),
        ("--layout words", "layout among lines, stream; got 'words'"),
        ("--dtype int8", "dtype among float32, float64, bfloat16, float16; got 'int8'"),
    ],
)
def test_settings_that_cannot_be_are_an_error(capsys, tmp_path, options, words):
    arguments = ["train", "--steps", "2", "--samples", "1", "--out", tmp_path / "model", *options.split()]
    assert_input_error(capsys, arguments, words)
    assert not (tmp_path / "model").exists()


def test_a_folder_that_cannot_be_written_is_an_error_before_training(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert_input_error(capsys, ["train", "--out", tmp_path / "file", "--steps", 2, *SMALL], str(tmp_path / "file"))


def test_a_log_that_cannot_be_written_is_an_error_before_training(capsys, tmp_path):
    arguments = ["train", "--out", tmp_path, "--log", tmp_path / "none" / "log.csv", "--steps", 2, *SMALL]
    status, out, err = in_process(capsys, *arguments)
    assert (status, out) == (2, "")
    assert f"log: expected a file to write to; got {tmp_path}" in err.splitlines()[-1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_training_that_diverges_ends_with_a_word_on_it(capsys, tmp_path):
    options = ["--steps", 3, "--lr", "1e30", "--grad-clip", "None", "--out", tmp_path, *SMALL]
    status, _, err = in_process(capsys, "train", *options)
    assert status == 2, err
    assert re.search("(?i)nan|finite", err.splitlines()[-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--prompt maé", "got 'é' at 2 of 'maé'"),
        ("--prompt abcdefghijklmnopqrstu", "shorter than a block of 16; got 21 characters"),
        ("--temperature -1", "temperature of 0 or more; got -1"),
        ("--temperature -1 -n 0", "temperature of 0 or more; got -1"),
        ("--top-k 0", "top_k of 1 or more; got 0"),
        ("-n -1", "n of 0 or more; got -1"),
    ],
)
def test_samples_that_cannot_be_are_an_error(capsys, model, options, words):
    assert_input_error(capsys, ["sample", "--model", model, *options.split()], words)


def test_a_missing_model_is_an_error_naming_it(capsys, tmp_path):
    assert_input_error(capsys, ["sample", "--model", tmp_path / "none"], str(tmp_path / "none"))


def test_samples_may_go_to_a_reader_that_stops_early(model):
    line = [sys.executable, "-m", "nn", "sample", "--model", str(model), "-n", "2000"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
