"""Tables of addresses in the memory of a GPU, and the binder of rules that go by them; read by table.cuh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nn.optim.columns import columns
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.cuda_source import CudaKernel
from ownt.kernel import Kernel, Out

MOST = 1 << 13  # numbers of a piece, which a block works on, of what an optimizer updates
THREADS = 256


class Table(NamedTuple):
    """Arrays by their addresses, a row for each parameter: its last piece, its size, where it begins, its arrays.

    most: numbers of a piece

    Its memory is its own and never written again: launches that were recorded may go on reading it.
    """

    array: Any
    rows: int
    pieces: int
    most: int

    @property
    def arguments(self) -> tuple[Any, int, int]:
        """What kernels take."""
        return self.array, self.rows, self.most


def table(place: devices.Device, found: Sequence[Any], most: int) -> Table:
    """A table of columns on a device, the one from before if nothing has changed; None is a column of no arrays.

    most: numbers of a piece
    """
    first = found[0]
    given = most, [part and part.addresses for part in found]
    if first.table is None or first.table[0] != given:
        first.table = given, _made(place, first.sizes, *given)
    return first.table[1]


def _made(place: devices.Device, sizes: tuple[int, ...], most: int, addresses: list[Any]) -> Table:
    xp = devices.cpu.xp
    values = xp.zeros((len(sizes), 3 + len(addresses)), "uint64")
    values[:, 0] = xp.cumsum([-(-size // most) for size in sizes])
    values[:, 1] = sizes
    values[1:, 2] = xp.cumsum(sizes[:-1])
    for i, each in enumerate(addresses):
        if each is not None:
            values[:, 3 + i] = each
    return Table(place.bring(values), len(sizes), int(values[-1, 0]), most)


def rule_of(kernel: Kernel, code: CudaKernel, *names: str) -> None:
    """Override an optimizer's rule by a kernel in CUDA C++ that calls `update` of rule.cuh.

    names: of the tensors it keeps, in the order of the source; those that are not kept have no address
    """

    @kernel.on("cuda", *code.source.dtypes)
    def bind(
        grads: tuple[Any, ...], numbers: Any, position: Any, *flags: bool,
        out: list[Out], half: list[Out] | None, **kept: list[Out],
    ) -> Any:  # fmt: skip
        weights, masters = (out, None) if half is None else (half, out)
        found = columns(weights, grads, masters, *(kept.get(name) for name in names))
        dtype = weights[0].array.dtype
        needs_position = masters is None and dtype in dtypes.HALF
        if found is None or not _fit(found, dtype) or needs_position != (position is not None):
            return None
        place = devices.of(grads[0])
        made = table(place, found, MOST)
        return code.launch(place, dtype, made.pieces, THREADS), (*made.arguments, numbers, position, *flags)


def _fit(found: Sequence[Any], dtype: Any) -> bool:
    """Whether weights and gradients are of a dtype, and all else is of the one that is computed in."""
    same = all(part.dtype == dtype for part in found[:2])
    return same and all(part is None or part.dtype == dtypes.wide(dtype) for part in found[2:])
