"""Every CUDA kernel, executed on the CPU as its binders launch it, and compared with its reference."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cases import CASES, compare, launched
from compile_for_cpu import ORDERS, compiled, missing, numbered, sanitized
from sanitized import DTYPES as SANITIZED
from simulated import simulated
from sources import SOURCES

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module", autouse=True)
def _all_compiled(request):
    """On all cores, where most of the tests are run."""
    if len(request.session.items) < len(CASES):
        return
    wanted = [(source, dtype) for source in SOURCES.values() for dtype in source.dtypes]
    wanted += [(source, dtype, True) for source in SOURCES.values() for dtype in source.dtypes if dtype in SANITIZED]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: compiled(*job), wanted))


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_result_is_the_references_in_whatever_order_threads_run(name):
    for dtype in sorted({dtype for _, _, dtype in launched(name)}):
        for order in ORDERS[1:]:
            compare(name, dtype, order)


@pytest.mark.parametrize("file", sorted(SOURCES))
def test_every_kernel_was_executed_in_every_dtype(file):
    source = SOURCES[file]
    wanted = {(file, name, dtype) for name in source.kernels for dtype in source.dtypes}
    assert wanted - set().union(*map(launched, CASES)) == set()


def barriers() -> dict[str, list[tuple[str, int, str]]]:
    """By the file and line of a barrier: each source that it is part of, its number there, and its line."""
    found: dict[str, list[tuple[str, int, str]]] = {}
    for file, source in SOURCES.items():
        for number, line in enumerate(numbered(source.lines)[1]):
            found.setdefault(f"{line.path.name}:{line.number}", []).append((file, number, line.text))
    return found


BARRIERS = barriers()


@pytest.mark.parametrize("where", sorted(BARRIERS))
def test_a_result_is_wrong_without_the_barrier(where):
    """A barrier that makes no difference is not needed, or says why it stays: `// barrier kept: ...`"""
    _, _, text = BARRIERS[where][0]
    if "barrier kept:" in text:
        pytest.skip(text.partition("//")[2].strip())
    assert any(differs_without(file, number) for file, number, _ in BARRIERS[where]), (
        f"{where}: expected a comparison to fail without it: none did, or none came to it"
    )


def differs_without(file: str, number: int) -> bool:
    """Whether a case goes wrong without a barrier of a source."""
    names = [name for name in CASES if any(source == file for source, _, _ in launched(name))]
    simulated.deleted = file, number
    try:
        for name in names:
            for order in ORDERS:
                compare(name, "float32", order)
    except (AssertionError, RuntimeError):
        return True
    finally:
        simulated.deleted = None
    return False


def test_kernels_stay_within_their_arrays():
    """All cases that launch kernels, again under AddressSanitizer."""
    ran = sanitized(str(Path(__file__).with_name("sanitized.py")), *(name for name in sorted(CASES) if launched(name)))
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-6000:]
