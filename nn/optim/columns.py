"""Columns: arrays of one role, one for each parameter, for launches that find them by their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from ownt import device as devices
from ownt.kernel import Out, Outs


@final
class Column:
    """What a table of addresses needs to know of some arrays.

    dtype: theirs; None if they have not all the same
    table: what a device made of this column and others, to be used again where addresses are the same
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        dtype, pointer = arrays[0].dtype, devices.of(arrays[0]).pointer
        self.addresses = [pointer(array) for array in arrays]
        self.sizes = tuple([array.size for array in arrays])
        self.dtype = dtype if [array.dtype for array in arrays].count(dtype) == len(arrays) else None
        self.is_contiguous = False not in [array.flags.c_contiguous for array in arrays]
        self.table: Any = None


def column(given: Sequence[Any]) -> Column:
    """That of Outs or arrays; that of `Outs` is made once."""
    if type(given) is not Outs:
        return Column([part.array if type(part) is Out else part for part in given])
    if given.derived is None:
        given.derived = Column([out.array for out in given])
    return given.derived


def columns(first: Sequence[Any], *others: Sequence[Any] | None) -> list[Any] | None:
    """Those of Outs or arrays, and None of None; None unless all lie in one run of bytes each, and sizes agree."""
    found = [None if given is None else column(given) for given in (first, *others)]
    sizes = found[0].sizes  # type: ignore[union-attr]
    return found if all(part is None or (part.is_contiguous and part.sizes == sizes) for part in found) else None
