"""How many threads kernels use; BLAS is held to one thread for small work, and users get their setting back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

import ag
import nn
import ownt
from ownt.threads import OneThread, cores, scipys_blas


class Library:
    def __init__(self, threads):
        self.threads = threads

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.threads = threads


@pytest.fixture
def held():
    hold = OneThread("nobody")
    hold.libraries = [Library(4), Library(1)]
    return hold


def counts(hold):
    return [library.threads for library in hold.libraries]


def test_one_thread_inside_and_the_setting_back_after(held):
    with held:
        assert counts(held) == [1, 1]
        with held:
            assert counts(held) == [1, 1]
        assert counts(held) == [1, 1]
    assert counts(held) == [4, 1]
    with pytest.raises(ZeroDivisionError), held:
        _ = 1 / 0
    assert counts(held) == [4, 1]


def test_threads_that_overlap_give_the_setting_back_together(held):
    entered, leave = threading.Event(), threading.Event()

    def work():
        with held:
            entered.set()
            leave.wait(5)

    thread = threading.Thread(target=work)
    with held:
        thread.start()
        entered.wait(5)
    assert counts(held) == [1, 1]
    leave.set()
    thread.join()
    assert counts(held) == [4, 1]


def test_products_leave_the_setting_of_the_real_libraries_alone():
    ag.matmul(ownt.ones(2, 2), ownt.ones(2, 2))
    before = [library.get_num_threads() for library in scipys_blas.libraries]
    assert before
    w = ag.param(ownt.randn(3, 9, 12))
    ag.sum(ag.causal_attention(w, 2) @ ownt.randn(4, 300)).backward()
    assert [library.get_num_threads() for library in scipys_blas.libraries] == before


@pytest.fixture
def _all_cores():
    yield
    ownt.set_num_threads(cores())


@pytest.mark.usefixtures("_all_cores")
@pytest.mark.parametrize("count", [0, -1, cores() + 1, "many"])
def test_a_number_of_threads_that_cannot_be_is_refused(count):
    before = ownt.get_num_threads()
    with pytest.raises(ValueError, match=rf"set_num_threads: expected .* from 1 to {cores()}.*; got {count}"):
        ownt.set_num_threads(count)
    assert ownt.get_num_threads() == before


ENVIRONMENT = [("1", 1, ""), ("0", cores(), "got 0; all are used"), ("", cores(), "got ; all are used")]


@pytest.mark.parametrize(("given", "used", "said"), ENVIRONMENT)
def test_the_environment_sets_the_number_and_a_bad_one_is_no_reason_not_to_start(given, used, said):
    environment = os.environ | {"OWNT_NUM_THREADS": given}
    code = "import ownt; print(ownt.get_num_threads())"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert int(found.stdout) == used
    assert said in found.stderr
    assert bool(found.stderr) == bool(said)


@pytest.mark.usefixtures("_all_cores")
@pytest.mark.skipif(cores() < 2, reason="needs two cores")
@pytest.mark.parametrize(("width", "batch"), [(16, 32), (64, 16), (96, 7)])
def test_one_thread_and_two_train_alike_bit_for_bit(width, batch):
    """Work is cut in the same places, however many share it out."""
    found = []
    for count in (1, 2):
        ownt.set_num_threads(count)
        ownt.manual_seed(0)
        model = nn.GPT(nn.GPTConfig(vocab_size=65, block_size=64, n_layer=2, n_head=4, n_embd=width, dropout=0.1))
        optimizer = nn.SGD(model.parameters(), lr=0.1)
        tokens = ownt.randint(0, 65, batch, 64)
        for _ in range(3):
            model.loss(tokens, tokens).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert numba.get_num_threads() == count  # else this compares a run with itself
        found.append(np.concatenate([node.numpy().ravel() for node in model.parameters()]))
    np.testing.assert_array_equal(*found)


def test_without_openmp_kernels_run_on_one_thread(monkeypatch, capsys):
    if cores() < 2:
        pytest.skip("one core")
    ownt.set_num_threads(2)
    monkeypatch.setattr("ownt.threads.has_pool", lambda: False)
    try:
        ownt.set_num_threads(2)
        assert "install it" in capsys.readouterr().err
        assert ownt.get_num_threads() == 1
    finally:
        monkeypatch.undo()
        ownt.set_num_threads(cores())
