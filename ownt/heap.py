"""Blocks of memory, and the heap, where a model's come from.

What a model keeps (parameters, optimizer state, gradients) are heap allocations of exact size, one for each tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from ownt import device as devices
from ownt import tensor
from ownt.ledger import Account
from ownt.thread import state

if TYPE_CHECKING:
    from ownt.arena import Arena


@final
class Block:
    """One run of bytes: what it is for, who holds it, how often it was written.

    version: counts in-place writes, so that backward can tell that a saved tensor has changed
    holders: gradient slots that share it; a slot that is not alone copies before it writes
    dead:    its memory was reclaimed; tensors on it may not be read
    recipe:  a weak reference to how its numbers can be made again; see ag.remake
    """

    __slots__ = (
        "__weakref__",
        "account",
        "dead",
        "holders",
        "name",
        "nbytes",
        "offset",
        "op",
        "recipe",
        "serial",
        "size",
        "source",
        "version",
    )

    def __init__(
        self,
        source: Heap | Arena | None,
        nbytes: int,
        account: Account,
        name: str = "",
        offset: int = 0,
        size: int = 0,
        serial: int = 0,
    ) -> None:
        self.source = source  # what it goes back to; None for memory that somebody else owns
        self.nbytes = nbytes
        self.account = account
        self.name = name
        self.op = state.op
        self.recipe = None
        self.offset = offset  # where it lies in an arena, and what it takes up there
        self.size = size
        self.serial = serial  # the number of its request in that arena
        self.version = 0
        self.holders = 0
        self.dead = False
        account.ledger.add(account, nbytes)

    def __del__(self) -> None:
        source = self.source
        if source is not None and not self.dead:
            source.release(self)

    def rebook(self, kind: str, path: str) -> None:
        """Book these bytes under another kind and module path, as when a tensor becomes a parameter."""
        ledger = self.account.ledger
        account = ledger.account(kind, path)
        ledger.move(self.account, account, self.nbytes)
        self.account = account
        if ledger.timeline is not None:
            ledger.timeline.rebooked(self)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        made = f", made by {self.op}" if self.op else ""
        place = f" in {self.account.path}" if self.account.path else ""
        return f"{self.account.kind}{name} of {self.nbytes:,} bytes{made}{place}"


@final
class Heap:
    """Memory for a model: each tensor an allocation of its own, of exact size."""

    def __init__(self, device: devices.Device) -> None:
        self.device = device

    def empty(self, shape: tuple[int, ...], dtype: Any, kind: str, path: str = "", name: str = "") -> tensor.Tensor:
        array = self.device.empty(shape, dtype)
        account = self.device.ledger.account(kind, path)
        block = Block(self, array.nbytes, account, name)
        if account.ledger.timeline is not None:
            account.ledger.timeline.made(block, shape, array.dtype)
        made = tensor.wrap(array, block)
        if state.recording is not None:
            state.recording.keep(made)
        return made

    def release(self, block: Block) -> None:
        """A block has died."""
        ledger = block.account.ledger
        ledger.subtract(block.account, block.nbytes)
        if ledger.timeline is not None:
            ledger.timeline.freed(block)
