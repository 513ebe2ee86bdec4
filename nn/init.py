"""Where the first values of weights come from."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import ownt
from ownt import Tensor

Draw = Callable[[tuple[int, ...], float, Any], Tensor]  # (shape, standard deviation, dtype) -> values


def normal(shape: tuple[int, ...], std: float, dtype: Any = None) -> Tensor:
    """Normal numbers around 0, from ownt's generator."""
    values = ownt.randn(shape, dtype=dtype)
    values *= std
    return values


def python_normal(stream: random.Random) -> Draw:
    """Normal numbers drawn one by one, row by row, from a stream of Python's: as a program in plain Python would."""

    def draw(shape: tuple[int, ...], std: float, dtype: Any = None) -> Tensor:
        values = [stream.gauss(0, std) for _ in range(math.prod(shape))]
        return ownt.asarray(values, dtype=dtype).reshape(shape)

    return draw


def linear_uniform(shape: tuple[int, ...], inputs: int, dtype: Any = None) -> Tensor:
    """Uniform numbers within 1 / sqrt(inputs) of 0: PyTorch's default for linear layers."""
    bound = 1 / math.sqrt(inputs) if inputs else 0.0
    values = ownt.rand(shape, dtype=dtype)
    values *= 2 * bound
    values -= bound
    return values
