"""What the README says runs, runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_example_runs_as_it_stands():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 12
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert "parameter" in found.stdout


def test_files_and_commands_that_it_names_exist():
    text = (ROOT / "README.md").read_text("utf-8") + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"(?:`|^)make ([a-z-]+)\b", text, re.MULTILINE))
    assert {"train", "test", "check", "parity"} <= targets
    for target in targets:
        assert f"\n{target}:" in makefile, target
    for path in set(re.findall(r"(?:python|\]\() ?([\w/.-]+\.(?:py|md))", text)):
        assert (ROOT / path).exists(), path
