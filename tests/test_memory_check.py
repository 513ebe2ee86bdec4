"""`ownt memory-check`: its table, its exit status, and that growth is seen."""

from __future__ import annotations

import mmap

import pytest
from test_cli import assert_input_error, in_process

import ownt
from nn import train
from ownt.thread import state

CHECK = "memory-check", "--preset", "microgpt-500", "--steps", "105,100,110"


def test_memory_check_prints_a_table_and_exits_with_0(capsys):
    status, out, _ = in_process(capsys, *CHECK)
    lines = out.splitlines()
    assert status == 0, out
    assert lines[0].split() == ["steps", "loss", "steps/s", "live", "bytes", "arena", "capacity", "resident"]
    assert [line.split()[0] for line in lines[1:4]] == ["100", "105", "110"]
    assert len({line.split()[3] for line in lines[1:4]}) == 1


def test_memory_check_takes_a_text_and_validates(capsys, monkeypatch, tmp_path):
    (tmp_path / "text").write_text("to be, or not to be\n" * 50)
    validated, validate = [], train.Trainer.validate
    monkeypatch.setattr(train.Trainer, "validate", lambda self: validated.append(validate(self)))
    arguments = ["memory-check", "--preset", "tiny", "--data", tmp_path / "text"]
    status, out, _ = in_process(capsys, *arguments, "--steps", "1,3")
    assert status == 0, out
    assert len(validated) == 2
    assert "ask for more steps" in out
    assert_input_error(capsys, arguments[:3], "expected --data FILE")


def pages():
    """Memory from the system itself: what a library frees may stay resident, and be given out again."""
    made = mmap.mmap(-1, 4_000_000)
    made.write(bytes(len(made)))
    return made


@pytest.mark.parametrize("where", ["resident", "arena"])
def test_memory_check_exits_with_1_where_memory_grows(capsys, monkeypatch, where):
    held, step, arena = [], train.Trainer.step, ownt.Arena()

    def leaking(self, number, **options):
        if number >= 100:
            held.append(pages() if where == "resident" else arena.empty((500_000,), "float64"))
        return step(self, number, **options)

    monkeypatch.setitem(state.scratch, ownt.device.cpu, arena)
    monkeypatch.setattr(train.Trainer, "step", leaking)
    status, out, _ = in_process(capsys, *CHECK)
    assert status == 1, out


@pytest.mark.parametrize(("steps", "words"), [("1,x", "'1,x'"), ("", "''"), ("0,5", "steps of 1 or more; got 0")])
def test_memory_check_wants_numbers_of_steps(capsys, steps, words):
    assert_input_error(capsys, ["memory-check", "--steps", steps], words)
