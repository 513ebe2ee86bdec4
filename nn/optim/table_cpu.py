"""Table: many arrays for one compiled launch, by their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, final

import numba
import numpy
from numba import types
from numba.extending import intrinsic

from nn.optim.columns import Column, columns

_PIECE = 1 << 15  # elements of a piece
_NONE = {numpy.dtype(name): numpy.empty(0, name) for name in ("float32", "float64")}


@final
class Table:
    """Rows of arrays of one size and dtype each.

    addresses: of the arrays (rows, columns); pieces: (row, first element, elements) of what covers all rows
    like:      an empty array of their dtype; size: elements of all rows
    """

    def __init__(self, found: Sequence[Column]) -> None:
        first, *others = found
        self.like = _NONE[first.dtype]  # type: ignore[index]
        if first.table is None:
            self.addresses = numpy.array([column.addresses for column in found], "uint64").T.copy()
        else:  # a copy: launches that were recorded may go on reading those of before
            before, known = first.table
            self.addresses = known.copy()
            for number, column in enumerate(others):
                if column is not before[number]:
                    self.addresses[:, number + 1] = column.addresses
        first.table = others, self.addresses
        self.pieces = _pieces(first.sizes)
        self.size = sum(first.sizes)

    @classmethod
    def of(cls, *given: Sequence[Any]) -> Table | None:
        """A table of columns, which are Outs or arrays.

        None unless all have one dtype of those compiled for, lie in one run of bytes each, and sizes agree.
        """
        found = columns(*given)
        if found is None or found[0].dtype not in _NONE or any(part.dtype != found[0].dtype for part in found):
            return None
        return cls(found)


@lru_cache(maxsize=64)
def _pieces(sizes: tuple[int, ...]) -> Any:
    rows = [
        (row, start, min(_PIECE, size - start)) for row, size in enumerate(sizes) for start in range(0, size, _PIECE)
    ]
    return numpy.array(rows, "int64").reshape(-1, 3)


@intrinsic
def _pointer(context: Any, address: Any, start: Any, like: Any) -> Any:
    """A pointer to element number `start` from an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        return builder.gep(builder.inttoptr(args[0], kind), [args[1]])

    return types.CPointer(like.dtype)(address, start, like), generate


@numba.njit
def array_at(address: int, start: int, size: int, like: Any) -> Any:
    """`size` elements from number `start` on of the array at an address, of the dtype of `like`."""
    return numba.carray(_pointer(address, start, like), size)
