"""Kernels of images with their channels last in memory, which the samples of ops do not have, beside those first."""

from __future__ import annotations

import numpy as np
from cases import Place, case

import ag
from ownt import Tensor
from ownt.layout import FROM_LAST, TO_LAST

SHAPES = ((2, 1, 1, 1), (3, 5, 4, 3), (2, 64, 3, 3), (5, 24, 5, 7), (1, 40, 33, 31), (2, 296, 2, 2))  # channels second


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def last(place: Place, values) -> Tensor:
    """Images (N, C, H, W) with the channels last in memory."""
    return place.tensor(values.transpose(TO_LAST)).transpose(FROM_LAST)


def _gradients(y, g, *leaves) -> list:
    y.backward(g)
    return [y.numpy().copy(), *(leaf.grad.numpy().copy() for leaf in leaves)]


@case
def batch_norm_last(place: Place) -> list:
    found = []
    for shape in SHAPES[1:]:
        x, residual = (ag.param(last(place, numbers(*shape, seed=i))) for i in (1, 2))
        gain, shift = (ag.param(place.tensor(numbers(shape[1], seed=i))) for i in (3, 4))
        running = place.tensor(numbers(shape[1])), place.tensor(1 + numbers(shape[1]) ** 2)
        g = last(place, numbers(*shape, seed=5))
        for training in (True, False):
            y = ag.batch_norm(x, gain, shift, residual, running, training, 0.3, relu=training)
            found += _gradients(y, g, x, gain, shift, residual)
        found += [tensor.numpy().copy() for tensor in running]
    return found


@case
def batch_norm_of_far_numbers(place: Place) -> list:
    """Whose mean is large beside their deviation."""
    x = ag.param(last(place, 100 + numbers(3, 16, 9, 11)))
    y = ag.batch_norm(x, eps=1e-3)
    return _gradients(y * 0.05, last(place, numbers(*x.shape)), x)


@case
def batch_norm_residual_alone(place: Place) -> list:
    """Of which no other gradient is wanted."""
    x, gain = last(place, numbers(3, 16, 2, 3)), place.tensor(numbers(16))
    residual = ag.param(last(place, numbers(3, 16, 2, 3, seed=1)))
    return _gradients(ag.batch_norm(x, gain, None, residual, relu=True), last(place, numbers(3, 16, 2, 3)), residual)


WINDOWS = ((3, 2, 1), (2, None, 0), ((3, 4), (1, 2), (1, 0)))  # the size, stride and padding of windows


@case
def conv_last(place: Place) -> list:
    found = []
    for n, c, o, groups, stride in ((2, 3, 8, 1, 1), (1, 16, 6, 2, 2), (3, 4, 66, 1, 3)):
        x = ag.param(last(place, numbers(n, c, 11, 14)))
        w, b = (ag.param(place.tensor(numbers(*shape))) for shape in ((o, c // groups, 3, 3), (o,)))
        for _ in range(2):  # the second time gradients are added
            y = ag.conv2d(x, w, b, stride, 1, 1, groups)
            y.backward(last(place, numbers(*y.shape)))
        found += [y.numpy().copy(), *(leaf.grad.numpy().copy() for leaf in (x, w, b))]
    return found


@case
def pool_last(place: Place) -> list:
    found = []
    for shape in SHAPES[1:-1]:
        for number, window in enumerate(WINDOWS if min(shape[2:]) > 3 else WINDOWS[:1]):
            for pool, more in ((ag.max_pool2d, ()), (ag.avg_pool2d, (number == 1,))):
                x = ag.param(last(place, numbers(*shape, seed=number)))
                for _ in range(2):  # the second time gradients are added
                    y = pool(x, *window, *more)
                    y.backward(last(place, numbers(*y.shape)))
                found += [y.numpy().copy(), x.grad.numpy().copy()]
    return found


@case
def pool_of_equals(place: Place) -> list:
    """Of which the first counts, or NaN."""
    values = np.random.default_rng(1).choice([0.0, 1, 2, np.inf, -np.inf, np.nan], (2, 8, 6, 7))
    found = []
    for window in ((3, 2, 1), ((17, 16), 1, 8)):  # more places than a byte has
        x = ag.param(last(place, np.tile(values, 3)))
        y = ag.max_pool2d(x, *window)
        found += _gradients(y, last(place, numbers(*y.shape)), x)
    return found
