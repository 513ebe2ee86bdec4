"""Arrays that lie otherwise than samples do: transposed, with gaps, backwards; keys of arrays; reductions in parts."""

from __future__ import annotations

import numpy as np
from cases import Place, case

import ag
import ownt

_UNARY = ("exp", "log", "tanh", "gelu", "silu", "sqrt", "sin")


@case
def functions_of_what_lies_otherwise(place: Place) -> list:
    """Of a transposed tensor, of every second column and of images with their channels last."""
    found = []
    values = np.random.default_rng(7).uniform(0.5, 2, (6, 24, 3, 10))
    for view in (lambda x: x.transpose(), lambda x: x[:, :, :, ::2], lambda x: x.transpose(0, 3, 1, 2)):
        for name in _UNARY:
            x = ag.param(place.tensor(values))
            y = getattr(ag, name)(view(x))
            y.backward(place.tensor(np.random.default_rng(4).standard_normal(y.shape)).astype(y.dtype))
            found += [y.numpy(), x.grad.numpy()]
    return found


@case
def extremes_in_parts(place: Place) -> list:
    """Of so many numbers that a result is made by several blocks; equals, and NaN."""
    values = np.random.default_rng(8).integers(-50, 50, (2, 9000)).astype(float)
    found = []
    for x in (values, np.where(values == 7, np.nan, values), -np.abs(values) - np.inf):
        given = ag.param(place.tensor(x))
        for axis in (None, 1):
            found += [ag.argmax(given, axis).numpy(), ag.argmin(given, axis).numpy()]
            for function in (ag.max, ag.min, ag.prod):
                y = function(given, axis) if function is not ag.prod else function(given * 0 + 1.0, axis)
                y.backward(place.tensor(np.ones(y.shape)))
                found.append(y.numpy())
        found.append(given.grad.numpy())
    return found


@case
def first_of_equals_and_nan(place: Place) -> list:
    values = np.random.default_rng(11).integers(-4, 5, (6, 1500)).astype(float)
    values[0] = -np.inf
    values[1, ::7] = np.nan
    values[2] = np.nan
    x = place.tensor(values)
    return [ag.argtopk(x, k, 1, largest).numpy() for k in (1, 5, 40) for largest in (True, False)]


@case
def moments_and_losses_in_parts(place: Place) -> list:
    draw = np.random.default_rng(9)
    x, t = (ag.param(place.tensor(draw.uniform(0.1, 0.9, (3, 9000)))) for _ in range(2))
    found = [f(x) for f in (ag.var, ag.std)] + [ag.var(x, 1), ag.std(x, 0)]
    found += [ag.mse_loss(x, t), ag.kl_div(x, t, "sum"), ag.binary_cross_entropy_with_logits(x, t)]
    for y in found:
        y.backward(place.tensor(np.ones(y.shape)))
    return [y.numpy() for y in found] + [x.grad.numpy(), t.grad.numpy()]


@case
def keys_of_arrays(place: Place) -> list:
    """One, two and three arrays, of either size of integers, from the end too; and a list, which has no kernel."""
    draw = np.random.default_rng(10)
    found = []
    for shape, sizes, dtypes in (
        ((40, 24), ((7, 5),), ("int64",)),
        ((9, 5), ((300,),), ("int32",)),
        ((4, 6, 16), ((8, 1), (5,)), ("int64", "int32")),
        ((3, 4, 5), ((11,), (11,), (11,)), ("int64", "int64", "int64")),
    ):
        x = ag.param(place.tensor(draw.standard_normal(shape)))
        key = tuple(
            ownt.asarray(draw.integers(-size, size, of).astype(dtype)).to(place.device.name)
            for size, of, dtype in zip(shape, sizes, dtypes)
        )
        for y in (x[key], x[(*key, ...)], x[[0, 2, 2]]):
            y.backward(place.tensor(draw.standard_normal(y.shape)).astype(y.dtype))
            found.append(y.numpy())
        found.append(x.grad.numpy())
    return found
