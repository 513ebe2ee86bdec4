"""Table: many arrays for one compiled launch, by their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, final

import numba
import numpy
from numba import types
from numba.extending import intrinsic

_PIECE = 1 << 15  # elements of a piece
_NONE = {numpy.dtype(name): numpy.empty(0, name) for name in ("float32", "float64")}


@final
class Table:
    """Rows of arrays of one size and dtype each.

    addresses: of the arrays (rows, columns); pieces: (row, first element, elements) of what covers all rows
    like:      an empty array of their dtype; size: elements of all rows
    """

    def __init__(self, columns: Sequence[Sequence[Any]], like: Any) -> None:
        self.like = like
        self.addresses = numpy.array(
            [[_address(array) for array in row] for row in zip(*columns, strict=True)], "uint64"
        )
        sizes = tuple([array.size for array in columns[0]])
        self.pieces = _pieces(sizes)
        self.size = sum(sizes)

    @classmethod
    def of(cls, *columns: Sequence[Any]) -> Table | None:
        """A table of columns of arrays; None unless all have one dtype, lie in one run of bytes, and sizes agree."""
        like = _NONE.get(columns[0][0].dtype)
        if like is None:
            return None
        for column in columns:
            for array, first in zip(column, columns[0], strict=True):
                if array.dtype != like.dtype or not array.flags.c_contiguous or array.size != first.size:
                    return None
        return cls(columns, like)


@lru_cache(maxsize=64)
def _pieces(sizes: tuple[int, ...]) -> Any:
    rows = [
        (row, start, min(_PIECE, size - start)) for row, size in enumerate(sizes) for start in range(0, size, _PIECE)
    ]
    return numpy.array(rows, "int64").reshape(-1, 3)


def _address(array: Any) -> int:
    return array.__array_interface__["data"][0]


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
