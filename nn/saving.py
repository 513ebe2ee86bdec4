"""Saving and loading models: a folder with `config.json` and the weights in a safetensors file.

The weights are written first, under a name of their own; then `config.json`, which names them, is put in
place by one atomic rename. Whatever happens in between, the folder holds one whole model: the old or the new.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy

from nn.errors import InputError
from nn.gpt import GPT, GPTConfig
from nn.tokenizer import CharTokenizer
from ownt import device as devices

CONFIG = "config.json"
FORMAT = "ownt-gpt-1"
_BROKEN = (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError)  # what reading a bad file raises


def save(model: GPT, folder: str | Path, tokenizer: CharTokenizer | None = None) -> None:
    """Write a model to a folder, which is made if need be; other files in it stay.

    Raises: InputError if the folder cannot be written.
    """
    folder = Path(folder)
    tokenizer = tokenizer or getattr(model, "tokenizer", None)
    weights = f"model-{secrets.token_hex(4)}.safetensors"
    config = {
        "format": FORMAT,
        "weights": weights,
        "model": dataclasses.asdict(model.config) | {"dtype": model.wte.weight.dtype.name},
        "tokenizer": tokenizer.as_dict() if tokenizer else None,
    }
    arrays = {path: _contiguous(tensor.numpy()) for path, tensor in model.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".saving-{secrets.token_hex(4)}"
        aside.mkdir()
        safetensors.numpy.save_file(arrays, aside / weights, metadata={"format": FORMAT})
        (aside / weights).chmod(0o644)
        (aside / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False), "utf-8")
        _flush(aside / weights, aside / CONFIG)
        (aside / weights).replace(folder / weights)
        _flush(folder)
        (aside / CONFIG).replace(folder / CONFIG)  # from here on it is the new model
        _flush(folder)
        _remove_others(folder, weights)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"save: expected a folder to write to; got {folder}: {_reason(error)}") from error


def check_writable(folder: Path) -> None:
    """Raises: InputError if a model could not be saved there: better before training than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".saving-{secrets.token_hex(4)}"
        aside.mkdir()
        aside.rmdir()
    except OSError as error:
        raise InputError(f"save: expected a folder to write to; got {folder}: {_reason(error)}") from None


def load(folder: str | Path) -> GPT:
    """The model in a folder, in evaluation mode; its tokenizer, if any, is its attribute `tokenizer`.

    Raises: InputError naming the file and what is wrong with it.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        settings = GPTConfig(**config["model"])
        settings.validate()
        tokenizer = CharTokenizer.from_dict(config["tokenizer"]) if config["tokenizer"] else None
    except (TypeError, InputError) as error:
        raise InputError(f"load: {folder / CONFIG}: {error}") from None
    if tokenizer and tokenizer.vocab_size != settings.vocab_size:
        raise InputError(
            f"load: {folder / CONFIG}: expected a tokenizer of vocab_size {settings.vocab_size}; "
            f"got {tokenizer.vocab_size}"
        )
    stored = _numbers_in(folder / config["weights"])
    if settings.parameters > 2 * stored:  # before it takes memory for what cannot be there
        raise InputError(
            f"load: {folder / CONFIG}: expected a model of the {stored:,} numbers in {config['weights']}; "
            f"got one of {settings.parameters:,}"
        )
    model = GPT(settings)
    load_weights(model, folder / config["weights"])
    model.tokenizer = tokenizer
    return model.eval()


def load_weights(model: GPT, path: Path) -> None:
    """Read a safetensors file into a model; if anything is wrong with it the model stays as it is.

    Raises: InputError naming the file and what is wrong with it.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except OSError as error:
        raise InputError(f"load: expected a weights file; got {path}: {error.strerror}") from None
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"load: {path}: expected a whole safetensors file; it is truncated or foreign ({error})"
        ) from None
    wrong = [f"{name} ({array.dtype})" for name, array in arrays.items() if array.dtype != model.wte.weight.dtype]
    if wrong:
        raise InputError(f"load: {path}: expected tensors of {model.wte.weight.dtype}; got {', '.join(wrong)}")
    try:
        model.load_state_dict(arrays)
    except (KeyError, ValueError) as error:
        raise InputError(f"load: {path}: {error.args[0]}") from None


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of config.json. Raises: InputError if it is missing, no JSON, or of another program."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"load: expected a model folder with {CONFIG}; got {path}: {_reason(error)}") from None
    except (ValueError, RecursionError):
        raise InputError(f"load: {path}: expected JSON; it is truncated or foreign") from None
    expected = {"format", "weights", "model", "tokenizer"}
    if not isinstance(config, dict) or config.get("format") != FORMAT or not expected <= set(config):
        raise InputError(f"load: {path}: expected format {FORMAT!r} with {', '.join(sorted(expected))}; it is foreign")
    name = config["weights"]
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
        raise InputError(f"load: {path}: expected weights to be a safetensors file beside it; got {name!r}")
    return config


def _contiguous(array: Any) -> Any:
    return devices.cpu.xp.ascontiguousarray(array)


def _numbers_in(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header alone."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    except _BROKEN as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> InputError:
    if isinstance(error, OSError):
        return InputError(f"load: expected a weights file; got {path}: {_reason(error)}")
    return InputError(f"load: {path}: expected a whole safetensors file; it is truncated or foreign ({error})")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _flush(*paths: Path) -> None:
    """Have files or folders on the disk before going on; Windows flushes no folders."""
    for path in paths:
        if os.name == "nt" and path.is_dir():
            continue
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_others(folder: Path, weights: str) -> None:
    """Delete what earlier saves, finished or not, left behind; files with other names are not ours."""
    for path in folder.iterdir():
        if re.fullmatch(r"model-[0-9a-f]{8}\.safetensors", path.name) and path.name != weights:
            path.unlink()
        elif re.fullmatch(r"\.saving-[0-9a-f]{8}", path.name):
            shutil.rmtree(path)
