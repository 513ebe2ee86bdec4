"""Modules small enough to look at, and what tests of modules compare."""

from __future__ import annotations

import gc

import numpy as np

import ag
import nn
import ownt

CONFIG = nn.GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=8)


class Pair(nn.Module):
    def __init__(self):
        self.second = nn.Linear(2, 3)
        self.scale = ag.param(ownt.ones(3))
        self.steps = ownt.zeros(2)
        self.first = nn.Linear(3, 1, bias=False)


class Twice(nn.Module):
    """One weight under two names."""

    def __init__(self):
        self.table = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False, weight=self.table.weight)


def booked(kind):
    """Bytes by path, those that live now."""
    gc.collect()
    return dict(ownt.memory.report().live[kind])


def more(after, before):
    return {path: size - before.get(path, 0) for path, size in after.items() if size != before.get(path, 0)}


def values_of(module):
    return {path: tensor.numpy().copy() for path, tensor in module.state_dict().items()}


def assert_same(module, values):
    assert list(module.state_dict()) == list(values)
    for path, tensor in module.state_dict().items():
        assert np.array_equal(tensor.numpy(), values[path]), path
