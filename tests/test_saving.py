"""Saving and loading: round trips, what is left in the folder, interruptions, and files that cannot be used."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import nn
from nn import saving, train

ROOT = Path(__file__).parents[1]
CONFIG = nn.GPTConfig(vocab_size=6, block_size=4, n_layer=1, n_head=2, n_embd=8)
TOKENIZER = nn.CharTokenizer("abé漢\n")


@pytest.fixture
def model():
    return nn.GPT(CONFIG)


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "model", TOKENIZER)
    return tmp_path / "model"


def values_of(model):
    return {path: tensor.numpy().copy() for path, tensor in model.state_dict().items()}


def assert_same(model, values):
    found = values_of(model)
    assert list(found) == list(values)
    for path, value in values.items():
        assert (found[path].dtype, found[path].tobytes()) == (value.dtype, value.tobytes()), path


def weights_of(folder):
    (path,) = folder.glob("*.safetensors")
    return path


def rewrite(folder, **changes):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")


def error_of(call):
    """What an InputError says; it must be one line."""
    with pytest.raises(nn.InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"norm": "rms-no-gain", "bias": False, "tied": False, "dtype": "float64"},
        {"n_hidden": 5, "dropout": 0.3, "checkpoint": True, "embedding_norm": True},
    ],
)
def test_a_model_comes_back_bit_for_bit_in_evaluation_mode(tmp_path, settings):
    model = nn.GPT(dataclasses.replace(CONFIG, **settings))
    model.save(tmp_path / "a" / "b", TOKENIZER)
    loaded = nn.GPT.load(tmp_path / "a" / "b")
    assert_same(loaded, values_of(model))
    assert loaded.config == model.config
    assert loaded.tokenizer.characters == TOKENIZER.characters
    assert not any(module.training for module in loaded.modules())
    tokens = [[0, 5, 2, 1]]
    assert np.array_equal(loaded(tokens).numpy(), model.eval()(tokens).numpy())


def test_a_converted_model_comes_back_and_generates(model, tmp_path):
    model.to(dtype="float64").save(tmp_path, TOKENIZER)
    loaded = nn.GPT.load(str(tmp_path))
    assert_same(loaded, values_of(model))
    assert loaded.generate([[1]], 3, temperature=0).tolist() == model.generate([[1]], 3, temperature=0).tolist()


def test_a_model_is_saved_with_its_own_tokenizer_or_none(model, tmp_path):
    model.save(tmp_path)
    loaded = nn.GPT.load(tmp_path)
    assert loaded.tokenizer is None
    assert "tokenizer" in error_of(lambda: train.sample(loaded))
    loaded.tokenizer = TOKENIZER
    loaded.save(tmp_path)
    assert nn.GPT.load(tmp_path).tokenizer.characters == TOKENIZER.characters


def test_saving_again_leaves_one_model_and_the_files_of_others(model, folder):
    others = {"notes.txt", "model.safetensors", ".hidden", "sub"}
    for name in others - {"sub"}:
        (folder / name).write_text("mine")
    (folder / "sub").mkdir()
    (folder / "model-0123abcd.safetensors").write_text("left by an interrupted save")
    os.link(folder / "config.json", folder.parent / "old")  # still the old one if the new one replaces it whole
    newer = nn.GPT(dataclasses.replace(CONFIG, n_layer=2))
    newer.save(folder, TOKENIZER)
    assert '"n_layer": 1' in (folder.parent / "old").read_text("utf-8")
    names = {path.name for path in folder.iterdir()}
    assert len(names) == len(others | names) == len(others) + 2
    assert all((folder / name).read_text() == "mine" for name in others - {"sub"})
    assert_same(nn.GPT.load(folder), values_of(newer))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can write")
@pytest.mark.parametrize("where", ["file", "file/below", "/proc/self", "/proc/none"])
def test_a_folder_that_cannot_be_written_is_an_input_error_naming_it(model, tmp_path, where):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / where) in error_of(lambda: model.save(tmp_path / where))


# interruptions


STEPS = [(Path, name) for name in ("mkdir", "chmod", "write_text", "write_bytes", "replace", "rename")]
STEPS += [(os, "fsync"), (os, "replace"), (os, "rename"), (safetensors.numpy, "save_file")]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("late", [False, True])
def test_whichever_step_of_a_save_fails_one_whole_model_is_left(model, folder, monkeypatch, error, late):
    newer, fatal, saved = nn.GPT(dataclasses.replace(CONFIG, n_embd=4)), -1, False

    def failing(step):
        def call(*arguments, **options):
            number = next(numbers)
            result = step(*arguments, **options) if late or number != fatal else None
            if number == fatal:
                raise error
            return result

        return call

    while not saved:
        fatal += 1
        model.save(folder)
        numbers = count()
        with monkeypatch.context() as patch, contextlib.suppress(nn.InputError, KeyboardInterrupt):
            for owner, name in STEPS:
                patch.setattr(owner, name, failing(getattr(owner, name)))
            newer.save(folder)
            saved = True
        loaded = nn.GPT.load(folder)
        assert_same(loaded, values_of({8: model, 4: newer}[loaded.config.n_embd]))
    assert fatal > 5
    assert loaded.config.n_embd == 4
    assert len(list(folder.iterdir())) == 2


SAVING = """
import sys, nn
models = [nn.GPT(nn.GPTConfig(vocab_size=64, block_size=8, n_layer=1, n_head=1, n_embd=n)) for n in (128, 256)]
for model in models:
    [tensor.fill_(model.config.n_embd) for tensor in model.state_dict().values()]
    model.save(sys.argv[1])
print("ready", flush=True)
while True:
    for model in models:
        model.save(sys.argv[1])
"""


def test_a_killed_save_leaves_one_whole_model(tmp_path):
    folder, waits = tmp_path / "model", random.Random(0)
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", SAVING, folder], stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(waits.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        model = nn.GPT.load(folder)
        assert all((tensor.numpy() == model.config.n_embd).all() for tensor in model.state_dict().values())
    model.save(folder)
    assert len(list(folder.iterdir())) == 2


FULL = """
import resource, signal, sys, nn
model = nn.GPT(nn.GPTConfig(vocab_size=64, block_size=8, n_layer=1, n_head=1, n_embd=64))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
if sys.argv[2] == "killed":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
try:
    model.save(sys.argv[1])
except nn.InputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("end", ["killed", "told"])
def test_a_save_that_ends_in_the_middle_of_the_weights_leaves_the_old_model(model, folder, end):
    done = subprocess.run([sys.executable, "-c", FULL, folder, end], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == (-signal.SIGXFSZ if end == "killed" else 1)
    assert [str(folder) in line for line in done.stderr.splitlines()] == [True] * (end == "told")
    assert_same(nn.GPT.load(folder), values_of(model))
    model.save(folder)
    assert len(list(folder.iterdir())) == 2


# files that cannot be used


def test_truncated_weights_are_an_input_error_at_every_length_and_change_nothing(model, folder):
    path = weights_of(folder)
    whole, other = path.read_bytes(), nn.GPT(CONFIG)
    before = values_of(other)
    for length in {*range(0, len(whole), 97), *range(20), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert str(path) in error_of(lambda: saving.load_weights(other, path))
        assert_same(other, before)
    assert str(path) in error_of(lambda: nn.GPT.load(folder))
    path.write_bytes(whole)
    saving.load_weights(other, path)
    assert_same(other, values_of(model))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wpe.weight": None, "final_norm.bias": None}, "missing: wpe.weight, final_norm.bias"),
        ({"extra": np.ones(2, "float32")}, "unexpected: extra"),
        ({"wpe.weight": np.ones((8, 4), "float32")}, "another shape: wpe.weight (expected (4, 8), got (8, 4))"),
        ({"wpe.weight": np.ones((4, 8), "float64")}, "expected tensors of float32; got wpe.weight (float64)"),
        ({"wpe.weight": np.ones((4, 8), "int32")}, "got wpe.weight (int32)"),
        ({"wpe.weight": np.ones((4, 8), "float16")}, "got wpe.weight (float16)"),
    ],
)
def test_foreign_weights_are_an_input_error_and_change_nothing(model, folder, changes, words):
    path, other = weights_of(folder), nn.GPT(CONFIG)
    before, arrays = values_of(other), values_of(model) | changes
    safetensors.numpy.save_file({name: array for name, array in arrays.items() if array is not None}, path)
    found = error_of(lambda: saving.load_weights(other, path))
    assert str(path) in found
    assert words in found
    assert_same(other, before)
    assert words in error_of(lambda: nn.GPT.load(folder))


@pytest.mark.parametrize("contents", [b"", b"nonsense", b"\xff" * 64, b"[]", b"{}", b'"text"', b"3", b"[" * 99_999])
@pytest.mark.parametrize("file", ["config", "weights"])
def test_foreign_bytes_are_an_input_error_naming_the_file(folder, contents, file):
    path = folder / "config.json" if file == "config" else weights_of(folder)
    path.write_bytes(contents)
    assert str(path) in error_of(lambda: nn.GPT.load(folder))


@pytest.mark.parametrize("missing", ["folder", "config", "weights"])
def test_a_missing_file_is_an_input_error_naming_it_and_why(folder, missing):
    path = {"folder": folder / "none", "config": folder / "config.json", "weights": weights_of(folder)}[missing]
    if missing != "folder":
        path.unlink()
    found = error_of(lambda: nn.GPT.load(path if missing == "folder" else folder))
    assert str(path) in found
    assert "No such file" in found


@pytest.mark.parametrize("weights", ["../out.safetensors", "/etc/passwd", "sub/x", "..", ".", "", 3, None, ["a"]])
def test_weights_outside_the_folder_are_an_input_error_that_says_so(folder, weights):
    (folder.parent / "out.safetensors").write_bytes(weights_of(folder).read_bytes())
    rewrite(folder, weights=weights)
    assert f"{folder / 'config.json'}: expected weights" in error_of(lambda: nn.GPT.load(folder))


SHAPES = {"n_head": 3}, {"n_embd": "8"}, {"n_embd": 8.0}, {"n_embd": 10**13}, {"n_hidden": -3}, {"unknown": 1}
SHAPES += {"dropout": None}, {"init_std": "small"}, {"norm": "batch"}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "ownt-gpt-2"},
        {"model": None},
        {"model": []},
        *({"model": dataclasses.asdict(CONFIG) | shape} for shape in SHAPES),
        {"tokenizer": "char"},
        {"tokenizer": [1]},
        {"tokenizer": {"type": "bpe", "characters": "abcde"}},
        {"tokenizer": {"type": "char", "characters": "abc"}},
    ],
)
def test_a_description_that_cannot_be_is_an_input_error_naming_the_file(folder, change):
    rewrite(folder, **change)
    assert str(folder / "config.json") in error_of(lambda: nn.GPT.load(folder))
