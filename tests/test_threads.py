"""BLAS is held to one thread for small work, and users get their setting back."""

from __future__ import annotations

import threading

import pytest

import ag
import ownt
from ownt.threads import OneThread, scipys_blas


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
