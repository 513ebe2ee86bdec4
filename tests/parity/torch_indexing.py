"""torch's indexing, and the keys at which it is compared with ours."""

from __future__ import annotations

import numpy as np

from ag.sample import Sample, normal

try:
    import torch
except ImportError:  # see torch_functions
    torch = None


def getitem(x, key):
    """torch has no negative steps: such an axis is sliced forwards and flipped."""
    named = sum(part is not None and part is not ... for part in key)
    parts, axis = [], 0
    for part in key:
        if isinstance(part, slice) and (part.step or 1) < 0:
            shown = range(x.shape[axis])[part]
            forwards = slice(shown[-1], shown[0] + 1, -part.step) if shown else slice(0, 0)
            x = x[(slice(None),) * axis + (forwards,)].flip(axis)
            part = slice(None)
        parts.append(part)
        axis += x.ndim - named if part is ... else part is not None
    return x[tuple(parts)]


def index(x, key):
    return x[tuple(torch.as_tensor(part) if isinstance(part, (list, np.ndarray)) else part for part in key)]


FUNCTIONS = {"getitem": getitem, "index": index}
KEYS = [
    np.s_[...,], np.s_[None,], np.s_[0,], np.s_[-1,], np.s_[0, 1, 2], np.s_[..., 2], np.s_[:, -2], np.s_[:,], (),
    np.s_[::3, ..., None], np.s_[::-1,], np.s_[3:0:-2,], np.s_[..., ::-3], np.s_[0, ..., 4::-1, None], np.s_[1:100,],
    np.s_[-100:-2,], np.s_[3:1,], np.s_[None, 1:-1, None, 2], np.s_[0:0:-1, ...], np.s_[1:, :-1, ::2], np.s_[..., None],
    np.s_[np.int64(1), 2:3], np.s_[::-1, ::-2, ::-3], np.s_[-1, -1], np.s_[:, :, 5], np.s_[::7, ::7], np.s_[-2:, 0],
]  # fmt: skip
INDICES = [
    ([0, 0, 0],), ([-1, 1],), ([[0, 1], [3, 3]],), ([1, 1], [2, 2]), ([[0], [2]], [1, 4]), np.s_[::2, [1, -1]], ([3],),
    (np.arange(20).reshape(4, 5) % 3 == 0,), ([True, False, True, True],), np.s_[:, [True, False, True, True, False]],
    (np.zeros((4, 5), bool),), (np.ones((4, 5), bool),), np.s_[None, [1, 0], [2, 2]], np.s_[[1, 0, 1], ..., 2],
    np.s_[1:3, [0, 0, 4]], (np.zeros(0, int),), (np.arange(400) % 4,), (np.arange(40) % 4, np.arange(40) % 5),
    (np.array(2),), ([[0, 1, 2]], [[2], [2]]), np.s_[[2, 2], None], np.s_[[0, 1], 1:4:2], np.s_[-1, [0, 0]],
    np.s_[[0, 1], [True] * 2 + [False] * 3], (np.zeros((2, 0), int),), np.s_[..., [4, 4, 4]],
    np.s_[[True, False, False, True], 1],
]  # fmt: skip
CASES = {
    "getitem": [Sample(normal(4, 5, 6), key) for key in KEYS],
    "index": [Sample(normal(4, 5), key) for key in INDICES],
}
