"""How an op sees a leaf: as it is, or through views, and how it lies in memory."""

from __future__ import annotations

import math

import numpy as np

import ag
import ownt
from ownt.layout import FROM_LAST, TO_LAST


def with_last(shape):
    """The shape of images (N, C, H, W) with their channels last."""
    return tuple(shape[axis] for axis in TO_LAST)


# The leaf's shape for an argument of some shape, and the view that makes the argument of it.
ROUTES = {
    "leaf": (lambda shape: shape, lambda x, shape: x),
    "leaf in columns": (lambda shape: shape, lambda x, shape: x),
    "transpose": (lambda shape: shape[::-1], lambda x, shape: x.T),
    "every second": (lambda s: tuple(2 * n + 1 for n in s), lambda x, s: x[(*[slice(1, None, 2)] * len(s), ...)]),
    "backwards": (lambda shape: shape, lambda x, s: x[(*[slice(None, None, -1)] * len(s), ...)]),
    "reshape": (lambda shape: (math.prod(shape),), lambda x, shape: x.reshape(shape)),
    "two views": (lambda shape: (2, *shape[::-1]), lambda x, shape: x[1, ...].T),
}
OF_IMAGES = {  # more of them, for arguments of four axes
    "leaf, channels last": (lambda shape: shape, lambda x, shape: x),
    "channels last": (with_last, lambda x, shape: x.transpose(FROM_LAST)),
    "some of the channels": (
        lambda s: (*with_last(s)[:3], s[1] + 3),
        lambda x, shape: x[..., 1:-2].transpose(FROM_LAST),
    ),
}


def routes_of(args):
    """Those for arguments, each of which has four axes or whatever the op needs."""
    return [*ROUTES, *(OF_IMAGES if any(getattr(arg, "ndim", 0) == 4 for arg in args) else [])]


def route_of(name, shape):
    """Of a leaf that is no image the route is the plain one."""
    return (ROUTES | OF_IMAGES)[name if len(shape) == 4 or name in ROUTES else "leaf"]


def placed(array, name):
    """An array of the leaf's shape with `array` where the route's view shows it, and zeros around."""
    outer, view = route_of(name, array.shape)
    whole = np.zeros(outer(array.shape), array.dtype)
    view(whole, array.shape)[...] = array
    return whole


def seen(array, name, trained):
    """A leaf, and the route's view of it, which is the op's argument."""
    whole = placed(array, name)
    data = ownt.Tensor(whole)
    if name == "leaf in columns":
        data = ownt.empty(whole.shape[::-1], dtype=whole.dtype).T.copy_(whole)
    elif name == "leaf, channels last" and whole.ndim == 4:
        data = ownt.empty(with_last(whole.shape), dtype=whole.dtype).transpose(FROM_LAST).copy_(whole)
    leaf = ag.make_tensor(data, requires_grad=trained)
    return leaf, route_of(name, array.shape)[1](leaf, array.shape)
