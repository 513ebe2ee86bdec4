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
        y = out.array
        kind = type(y)
        count = 0  # of arrays, which come first
        while count < len(inputs) and type(inputs[count]) is kind:
            count += 1
        arrays, options = inputs[:count], inputs[count:]
        vectors = flat(y, *arrays)
        repeats = vectors is None
        if repeats:
            vectors = _repeating_rows(y, arrays)
        if vectors is None or (options and not all(isinstance(option, (int, float)) for option in options)):
            return None
        loop = self.loops.get((count, len(options), repeats)) or self._made(count, len(options), repeats)
        return loop[y.dtype, y.size > SMALL], (*vectors[1:], options, vectors[0], out.beta)

    def _made(self, arrays: int, options: int, repeats: bool) -> Compiled:
        """A loop in which `formula` and `piece` are the compiled functions.

        Each has a name of its own: of functions of one name in code cached by different processes, the one loaded
        first serves all.
        """
        code = zlib.crc32(Path(self.formula.__code__.co_filename).read_bytes())
        formula = numba.njit(**OPTIONS)(_with(self.formula, f"{self.name}_formula_{code:08x}"))
        piece = numba.njit(**OPTIONS)(_with(_PIECES[arrays], f"{self.name}_piece_{code:08x}", formula=formula))
        loop = _with(_repeating if repeats else _LOOPS[arrays], self.name, piece=piece)
        given = ["real[:, ::1]", "real[::1]"] if repeats else ["real[::1]"] * arrays
        result = "real[:, ::1]" if repeats else "real[::1]"
        kind = f"UniTuple(real, {options})" if options else "Tuple(())"
        signature = ", ".join([*given, kind, result, "int64"])
        made = Compiled(loop, f"void({signature})", True, f"_{code:08x}_{arrays}_{options}")
        self.loops[arrays, options, repeats] = made
        return made


def _with(function: Callable[..., Any], name: str, **names: Any) -> Any:
    """The function under another name, with some of its module's names standing for something else."""
    made = FunctionType(function.__code__, {**function.__globals__, **names}, name)
    made.__qualname__ = name
    return made


def _repeating_rows(y: Any, arrays: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """y and the first of two inputs as matrices, and the second as a row that repeats; None if it is not so."""
    if len(arrays) != 2:
        return None
    x, row = arrays
    fits = x.shape == y.shape and y.shape[y.ndim - row.ndim :] == row.shape and row.size
    if not fits or not all(a.flags.c_contiguous and a.dtype == y.dtype for a in (y, x, row)):
        return None
    shape = (y.size // row.size, row.size)
    return y.reshape(shape), x.reshape(shape), row.reshape(-1)


def formula(*numbers: Any) -> Any:
    """Stands for the formula in the functions below."""


def piece(*arguments: Any) -> None:
    """Stands for one of `_PIECES` in the functions below."""


def _piece_0(options, y, beta):
    for i in range(y.size):
        y[i] = formula(*options) + (y[i] if beta else y.dtype.type(0))


def _piece_1(x, options, y, beta):
    for i in range(y.size):
        y[i] = formula(x[i], *options) + (y[i] if beta else y.dtype.type(0))


def _piece_2(x, z, options, y, beta):
    for i in range(y.size):
        y[i] = formula(x[i], z[i], *options) + (y[i] if beta else y.dtype.type(0))


def _piece_3(x, z, w, options, y, beta):
    for i in range(y.size):
        y[i] = formula(x[i], z[i], w[i], *options) + (y[i] if beta else y.dtype.type(0))


def _loop_0(options, y, beta):
    for i in prange(blocks(y.size, PIECE)):
        piece(options, y[i * PIECE : (i + 1) * PIECE], beta)


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


_PIECES: dict[int, Any] = {0: _piece_0, 1: _piece_1, 2: _piece_2, 3: _piece_3}
_LOOPS: dict[int, Any] = {0: _loop_0, 1: _loop_1, 2: _loop_2, 3: _loop_3}
