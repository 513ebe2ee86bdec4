"""Code compiled by one process and loaded by another."""

from __future__ import annotations

import os
import subprocess
import sys

ADD = "assert ag.add(a, b).numpy().tolist() == [11, 22, 33]"
SUB = "assert ag.sub(a, b).numpy().tolist() == [9, 18, 27]"
BEGIN = "import ag, ownt; a, b = ownt.asarray([10.0, 20, 30]), ownt.asarray([1.0, 2, 3])"


def process(folder, *lines):
    """How many functions a process compiled that ran these lines; the others it found in the folder.

    Processes of one hash seed: Numba then numbers functions alike, and their names alone tell them apart.
    """
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONHASHSEED": "0"}
    code = "; ".join([BEGIN, *lines])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr.count("ownt: compiled")


def test_kernels_that_two_processes_compiled_do_not_run_for_one_another(tmp_path):
    """The functions inside them had one name: of those loaded from the cache, the first served all."""
    assert process(tmp_path, ADD) == 1
    assert process(tmp_path, SUB) == 1
    assert process(tmp_path, ADD, SUB) == 0
