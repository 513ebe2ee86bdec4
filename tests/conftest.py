"""What all tests share: a seed before each, and the project's data for comparisons, where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuda_host import gpu, held, not_run  # noqa: F401  fixtures

import ownt
from ag import plans
from ownt.thread import state

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _seeded():
    ownt.manual_seed(0)


@pytest.fixture
def shared_data() -> Path:
    """The folder with names.txt, shakespeare.txt and microgpt_500_expected.txt."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, which is not part of the repository")
    return SHARED_DATA


@pytest.fixture
def at_once(monkeypatch):
    """Ops are watched when they are first run, and their plans are followed from the second time on."""
    monkeypatch.setattr(state, "plans", {})
    monkeypatch.setattr(plans, "OFTEN", 0)
