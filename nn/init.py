"""Where the first values of weights come from: functions that make them, and, ending in _, that write them in place.

Those in place take a Node or a Tensor, write as `Tensor.copy_` does (a gradient stays as it is) and return it. All
but `python_normal` draw from ownt's generator. Fans are counted of a weight of two axes or more: fan_in is its size
for each element of the first axis, fan_out its size for each element of the second.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, TypeVar

import ownt
from ag import Node
from ag.node import as_tensor
from ownt import Tensor
from ownt import device as devices

Draw = Callable[[tuple[int, ...], float, Any], Tensor]  # (shape, standard deviation, dtype) -> values
W = TypeVar("W", Node, Tensor)

_GAINS = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
_GAINLESS = ("linear", "sigmoid", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)))


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


def uniform_(tensor: W, a: float = 0.0, b: float = 1.0) -> W:
    """Uniform numbers from a to b."""
    values = ownt.rand(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    values *= b - a
    values += a
    return _write(tensor, values)


def normal_(tensor: W, mean: float = 0.0, std: float = 1.0) -> W:
    """Normal numbers around `mean`."""
    values = ownt.randn(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    values *= std
    values += mean
    return _write(tensor, values)


def trunc_normal_(tensor: W, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> W:
    """Normal numbers around `mean` that lie from a to b, distributed as if all others had been drawn again.

    Raises: ValueError where no such numbers would ever be drawn.
    """
    if not (a < b and std > 0):
        raise ValueError(f"trunc_normal_: expected a below b and std above 0; got {a}, {b} and {std}")
    side = -1 if a > mean else 1  # the upper tail is drawn as the lower, since probabilities near 1 have fewer digits
    ends = sorted(side * (end - mean) / std for end in (a, b))
    first, last = (math.erfc(-end / math.sqrt(2)) / 2 for end in ends)
    if first == last:
        raise ValueError(f"trunc_normal_: expected a or b near mean = {mean} for std = {std}; got {a} and {b}")
    drawn = uniform_(ownt.empty(tensor.shape, dtype="float64", device=tensor.device), first, last)
    with devices.of(drawn.array).quiet():
        values = devices.special(drawn.array).ndtri(drawn.array) * (side * std) + mean
        return _write(tensor, values.clip(a, b))


def constant_(tensor: W, val: float) -> W:
    """`val` everywhere."""
    as_tensor(tensor).fill_(val)
    return tensor


def ones_(tensor: W) -> W:
    """1 everywhere."""
    return constant_(tensor, 1)


def zeros_(tensor: W) -> W:
    """0 everywhere."""
    return constant_(tensor, 0)


def eye_(tensor: W) -> W:
    """The identity, as far as it goes. Shapes: (N, M)"""
    _check_axes("eye_", tensor, 2, 2)
    array = as_tensor(tensor).array
    with devices.of(array).quiet():
        return _write(tensor, devices.module(array).eye(*tensor.shape))


def dirac_(tensor: W, groups: int = 1) -> W:
    """Weights of a convolution that hands on its channels, as far as there are, in each group.

    Shapes: (out, in, ...), one to three axes of space, out divisible by groups
    """
    _check_axes("dirac_", tensor, 3, 5)
    outputs, inputs, *space = tensor.shape
    if groups < 1 or outputs % groups:
        raise ValueError(f"dirac_: expected groups that divide the first axis; got {groups} for shape {tensor.shape}")
    zeros_(tensor)
    in_group = outputs // groups
    for output in range(outputs):
        if output % in_group < inputs:
            place = (output, output % in_group, *(size // 2 for size in space))
            as_tensor(tensor)[place] = 1
    return tensor


def xavier_uniform_(tensor: W, gain: float = 1.0) -> W:
    """Uniform numbers around 0 of variance 2 gain² / (fan_in + fan_out).

    Source: Glorot and Bengio, AISTATS 2010
    """
    bound = math.sqrt(3) * _xavier_std("xavier_uniform_", tensor, gain)
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: W, gain: float = 1.0) -> W:
    """Normal numbers around 0 of variance 2 gain² / (fan_in + fan_out). Source: as of xavier_uniform_"""
    return normal_(tensor, 0.0, _xavier_std("xavier_normal_", tensor, gain))


def kaiming_uniform_(tensor: W, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> W:
    """Uniform numbers around 0 of variance gain² / fan, the gain that of a nonlinearity with parameter a.

    mode: "fan_in" keeps variances going forward, "fan_out" going back
    Source: He et al., arXiv 1502.01852
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: W, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> W:
    """Normal numbers around 0 of variance gain² / fan; as kaiming_uniform_."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def orthogonal_(tensor: W, gain: float = 1.0) -> W:
    """gain times rows, or columns where there are fewer, of length 1 and orthogonal to each other.

    Shapes: (N, ...), all axes but the first as one
    Source: Saxe, McClelland and Ganguli, arXiv 1312.6120
    """
    _check_axes("orthogonal_", tensor, 2)
    if not tensor.size:
        return tensor
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    dtype = "float64" if tensor.dtype == ownt.float64 else "float32"
    drawn = ownt.randn(max(rows, columns), min(rows, columns), dtype=dtype, device=tensor.device).array
    with devices.of(drawn).quiet():
        xp = devices.module(drawn)
        q, r = xp.linalg.qr(drawn)
        q = q * xp.where(r.diagonal() < 0, -gain, gain).astype(dtype)  # the one q whose r has a positive diagonal
        return _write(tensor, (q if rows >= columns else q.T).reshape(tensor.shape))


def sparse_(tensor: W, sparsity: float, std: float = 0.01) -> W:
    """Normal numbers around 0, of which a part `sparsity` of each column, rounded up, is 0.

    Shapes: (N, M)
    Source: Martens, ICML 2010
    """
    _check_axes("sparse_", tensor, 2, 2)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: expected a sparsity from 0 to 1; got {sparsity}")
    drawn = ownt.rand(tensor.shape, dtype="float64", device=tensor.device).array
    normal_(tensor, 0.0, std)
    with devices.of(drawn).quiet():
        as_tensor(tensor)[drawn.argsort(0).argsort(0) < math.ceil(sparsity * tensor.shape[0])] = 0
    return tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What the standard deviation of weights is multiplied by for the sake of the nonlinearity after them.

    param: the negative slope of leaky_relu, 0.01 by default
    Raises: ValueError for an unknown nonlinearity, or a slope that is no number.
    """
    if nonlinearity in _GAINLESS:
        return 1
    if nonlinearity in _GAINS:
        return _GAINS[nonlinearity]
    if nonlinearity != "leaky_relu":
        known = ", ".join((*_GAINLESS, *_GAINS, "leaky_relu"))
        raise ValueError(f"calculate_gain: expected nonlinearity to be one of {known}; got {nonlinearity!r}")
    slope = 0.01 if param is None else param
    if not isinstance(slope, (int, float)) or isinstance(slope, bool):
        raise ValueError(f"calculate_gain: expected a number for the slope of leaky_relu; got {slope!r}")
    return math.sqrt(2 / (1 + slope**2))


def fans(name: str, tensor: Node | Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight, for the function called `name`. Raises: ValueError for fewer than two axes."""
    _check_axes(name, tensor, 2)
    outputs, inputs, *space = tensor.shape
    return inputs * math.prod(space), outputs * math.prod(space)


def _xavier_std(name: str, tensor: Node | Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / max(sum(fans(name, tensor)), 1))


def _kaiming_std(name: str, tensor: Node | Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fan_in, fan_out = fans(name, tensor)
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{name}: expected mode to be one of fan_in, fan_out; got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan_in if mode == "fan_in" else fan_out, 1))


def _check_axes(name: str, tensor: Node | Tensor, least: int, most: float = math.inf) -> None:
    if not least <= tensor.ndim <= most:
        expected = (
            f"{least} axes"
            if most == least
            else f"{least} to {most} axes"
            if most < math.inf
            else f"{least} axes or more"
        )
        raise ValueError(f"{name}: expected a weight of {expected}; got shape {tensor.shape}")


def _write(tensor: W, values: Any) -> W:
    as_tensor(tensor).copy_(values)
    return tensor
