"""torch's functions of one tensor, element by element, and the numbers at which they are compared with ours."""

from __future__ import annotations

from functools import partial
from typing import Any

from ag.sample import between, normal

try:
    import torch.nn.functional as F
except ImportError:  # see torch_functions
    F = None

METHODS = (
    "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "abs", "sign", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "sigmoid",
)  # fmt: skip
FUNCTIONALS = ("silu", "softplus", "mish", "leaky_relu", "elu", "hardtanh")
DOMAINS = {
    **dict.fromkeys(("log", "sqrt", "log1p", "log2", "rsqrt"), partial(between, 0.1, 3)),
    **dict.fromkeys(("asin", "acos", "atanh", "tan"), partial(between, -0.95, 0.95)),
    "acosh": partial(between, 1.1, 4),
}


def method(name: str, x: Any) -> Any:
    return getattr(x, name)()


def functional(name: str, x: Any, *options: Any, **named: Any) -> Any:
    return getattr(F, name)(x, *options, **named)


FUNCTIONS = {
    **{name: partial(method, name) for name in METHODS},
    **{name: partial(functional, name) for name in FUNCTIONALS},
}
OPTIONS = {"leaky_relu": (0.3,), "elu": (0.5,), "softplus": (2.0, 3.0), "hardtanh": (-0.5, 2.0)}


def cases(extreme: list[Any]) -> dict[str, tuple[tuple, dict[str, Any]]]:
    """For each function the options after the tensor, what makes tensors where it is defined, extreme numbers."""
    numbers = dict.fromkeys(FUNCTIONS, extreme) | {"elu": [x for x in extreme if x == x]}  # torch's of NaN is that of 0
    make = dict.fromkeys(FUNCTIONS, normal) | DOMAINS
    return {name: (OPTIONS.get(name, ()), {"make": make[name], "extreme": numbers[name]}) for name in FUNCTIONS}
