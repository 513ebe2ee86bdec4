"""The bench of what an op costs beside its kernels."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import eager

import ownt


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(eager, "ROUNDS", 12)  # enough for plans to be followed
    monkeypatch.setattr(eager, "DEPTH", 3)


@pytest.mark.parametrize("op", eager.OPS)
def test_an_op_takes_longer_than_its_kernels(few, op):
    side = eager.Ours()
    figures = eager.measured(side, op)
    assert set(figures) == {"forward", "backward"}
    assert 0 < figures["forward"] < 10_000


def test_kernels_are_those_of_the_run(few):
    """The control: of a run that launches nothing they take next to nothing."""
    side = eager.Ours()
    (x,) = side.parameters([(300, 300)])
    assert side.kernels(lambda: None) < side.kernels(lambda: [x * x for _ in range(20)])
    assert ownt.memory.scratch().used == 0
