"""Indices out of range on a device that nobody waits for: the same error as on the CPU, when a value is read."""

from __future__ import annotations

import re

import numpy as np
import pytest
from compile_for_cpu import missing
from simulated import simulated

import ag
import ownt
from ag.ops import ranges
from ownt import faults, memory
from ownt.capture import Recording

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]


def there(values, dtype="int64"):
    return ownt.asarray(np.asarray(values, dtype)).to("simulated")


def error_of(call, *tensors) -> str:
    """What is raised on the CPU, as a pattern."""
    with pytest.raises(IndexError) as raised:
        call(*(tensor.to("cpu") for tensor in tensors))
    return re.escape(str(raised.value))


def embedding(indices, table):
    return ag.embedding(indices, table)


def check(targets):
    ranges.check_range("cross_entropy", "targets", targets, 4, ignored=-7)
    return targets


def gather(x, index):
    return ag.gather(x, 1, index)


CALLS = {
    "embedding": (embedding, there([[0, 1], [9, -2]]), there(np.ones((5, 8)), "float32")),
    "embedding of int32": (embedding, there([3, -1], "int32"), there(np.ones((2, 3)), "float32")),
    "check of int16": (check, there([-7, 3, -1], "int16")),
    "embedding of many": (embedding, there(np.arange(600_000) // 400_000), there(np.ones((1, 1)), "float32")),
    "check with ignored ones": (check, there([-7, 3, 4])),
    "gather": (gather, there(np.ones((2, 3)), "float32"), there([[0, 1, 2], [0, 3, 4]])),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_error_is_that_of_the_cpu_and_comes_when_a_value_is_read(name):
    call, *tensors = CALLS[name]
    expected = error_of(call, *tensors)
    y = call(*tensors)
    with pytest.raises(IndexError, match=f"^{expected}$"):
        y.numpy()
    y.numpy()  # it is said once
    call(*tensors)
    with pytest.raises(IndexError, match=expected):
        simulated.synchronize()


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [([0, -5, 5], [0, 0, 0], "from -5 to 4; got 5 at (2,)"), ([0, 1], [2, -4], "from -3 to 2; got -4 at (1,)")],
)
def test_keys_of_arrays_count_from_the_end_too(rows, columns, said):
    x = ag.param(there(np.arange(15).reshape(5, 3), "float32"))
    y = x[there(rows), there(columns)]
    with pytest.raises(IndexError, match=re.escape(f"index: expected indices {said}")):
        y.numpy()
    assert y.numpy()[-1] == 0


def test_what_is_in_range_or_ignored_is_no_fault():
    ag.embedding(there([0, 4, 4]), there(np.ones((5, 2)), "float32")).numpy()
    ag.embedding(there(np.empty((0, 3))), there(np.ones((5, 2)), "float32")).numpy()
    check(there([-7, 3])).numpy()


def test_rows_of_indices_out_of_range_are_0_and_get_no_gradient():
    table = ag.param(there(np.ones((2, 3)), "float32"))
    y = ag.embedding(there([1, 2, -1, 1 << 40]), table)
    y.backward(there(np.ones((4, 3)), "float32"))
    with pytest.raises(IndexError, match=r"got 2 at \(1,\)"):
        y.numpy()
    assert y.numpy().sum(1).tolist() == [3, 0, 0, 0] and table.grad.numpy().sum(1).tolist() == [0, 3]


def test_a_large_index_is_said_to_be_as_large_as_can_be_said():
    y = ag.embedding(there([1 << 40]), there(np.ones((2, 3)), "float32"))
    with pytest.raises(IndexError, match=f"got {2**31 - 1} at"):
        y.numpy()


def test_a_replay_checks_too():
    indices, table = there([0, 1]), there(np.ones((2, 3)), "float32")
    recording = Recording(memory.scratch("simulated"))
    with recording.during():
        ag.embedding(indices, table)
    indices[1] = 5
    recording.replay()
    with pytest.raises(IndexError, match=r"embedding: expected indices from 0 to 1; got 5 at \(1,\)"):
        simulated.synchronize()
    assert not recording.spoiled


def test_checks_for_which_there_is_no_room_wait(monkeypatch):
    monkeypatch.setattr(faults, "_MOST", 0)
    monkeypatch.setattr(simulated, "faults", faults.Faults(simulated))
    with pytest.raises(IndexError, match=r"got 5 at \(0,\)"):
        ag.embedding(there([5]), there(np.ones((2, 3)), "float32"))
