"""How numbers are compared with torch's, and how many were."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import opinfo
import pytest

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
compared: Counter[str] = Counter()  # arrays, by op


def assert_same(actual: Any, expected: Any, what: str) -> None:
    """The same shape and dtype, NaN and Inf in the same places, and the same numbers up to rounding.

    Rounding is relative to each number or, as sums cancel, to 1, about the size of what they add.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), what
    tolerance = TOLERANCE[str(expected.dtype)]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=what)
    compared[what.split()[0]] += 1


@pytest.fixture
def same():
    return assert_same


def pytest_terminal_summary(terminalreporter):
    for line in opinfo.summary():
        terminalreporter.write_line(line)
    if compared:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(compared.items()))
        terminalreporter.write_line(f"{compared.total()} arrays compared with torch's: {counts}")
