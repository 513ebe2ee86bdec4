"""Cases: calls that launch kernels, to be run on the simulated device and, for comparison, by references in float64.

The samples of every op are cases. Kernels that no op launches have a case here:

```
@case
def adamw(place): ...          # makes tensors with place.tensor(values), returns arrays to be compared
```

here, or in a file `<what>_cases.py`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from awkward import AWKWARD
from optimizers import OPTIMIZERS
from simulated import simulated

import ag
import ownt
from ag import kernels
from ag.node import constant
from ag.sample import Sample
from ownt import Tensor
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.cuda_signature import FLOATS
from ownt.kernel import Kernel, Out

TOLERANCE = {"float64": 1e-10, "float32": 5e-5, "float16": 8e-3, "bfloat16": 6e-2}


@dataclass(frozen=True)
class Place:
    """Where a case runs.

    dtype:  of its tensors of floats; values: the dtype that their numbers are rounded to first
    offset: elements by which they miss the beginning of their memory
    """

    device: devices.Device
    dtype: str
    values: str
    offset: int = 0

    def tensor(self, values) -> Tensor:
        """A tensor of numbers; of floats in this place's dtype."""
        values = np.asarray(values)
        if dtypes.is_float(values.dtype):
            values = values.astype(dtypes.get(self.values)).astype(dtypes.get(self.dtype))
        if not self.offset:
            return Tensor(values).to(self.device.name)
        room = np.concatenate([np.zeros(self.offset, values.dtype), values.reshape(-1)])
        return Tensor(room).to(self.device.name)[self.offset :].view(values.shape)


Run = Callable[[Place], list]
CASES: dict[str, list[Run]] = {}


def case(function: Run) -> Run:
    """Have a function be a case, named as it is."""
    CASES.setdefault(function.__name__, []).append(function)
    return function


def call_op(name: str, sample: Sample, place: Place) -> list:
    """The value of an op, and its gradients added up over two calls."""
    ownt.manual_seed(1)
    args, options = sample.make("float64")
    args = [[_given(part, place) for part in arg] if isinstance(arg, list) else _given(arg, place) for arg in args]
    leaves = [a for arg in args for a in (arg if isinstance(arg, list) else [arg])]
    found = []
    op = ag.registry[name]
    with ownt.device.use(place.device), contextlib.nullcontext() if op.rule else ag.no_grad():
        for _ in range(2):
            ownt.manual_seed(3)
            y = op(*args, **options)
            found = [y.numpy().copy()]
            if y.requires_grad:
                y.backward(place.tensor(np.random.default_rng(4).standard_normal(y.shape)).astype(y.dtype))
    found += [n.grad.numpy().copy() for n in leaves if isinstance(n, ag.Node) and n.grad is not None]
    return found


def _given(arg, place: Place):
    """An argument of a sample in a place; tensors of floats are parameters."""
    if isinstance(arg, ag.Node):
        return constant(place.tensor(arg.numpy()))
    if not isinstance(arg, Tensor):
        return arg
    moved = place.tensor(arg.numpy())
    return ag.param(moved) if dtypes.is_float(moved.dtype) else moved


for _name, _op in sorted(ag.registry.items()):
    CASES[_name] = [functools.partial(call_op, _name, sample) for sample in [*_op.samples, *AWKWARD.get(_name, [])]]


for _run in OPTIMIZERS:
    case(_run)


@case
def norms_of_what_is_frozen(place: Place) -> list:
    """Gradients of gains and shifts alone."""
    found = []
    for rows, width in ((5, 24), (9, 33), (70, 768), (3, 3080)):
        x = constant(place.tensor(np.random.default_rng(6).standard_normal((rows, width))))
        gain, shift = (ag.param(place.tensor(np.ones(width))) for _ in range(2))
        y = ag.layer_norm(x, gain, shift)
        y.backward(place.tensor(np.random.default_rng(4).standard_normal(y.shape)).astype(y.dtype))
        found += [gain.grad.numpy().copy(), shift.grad.numpy().copy()]
    return found


@case
def cast(place: Place) -> list:
    """Float to float, contiguous and transposed, written and then added."""
    found = []
    for name, shape in itertools.product(FLOATS, ((4099,), (24, 40), (3, 37))):
        values = np.random.default_rng(5).integers(-8, 8, shape)
        x = ownt.asarray(values.astype(dtypes.get(name))).to(place.device.name)
        for source in (x, x.transpose()):
            y = place.tensor(np.zeros(source.shape))
            kernels.cast(source, out=Out(y))
            kernels.cast(source, out=Out(y, 1))
            found.append(y.numpy())
    return found


@case
def where_true(place: Place) -> list:
    """Truth values as masks, of which 16 bytes are not as many as of numbers."""
    draw = np.random.default_rng(6)
    x, y = (ag.param(place.tensor(draw.standard_normal((37, 64)))) for _ in range(2))
    found = []
    for mask in (draw.random((37, 64)) > 0.5, draw.random((37, 1)) > 0.5, draw.random(64) > 0.5):
        given = place.tensor(mask)
        found += [ag.where(given, x, y), ag.masked_fill(x, given, 3.0)]
    for node in found:
        node.backward(place.tensor(np.ones(node.shape)))
    return [node.numpy() for node in found] + [x.grad.numpy(), y.grad.numpy()]


def references_only(kernel, target, arrays, outs):
    """In place of Kernel._bind: no overrides."""
    return kernel._run_reference, (kernel.reference, devices.of(target), arrays, outs)


@functools.cache
def expected(name: str, number: int, dtype: str) -> list:
    """What a case gives by references in float64, of numbers that `dtype` holds."""
    bind, Kernel._bind = Kernel._bind, references_only
    try:
        return CASES[name][number](Place(devices.cpu, "float64", dtype))
    finally:
        Kernel._bind = bind


def compare(name: str, dtype: str, order: str = "forward", offsets: tuple[int, ...] = (0, 1)) -> set:
    """Run the cases of a name on the simulated device and compare them; the kernels that were launched.

    Raises: AssertionError where it differs.
    """
    simulated.order, simulated.launched = order, set()
    for number, run in enumerate(CASES[name]):
        for offset in offsets:
            found = run(Place(simulated, dtype, dtype, offset))
            wanted = expected(name, number, dtype)
            assert len(found) == len(wanted)
            for a, b in zip(found, wanted):
                close(
                    a.astype(b.dtype), b, TOLERANCE[dtype], f"{name}, case {number}, offset {offset}, {dtype}, {order}"
                )
    return simulated.launched


def close(a, b, tolerance: float, what: str) -> None:
    """Equal but for rounding, of numbers or of the largest of them."""
    finite = np.abs(b[np.isfinite(b)]) if b.dtype.kind == "f" else np.empty(0)
    largest = max(1.0, finite.max(initial=0.0))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * largest, err_msg=what)


@functools.cache
def launched(name: str) -> frozenset:
    """The kernels that a case launches, (source file, kernel, dtype), in all dtypes; compared on the way."""
    found = compare(name, "float32", offsets=(0,))
    for dtype in FLOATS if found else ():  # what launches none shows nothing in other dtypes
        found |= compare(name, dtype)
    return frozenset(found)


for _path in sorted(Path(__file__).parent.glob("*_cases.py")):
    importlib.import_module(_path.stem)
