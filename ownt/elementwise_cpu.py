"""Elementwise kernels for the CPU from formulas of single numbers.

```
@elementwise(silu_vjp_kernel)
def _(g, x):
    s = logistic(x)
    return g * s * (1 + x * (1 - s))
```
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba

from ownt import device as devices
from ownt.compiled_cpu import OPTIONS, PIECE, SMALL, Compiled, blocks, flat, prange
from ownt.kernel import Kernel, Out


def elementwise(kernel: Kernel, *dtypes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Override a kernel by a formula of the numbers at one place of its inputs, and of options after them.

    Constants in the formula are of float32 unless other `dtypes` are named. Inputs that are broadcast, or not in one
    run of bytes, are left to the reference; but the second of two may repeat along leading axes.
    """

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        made = _Family(kernel.name, formula)
        kernel.on("cpu", *(dtypes or ("float32",)))(made.bind)
        return formula

    return register


class _Family:
    """The compiled loops of one formula, by the numbers of arrays and of options."""

    def __init__(self, name: str, formula: Callable[..., Any]) -> None:
        self.name = name
        self.formula = formula
        self.loops: dict[tuple[int, int, bool], Compiled] = {}

    def bind(self, *inputs: Any, out: Out) -> tuple[Callable[..., None], tuple] | None:
        arrays = [x for x in inputs if devices.is_array(x)]
        options = inputs[len(arrays) :]
        y = out.array
        if not all(map(devices.is_array, inputs[: len(arrays)])) or None in options:
            return None
        vectors = flat(y, *arrays)
        repeats = vectors is None and _repeats(arrays, y)
        if vectors is None and not repeats:
            return None
        key = (len(arrays), len(options), bool(repeats))
        loop = self.loops.get(key)
        if loop is None:
            loop = self.loops[key] = self._made(*key)
        if repeats:
            width = arrays[1].size
            shape = (y.size // width, width)
            vectors = y.reshape(shape), arrays[0].reshape(shape), arrays[1].reshape(-1)
        return loop[y.dtype, y.size > SMALL], (*vectors[1:], options, vectors[0], out.beta)  # type: ignore[index]

    def _made(self, arrays: int, options: int, repeats: bool) -> Compiled:
        """A loop in which `formula` and `piece` are the compiled functions, under a name of its own for the cache."""
        formula = numba.njit(**OPTIONS)(self.formula)
        piece = numba.njit(**OPTIONS)(_with(_PIECES[arrays], formula=formula))
        loop = _with(_repeating if repeats else _LOOPS[arrays], piece=piece)
        loop.__name__ = self.name
        code = zlib.crc32(Path(self.formula.__code__.co_filename).read_bytes())
        first = "real[:, ::1], real[::1]" if repeats else ", ".join(["real[::1]"] * arrays)
        result = "real[:, ::1]" if repeats else "real[::1]"
        kind = f"UniTuple(real, {options})" if options else "Tuple(())"
        return Compiled(loop, f"void({first}, {kind}, {result}, int64)", True, f"_{code:08x}_{arrays}_{options}")


def _with(function: Callable[..., Any], **names: Any) -> Any:
    """The function with some of its module's names standing for something else."""
    return FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)


def _repeats(arrays: list[Any], y: Any) -> bool:
    """Whether there are two inputs, of which the second repeats along leading axes of the result."""
    if len(arrays) != 2 or not all(a.flags.c_contiguous for a in (y, *arrays)) or not arrays[1].size:
        return False
    return arrays[0].shape == y.shape and y.shape[y.ndim - arrays[1].ndim :] == arrays[1].shape


def formula(*numbers: Any) -> Any:
    """Stands for the formula in the functions below."""


def piece(*arguments: Any) -> None:
    """Stands for one of `_PIECES` in the functions below."""


def _piece_1(x, options, y, beta):
    for i in range(y.size):
        y[i] = formula(x[i], *options) + (y[i] if beta else y.dtype.type(0))


def _piece_2(x, z, options, y, beta):
    for i in range(y.size):
        y[i] = formula(x[i], z[i], *options) + (y[i] if beta else y.dtype.type(0))


def _piece_3(x, z, w, options, y, beta):
    for i in range(y.size):
        y[i] = formula(x[i], z[i], w[i], *options) + (y[i] if beta else y.dtype.type(0))


def _loop_1(x, options, y, beta):
    for i in prange(blocks(y.size, PIECE)):
        start, stop = i * PIECE, (i + 1) * PIECE
        piece(x[start:stop], options, y[start:stop], beta)


def _loop_2(x, z, options, y, beta):
    for i in prange(blocks(y.size, PIECE)):
        start, stop = i * PIECE, (i + 1) * PIECE
        piece(x[start:stop], z[start:stop], options, y[start:stop], beta)


def _loop_3(x, z, w, options, y, beta):
    for i in prange(blocks(y.size, PIECE)):
        start, stop = i * PIECE, (i + 1) * PIECE
        piece(x[start:stop], z[start:stop], w[start:stop], options, y[start:stop], beta)


def _repeating(x, z, options, y, beta):
    for i in prange(y.shape[0]):
        piece(x[i], z, options, y[i], beta)


_PIECES: dict[int, Any] = {1: _piece_1, 2: _piece_2, 3: _piece_3}
_LOOPS: dict[int, Any] = {1: _loop_1, 2: _loop_2, 3: _loop_3}
