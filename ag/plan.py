"""Plan: what a program did with tensors of some layouts, to be done again with others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, final

from ownt import device as devices
from ownt import memory
from ownt.layout import Layout
from ownt.thread import state


class Request(NamedTuple):
    """A request for memory. kind: "" for what is not booked as scratch of an op; slot: whose gradient it is, or -1."""

    shape: tuple[int, ...]
    dtype: Any
    size_bytes: int
    kind: str
    layout: Layout
    slot: int = -1


@final
class Plan:
    """What a program does, as far as it is not Python.

    arrays:   how many its chain takes: of the tensors that are given first, then of those that are made
    requests: for memory; in between numbers of tensors that are given back
    chain:    its kernels; None if it has none
    written:  numbers of the tensors whose writes are counted
    parts:    of what it returns: (number of a tensor, its shape if that is another), or (-1, what is no tensor)
    lent:     slots that the gradient itself is lent to: (number of a slot, the shape it takes if that is another)
    """

    __slots__ = ("_accounts", "arrays", "chain", "lent", "parts", "requests", "written")

    def __init__(self, arrays: int, requests: list[Request | int], chain: Any, written: list[int]) -> None:
        self.arrays = arrays
        self.requests = requests
        self.chain = chain
        self.written = written
        self.parts: list[tuple[int, Any]] = []
        self.lent: list[tuple[int, Any]] = []
        self._accounts: dict[str, list[Any]] = {}  # by module path: of each request

    def take(self, tensors: list[Any], arrays: list[Any], slots: Sequence[Any] = ()) -> None:
        """All but the kernels: take memory and give it back. `arrays` get those of all tensors, which its chain takes.

        Tensors that are made are appended to those that are given. What is given back may be taken again before the
        kernels run, by those whose kernels run after them.
        """
        arrays += [tensor._array if not tensor._block.dead else tensor.array for tensor in tensors]
        mine = state.__dict__
        arena, path = mine["scratch"].get(devices.cpu) or memory.scratch(devices.cpu), mine["path"]
        accounts = self._accounts.get(path) or self._open(path)
        for request, account in zip(self.requests, accounts):  # noqa: B905 (as many)
            if account is not None:
                shape, dtype, size_bytes, _, layout, _ = request  # type: ignore[misc]
                made = arena.make(shape, dtype, size_bytes, account)
                made._layout = layout
            elif isinstance(request, int):
                made = tensors[request] = None  # the last that holds it, so that it is given back here
                continue
            else:
                slots[request.slot].allocate()
                made = slots[request.slot].tensor
            tensors.append(made)
            arrays.append(made._array)
        for number in self.written:
            tensors[number]._block.version += 1

    def _open(self, path: str) -> list[Any]:
        """The accounts of requests that are scratch memory of a module."""
        account = devices.cpu.ledger.account
        found = [
            account(request.kind, path) if isinstance(request, Request) and request.slot < 0 else None
            for request in self.requests
        ]
        self._accounts[path] = found
        return found

    def give(self, tensors: list[Any], slots: Sequence[Any]) -> None:
        """Give slots their share of a gradient, which is the first of the tensors.

        Raises: MemoryError; slots that were empty are so again.
        """
        arrays: list[Any] = []
        try:
            self.share_out(tensors, arrays, slots)
            run(() if self.chain is None else (self.chain,), arrays)
        except BaseException:
            for number in self.taken:
                slots[number].drop()
            tensors.clear()
            raise

    def share_out(self, tensors: list[Any], arrays: list[Any], slots: Sequence[Any]) -> None:
        """The same but for the kernels; see `take`."""
        self.take(tensors, arrays, slots)
        for number, shape in self.lent:
            slots[number].share(tensors[0] if shape is None else tensors[0].view(shape))

    @property
    def taken(self) -> list[int]:
        """Numbers of the slots that have no gradient before."""
        return [request.slot for request in self.requests if isinstance(request, Request) and request.slot >= 0]

    def returned(self, tensors: list[Any]) -> list[Any]:
        """What the program returns."""
        return [
            other if number < 0 else tensors[number] if other is None else tensors[number].view(other)
            for number, other in self.parts
        ]


def run(chains: Iterable[Any], arrays: list[Any]) -> None:
    """Run the kernels of gradients."""
    given = tuple(arrays)
    for chain in chains:
        if not chain(given):
            raise RuntimeError("a plan of a gradient: a kernel failed, which did not when the plan was made")
