"""What is said where a GPU cannot be used: one line, with the remedy."""

from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import nn
import ownt
from nn import cli
from ownt import cuda_check
from ownt import device as devices


class DriverError(RuntimeError):
    """As CuPy's CUDARuntimeError."""


def cupy_that_says(driver=13000, built=13020, count=1, capability="90"):
    """CuPy as far as it is asked before there is a device."""

    def device_count():
        if isinstance(count, Exception):
            raise count
        return count

    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built,
        getDeviceCount=device_count,
        CUDARuntimeError=DriverError,
    )
    found = SimpleNamespace(compute_capability=capability)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=lambda index: found))


@pytest.mark.parametrize(
    ("answers", "index", "message"),
    [
        ({"driver": 0}, 0, "expected NVIDIA's driver; found none. Install it"),
        ({"driver": 12040}, 0, r"expected CuPy for CUDA 12, .*found CuPy for CUDA 13. pip uninstall cupy-cuda13x"),
        ({"count": 0}, 0, "'cuda:0': expected 1 GPUs or more; found none. Is CUDA_VISIBLE_DEVICES empty"),
        ({"count": DriverError("cudaErrorNoDevice: no CUDA-capable device")}, 0, "found none. Is CUDA_VISIBLE_DEVICES"),
        ({"count": DriverError("cudaErrorSystemNotReady")}, 0, "cannot be used: cudaErrorSystemNotReady.*nvidia-smi"),
        ({"count": 2}, 2, "'cuda:2': expected 3 GPUs or more; found 2"),
        ({"capability": "75"}, 0, r"compute capability 8.0 or more .*; got 7.5. Use another, or the device 'cpu'"),
    ],
)
def test_what_is_in_the_way(monkeypatch, answers, index, message):
    monkeypatch.setattr(cuda_check, "_import", lambda: cupy_that_says(**answers))
    with pytest.raises(ownt.DeviceError, match=message) as caught:
        devices.get(f"cuda:{index}" if index else "cuda")
    assert "\n" not in str(caught.value)
    assert "cuda" not in devices._DEVICES


@pytest.mark.parametrize(("driver", "built", "capability"), [(13000, 12090, "80"), (12080, 12090, "120")])
def test_a_newer_driver_and_the_oldest_gpu_will_do(monkeypatch, driver, built, capability):
    made = []
    monkeypatch.setattr(cuda_check, "_import", lambda: cupy_that_says(driver, built, 1, capability))
    monkeypatch.setattr(cuda_check.cuda, "Cuda", lambda *given: made.append(given))
    cuda_check.find(0)
    assert made[0][0] == 0 and made[0][2] == int(capability)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'cupy'", name="cupy"), r"expected CuPy; .* pip install 'ownt\[cuda13\]'"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "CuPy lacks the module 'x'. Install it again"),
        (
            ImportError("\n====\nFailed to import\n\nlibcudart.so.13: missing\n====\n"),
            "loaded: libcudart.so.13: missing.",
        ),
    ],
)
def test_cupy_that_is_not_there_or_broken(monkeypatch, error, message):
    load = builtins.__import__

    def importing(name, *rest):
        if name == "cupy":
            raise error
        return load(name, *rest)

    def import_module(name):
        return importing(name)

    monkeypatch.setattr(cuda_check.importlib, "import_module", import_module)
    with pytest.raises(ownt.DeviceError, match=message) as caught:
        cuda_check.find(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "cudax", "gpu"])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match=r"unknown device .*: expected one of cpu, meta, meta:cuda, cuda or cuda:1"):
        devices.get(name)


def test_the_command_line_says_it_in_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cuda_check, "_import", lambda: cupy_that_says(driver=0))
    nn.GPT(nn.GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=16)).save(tmp_path)
    for command in (["train", "--device", "cuda"], ["sample", "--model", str(tmp_path), "--device", "cuda"]):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"ownt {command[0]}: device 'cuda': expected NVIDIA's driver") and said.count("\n") == 1


def test_a_lack_of_memory_is_a_line_on_the_command_line(monkeypatch, capsys):
    def lacking(config):
        raise ownt.OutOfMemoryError("device 'cuda' is out of memory: go on with a smaller batch")

    monkeypatch.setattr(cli.train, "Trainer", lacking)
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == "ownt train: device 'cuda' is out of memory: go on with a smaller batch\n"


def test_import_costs_no_cupy():
    code = "import sys, nn, ownt; print([m for m in sys.modules if m.split('.')[0] == 'cupy' or m == 'ownt.cuda'])"
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    assert found.stdout.strip() == "[]"
