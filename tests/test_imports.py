"""The direction of imports, nn -> ag -> ownt, and where NumPy may be named."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"ownt": {"ownt"}, "ag": {"ag", "ownt"}, "nn": {"nn", "ag", "ownt"}}
NUMPY_FILES = {"ownt/device.py", "ownt/dtype.py"}  # and the CPU's overrides


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def wrong_arrows(package: str, names: set[str]) -> set[str]:
    return (names & set(ALLOWED)) - ALLOWED[package]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package):
    for path in sources(package):
        assert not wrong_arrows(package, imported(path)), path


def test_a_wrong_arrow_is_seen(tmp_path):
    path = tmp_path / "tensor.py"
    path.write_text("def f():\n    from ag.node import Node\n")
    assert wrong_arrows("ownt", imported(path)) == {"ag"}


@pytest.mark.parametrize("package", ALLOWED)
def test_numpy_is_named_only_by_the_device_switch_and_cpu_overrides(package):
    for path in sources(package):
        name = path.relative_to(ROOT).as_posix()
        if name not in NUMPY_FILES and not name.endswith("_cpu.py"):
            assert "numpy" not in imported(path), name


def test_files_stay_short():
    for package in ALLOWED:
        for path in sources(package):
            assert len(path.read_text("utf-8").splitlines()) <= 300, path


def test_import_of_ag_is_light():
    code = "import sys, ag; print([m for m in ('scipy', 'rich', 'tyro', 'safetensors', 'cupy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
