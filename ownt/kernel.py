"""Kernels: functions that write where they are told, and the one place from which they are launched.

A kernel allocates nothing it returns, returns nothing and never waits. Its inputs are positional, its
destinations keyword-only: `Out(tensor, beta)` says where to write, and whether to write (0) or to add (1).

```
@kernel(elementwise=True)
def relu(x, *, out):                       # the reference: any array module
    out.store(module(x).maximum(x, 0))

@relu.on("cpu", "float32")                 # an override, in relu's file or in <file>_cpu.py
def _(x, *, out):
    return fast_relu, (x, out.array, out.beta)   # binds: the function to call, and its arguments; or None, to decline
```
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, final

from ownt import device as devices
from ownt import dtype as dtypes
from ownt import half
from ownt.launch import Launch, nothing
from ownt.tensor import Tensor
from ownt.thread import apart, state

Bind = Callable[..., "tuple[Callable[..., None], tuple] | None"]  # what an override is

PIECE = 1 << 15  # elements of a piece: the temporaries of an expression stay in a core's second-level cache


@final
class Out:
    """A destination: a tensor and whether to write over it (beta 0) or to add to it (beta 1)."""

    __slots__ = ("array", "beta", "tensor")

    def __init__(self, tensor: Tensor, beta: int = 0) -> None:
        self.tensor = tensor
        self.array = tensor.array
        self.beta = beta

    def __getitem__(self, key: Any) -> Out:
        """A part of the destination."""
        return Out(self.tensor[key], self.beta)

    def view(self, shape: tuple[int, ...]) -> Out:
        """The destination in another shape. Raises: ValueError where that would copy."""
        return Out(self.tensor.view(shape), self.beta)

    def then_add(self) -> Out:
        """The same destination, to be added to: for the second piece of a sum and all after it."""
        return Out(self.tensor, 1)

    def store(self, value: Any) -> None:
        """Write or add; `value` may be a number or broadcast. (0 * uninitialised memory may be NaN.)"""
        if self.beta:
            devices.module(self.array).add(self.array, value, out=self.array, casting="same_kind")
        else:
            self.array[...] = value


@final
class Outs(list[Out]):
    """Destinations of one role, for a launch that updates many tensors.

    derived: what an override made of them, to be used again as long as they are the same
    """

    derived: Any = None


@final
class Kernel:
    """A reference and its overrides by device and dtype."""

    registered = 0  # overrides of all kernels: what was bound before there was one more may be out of date

    def __init__(
        self, reference: Callable[..., None], elementwise: bool, casts: bool = False, moves: bool = False
    ) -> None:
        self.reference = reference
        self.elementwise = elementwise
        self.casts = casts
        self.moves = moves
        self.name = reference.__name__
        self.count: Callable[..., int] | None = None  # see `operations`
        self.__doc__ = reference.__doc__
        self.overrides: dict[str, dict[dtypes.DType, Bind]] = {}  # by device and dtype
        self._by_array: dict[type, dict[dtypes.DType, Bind]] = {}  # of devices whose override file was looked for

    def on(self, device: str, *names: str) -> Callable[[Callable], Callable]:
        """Register an override: a function that binds, for a device and dtypes."""

        def register(bind: Callable) -> Callable:
            for name in names:
                self.overrides.setdefault(device, {})[dtypes.get(name)] = bind
            Kernel.registered += 1
            return bind

        return register

    def operations(self, count: Callable[..., int]) -> Callable[..., int]:
        """Register how many operations of arithmetic a launch takes, a function of its inputs; see ownt.profile."""
        self.count = count
        return count

    def __call__(self, *args: Any, **outs: Any) -> None:
        arrays = [arg.array if type(arg) is Tensor else _unwrapped(arg) if type(arg) is tuple else arg for arg in args]
        written = [out for out in outs.values() if out is not None]
        if not written:
            return
        if type(written[0]) is not Out:  # many destinations of one role: what an optimizer updates
            written = [out for part in written for out in part]
        target = written[0].array
        if isinstance(target, devices.MetaArray):
            function, bound = nothing, self._bind_only(target, arrays, outs)
        else:
            function, bound = self._bind(target, arrays, outs)
        if state.launch is None:
            function(*bound)
        else:
            operations = 0 if self.count is None else self.count(*arrays)
            tensors = [out.tensor for out in written]
            state.launch(Launch(self.name, function, bound, tensors, _traffic(arrays, written), operations))
        for out in written:
            out.tensor._block.version += 1

    def bind(self, *arrays: Any, **outs: Out | None) -> tuple[Callable, tuple]:
        """What a launch on arrays would call: for an override of which it is a step."""
        return self._bind(next(out.array for out in outs.values() if out is not None), list(arrays), outs)

    def _bind(self, target: Any, arrays: list[Any], outs: dict) -> tuple[Callable, tuple]:
        """What to call with which arguments: an override for the device and dtype, or the reference."""
        overrides = self._by_array.get(type(target))
        if overrides is None:
            overrides = self._load_overrides(devices.of(target))
        dtype = target.dtype
        first: Any = arrays[0] if arrays else None
        if type(first) is type(target) and first.dtype is not dtype and first.dtype in dtypes.HALF:
            dtype = first.dtype  # float32 made of half precision: sums, statistics
        override = overrides.get(dtype)
        bound = None if override is None else override(*arrays, **outs)
        if bound is not None:
            return bound
        place, reference = devices.of(target), self.reference
        if not self.casts:
            self._check_dtypes(arrays, target.dtype)
        if not (self.casts or self.moves) and (dtype in dtypes.HALF or any(map(half.is_half, arrays))):
            if not self._goes_in_pieces(place):
                return half.bind(self, arrays, outs)
            reference = half.elementwise(reference)
        return self._run_reference, (reference, place, arrays, outs)

    def _bind_only(self, target: Any, arrays: list[Any], outs: dict) -> tuple:
        """Take what workspace a launch would take. (Updates of many tensors, whose tables are long, take none.)"""
        if any(type(out) is Outs for out in outs.values()):
            return ()
        with devices.use(devices.of(target)):
            return self._bind(target, arrays, outs)[1]

    def _goes_in_pieces(self, place: devices.Device) -> bool:
        """Whether the reference is called with small pieces: on the CPU, where its temporaries are then warm."""
        return self.elementwise and place.kernels == devices.cpu.kernels

    def _run_reference(
        self, reference: Callable[..., None], place: devices.Device, arrays: list[Any], outs: dict[str, Out | None]
    ) -> None:
        with place.quiet():  # NaN and Inf go their way, as everywhere in the field; ag.detect_anomaly finds them
            if self._goes_in_pieces(place):
                in_pieces(reference, arrays, outs)
            else:
                reference(*arrays, **outs)

    def _check_dtypes(self, arrays: list[Any], dtype: Any) -> None:
        """No silent promotion: floats of two dtypes, but for half precision and float32, are a mistake in an op."""
        if not dtypes.is_float(dtype):
            return
        for array in arrays:
            if not (devices.is_array(array) and dtypes.is_float(array.dtype)):
                continue
            if dtypes.wide(array.dtype) != dtypes.wide(dtype):
                raise TypeError(f"kernel {self.name}: expected {dtype} like its output; got {array.dtype}")

    def _load_overrides(self, device: devices.Device) -> dict[dtypes.DType, Bind]:
        """Import `<file>_<device>.py` beside the kernel's file, if there is one: on first use, not on import."""
        name = f"{self.reference.__module__}_{device.kernels}"
        if importlib.util.find_spec(name) is not None:
            apart(importlib.import_module, name)
        found = self._by_array[device.array] = self.overrides.setdefault(device.kernels, {})
        return found


def _traffic(inputs: Iterable[Any], outs: list[Out]) -> int:
    """Bytes of inputs, and of outputs, which are read too where they are added to."""
    read = sum(_traffic(part, []) if type(part) is tuple else getattr(part, "nbytes", 0) for part in inputs)
    return read + sum(out.array.nbytes * (2 if out.beta else 1) for out in outs)


def _unwrapped(arg: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple, such as an index key, with arrays in place of Tensors."""
    return tuple([part.array if type(part) is Tensor else part for part in arg])


def kernel(
    reference: Callable[..., None] | None = None,
    *,
    elementwise: bool = False,
    casts: bool = False,
    moves: bool = False,
) -> Any:
    """Make a kernel of its reference.

    elementwise: each element of the output depends on the same element of the inputs, broadcast, alone; on
                 the CPU the reference then runs piece by piece, so that its temporaries are small and warm.
    casts:       floats of two dtypes may meet in it, because converting them is what it is for.
    moves:       numbers are but moved, so that half precision needs no float32 (see ownt.half).
    """
    if reference is None:
        return lambda function: Kernel(function, elementwise, casts, moves)
    return Kernel(reference, elementwise, casts, moves)


def pieces(shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], int]]:
    """Cut an array of `shape` into runs of at most PIECE elements: (slices, the number of its first element)."""
    size = math.prod(shape)
    if size <= PIECE:
        yield (), 0
        return
    row = size // shape[0]
    if row <= PIECE:
        step = PIECE // row
        for start in range(0, shape[0], step):
            yield (slice(start, start + step),), start * row
        return
    for i in range(shape[0]):
        for key, first in pieces(shape[1:]):
            yield (slice(i, i + 1), *key), i * row + first


def stretches(count: int, step: int) -> Iterator[slice]:
    """Slices of `step` that cover `count` rows; one at least, so that of no rows a sum is written as 0."""
    return (slice(start, min(start + step, count)) for start in range(0, max(count, 1), step))


def in_pieces(reference: Callable[..., None], arrays: list[Any], outs: dict[str, Out | None]) -> None:
    """Call an elementwise function with pieces of its arguments, whose temporaries are small and warm."""
    written = [out for out in outs.values() if out is not None]
    shape = written[0].array.shape
    if written[0].array.size <= PIECE:
        reference(*arrays, **outs)
        return
    tensors = [array for array in arrays if devices.is_array(array)]
    flat = all(a.shape == shape and a.flags.c_contiguous for a in tensors) and all(
        out.array.shape == shape and out.array.flags.c_contiguous for out in written
    )
    if flat:  # contiguous: pieces need not respect rows
        shape = (math.prod(shape),)
        fit = [a.reshape(shape) if devices.is_array(a) else a for a in arrays]
        outs = {name: out and out.view(shape) for name, out in outs.items()}
    else:
        fit = [devices.module(a).broadcast_to(a, shape) if devices.is_array(a) else a for a in arrays]
    for key, _ in pieces(shape):
        part = {name: out and out[key] for name, out in outs.items()}
        reference(*(a[key] if devices.is_array(a) else a for a in fit), **part)
