"""PyTorch's own table of samples of its ops, OpInfo, run on ours: values and gradients, and the calls that must raise.

A sample is a call as a user of PyTorch would write it. A row of the table (`opinfo_rows`) makes the same call of ours,
or says why we have none: such a sample is left out, for a reason that the row knows, and counted.
"""

from __future__ import annotations

import inspect
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

import ag
import ownt
from ownt.tensor import wrap

try:
    import torch

    torch.set_num_threads(1)  # the tensors are small: threads that wait for work would only slow both sides
except ImportError:  # without torch there is a table to look at, and nothing to call
    torch = None

LARGEST = 100_000  # elements of a tensor: of larger ones PyTorch has dozens of samples, all alike and slow
TOO_LARGE = f"more than {LARGEST} elements"
NO_TENSOR = "no tensor, only numbers"
TWO_DTYPES = "tensors of two dtypes, which do not mix"
COMPLEX = "complex numbers"
AXIS_OF_NUMBER = "an axis of a tensor without axes"
SUMS = "large numbers cancel in sums: either side may be nearer to float64's"
ALWAYS_KNOWN = {TOO_LARGE, NO_TENSOR, TWO_DTYPES, COMPLEX}


class LeftOut(Exception):
    """A sample has no call of ours; the reason, which lies in torch's call alone, is the message."""


@dataclass(frozen=True)
class Row:
    """An op of ours, or a function made of ops, beside an OpInfo.

    call: takes what torch's function takes, with Nodes for tensors; the function of ours itself by default.
    left_out: the reasons for which samples are left out beside ALWAYS_KNOWN; all of them occur.
    rounding: why float32, where the two sides differ, is compared with torch's float64 relative to the largest number.
    legal: wrong calls that we take, all of which occur, by the start of torch's message: why.
    every: of so many samples one is taken, where there are many, all alike.
    """

    ours: str
    theirs: str
    call: Callable[..., Any] | None = None
    left_out: tuple[str, ...] = ()
    rounding: str = ""
    legal: dict[str, str] = field(default_factory=dict)
    every: int = 1

    def __str__(self) -> str:
        return f"{self.ours}-{self.theirs}"


@dataclass
class Tally:
    """How many calls ran, how many of them went well, and how many were left out for which reasons."""

    ran: int = 0
    well: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


SAMPLES, WRONG = "samples passed", "wrong calls raised"
tallies: dict[str, dict[str, Tally]] = {}  # by row and kind


def count(kind: str, row: Row, ran: int, well: int, left_out: Counter[str]) -> None:
    tally = tallies.setdefault(str(row), {}).setdefault(kind, Tally())
    tally.ran += ran
    tally.well += well
    tally.left_out += left_out


def summary() -> Iterator[str]:
    """A line a row, and the totals."""
    for row, kinds in tallies.items():
        parts = []
        for kind, tally in kinds.items():
            parts += [f"{tally.well} of {tally.ran} {kind}"] * bool(tally.ran)
            parts += [f"{number} left out: {reason}" for reason, number in tally.left_out.items()]
        yield f"OpInfo {row}: {'; '.join(parts)}"
    for kind in (SAMPLES, WRONG):
        chosen = [kinds[kind] for kinds in tallies.values() if kind in kinds]
        if chosen:
            ran, well = sum(tally.ran for tally in chosen), sum(tally.well for tally in chosen)
            left_out = sum(tally.left_out.total() for tally in chosen)
            yield f"OpInfo, {len(chosen)} rows: {well} of {ran} {kind}; {left_out} left out"


@cache
def infos() -> dict[str, Any]:
    """PyTorch's table, by name and variant. It takes seconds to import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return {".".join(filter(None, (info.name, info.variant_test_name))): info for info in op_db}


def samples(info: Any, dtype: str) -> Iterator[Any]:
    """The samples of an op, the same with strides, and the larger set of references where there is one."""
    kind, trained = getattr(torch, dtype), info.supports_autograd
    torch.manual_seed(0)
    random.seed(0)
    yield from info.sample_inputs("cpu", kind, requires_grad=trained)
    yield from (sample.noncontiguous() for sample in info.sample_inputs("cpu", kind, requires_grad=trained))
    if info.reference_inputs_func is not None:
        try:
            yield from list(info.reference_inputs("cpu", kind, requires_grad=trained))
        except ValueError:  # those of where ask for the gradient of truth values
            yield from info.reference_inputs("cpu", kind)


def wrong_calls(info: Any) -> Iterator[tuple[Any, str]]:
    """Calls that torch refuses, and its message."""
    for error in info.error_inputs("cpu") if info.error_inputs_func is not None else ():
        call = Call(info, error.sample_input)
        try:
            call.torch()
        except Exception as refusal:
            yield call, str(refusal)


def exact(sample: Any) -> Any:
    """A sample in float64."""
    return sample.transform(lambda t: t.double().requires_grad_(t.requires_grad) if t.is_floating_point() else t)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with its torch tensors changed, those in lists, tuples and dictionaries too."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(part, change) for part in value])
    if isinstance(value, dict):
        return {name: mapped(part, change) for name, part in value.items()}
    return value


def strided(given: Any) -> ownt.Tensor:
    """A tensor of ours with the values and the strides of one of torch's."""
    values = given.numpy()
    span = 1 + sum((size - 1) * stride for size, stride in zip(given.shape, given.stride()))
    memory = ownt.empty(span if values.size else 0, dtype=values.dtype)
    array = np.lib.stride_tricks.as_strided(memory.array, values.shape, values.strides)
    array[...] = values
    return wrap(array, memory.block)


class Call:
    """The two sides of a sample: leaves of torch's, and ours of the same values and strides."""

    def __init__(self, info: Any, sample: Any) -> None:
        self.info = info
        self.sample = sample  # its tensors live as long as their numbers are used
        self.theirs: dict[int, Any] = {}
        self.nodes: dict[int, ag.Node] = {}
        self.given = mapped((sample.input, *sample.args), self._leaf)
        self.options = mapped(sample.kwargs, self._leaf)
        leaves = self.theirs.values()
        if info.supports_autograd and not any(leaf.requires_grad for leaf in leaves):
            for leaf in leaves:
                leaf.requires_grad_(leaf.is_floating_point())

    def _leaf(self, tensor: Any) -> Any:
        return self.theirs.setdefault(id(tensor), tensor.detach().requires_grad_(tensor.requires_grad))

    def check(self) -> None:
        """Raises: LeftOut for what no op of ours takes, or what takes too long."""
        floats = {tensor.dtype for tensor in self.theirs.values() if tensor.is_floating_point()}
        if not self.theirs:
            raise LeftOut(NO_TENSOR)
        if len(floats) > 1:
            raise LeftOut(TWO_DTYPES)
        if any(isinstance(arg, complex) for arg in self.given):
            raise LeftOut(COMPLEX)
        if max(tensor.numel() for tensor in self.theirs.values()) > LARGEST:
            raise LeftOut(TOO_LARGE)

    def torch(self) -> list[Any]:
        """torch's results."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return listed(self.info.op(*self.given, **self.options))

    def ours(self, row: Row) -> list[Any]:
        """Our results. Raises: LeftOut if there is no such call."""
        call = row.call or getattr(ag, row.ours)
        options = {name: value for name, value in self.options.items() if value is not None}
        unknown = options.keys() - inspect.signature(getattr(call, "forward", call)).parameters.keys()
        if unknown:
            raise LeftOut(f"option {', '.join(sorted(unknown))}")
        return listed(call(*mapped(self.given, self._node), **mapped(options, self._node)))

    def _node(self, leaf: Any) -> ag.Node:
        if id(leaf) not in self.nodes:
            self.nodes[id(leaf)] = ag.make_tensor(strided(leaf.detach()), requires_grad=leaf.requires_grad)
        return self.nodes[id(leaf)]

    def leaves(self) -> list[tuple[Any, ag.Node]]:
        """Both sides of the tensors that want a gradient."""
        return [(leaf, self._node(leaf)) for leaf in self.theirs.values() if leaf.requires_grad]

    def gradients(self, results: list[Any], cotangents: list[ownt.Tensor]) -> list[Any]:
        """torch's gradients of its leaves, None where there is none."""
        leaves = [leaf for leaf in self.theirs.values() if leaf.requires_grad]
        ends = [y for y in results if y.requires_grad]
        if not ends:
            return [None] * len(leaves)
        given = [torch.from_numpy(g.numpy().copy()).to(y.dtype) for y, g in zip(ends, cotangents)]
        return list(torch.autograd.grad(ends, leaves, given, allow_unused=True))

    def __str__(self) -> str:
        return str(mapped((*self.given, self.options), shown))


def shown(tensor: Any) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)} by {tensor.stride()}"


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def axes(x: Any, dim: Any, none: Any = None) -> Any:
    """An axis as it is, axes as a tuple, `none` for no axis. Raises: LeftOut for an axis of a tensor without axes."""
    named = dim if dim is None or isinstance(dim, int) else tuple(dim)
    if named not in (None, ()) and not x.ndim:
        raise LeftOut(AXIS_OF_NUMBER)
    return none if named == () else named
