"""The ledger: who holds which bytes, by kind and by module path, now and at the peak."""

from __future__ import annotations

import threading
from typing import final

KINDS = ("parameter", "gradient", "optimizer", "buffer", "activation", "workspace")


@final
class Account:
    """Bytes of one kind held by one module path."""

    __slots__ = ("kind", "live", "path")

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self.path = path
        self.live = 0


@final
class Ledger:
    """Every Block books its bytes here when it is made and takes them back when it dies.

    The peak's breakdown is copied when the total first falls after a new maximum, so a rising run of
    allocations costs nothing extra.

    Units: bytes, as asked for; what an arena rounds up shows in its `used`.
    """

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0
        self._accounts: dict[tuple[str, str], Account] = {}
        self._at_peak: dict[tuple[str, str], int] = {}
        self._rising = False
        self._lock = threading.RLock()  # re-entrant: a garbage collection inside may free a Block

    def account(self, kind: str, path: str) -> Account:
        """The account of `kind` and `path`, opened at its first use.

        Raises: ValueError for an unknown kind.
        """
        found = self._accounts.get((kind, path))
        if found is None:
            if kind not in KINDS:
                raise ValueError(f"unknown kind of memory {kind!r}: expected one of {', '.join(KINDS)}")
            found = self._accounts.setdefault((kind, path), Account(kind, path))
        return found

    def add(self, account: Account, size_bytes: int) -> None:
        with self._lock:
            account.live += size_bytes
            self.live += size_bytes
            if self.live > self.peak:
                self.peak = self.live
                self._rising = True

    def subtract(self, account: Account, size_bytes: int) -> None:
        with self._lock:
            if self._rising:
                self._keep_peak()
            account.live -= size_bytes
            self.live -= size_bytes

    def move(self, source: Account, target: Account, size_bytes: int) -> None:
        """Book bytes under another account; the total stays as it is."""
        with self._lock:
            source.live -= size_bytes
            target.live += size_bytes

    def by_account(self, at_peak: bool = False) -> dict[tuple[str, str], int]:
        """Bytes by (kind, path), those accounts that hold any."""
        with self._lock:
            if at_peak and not self._rising:
                return dict(self._at_peak)
            return self._snapshot()

    def by_kind(self, at_peak: bool = False) -> dict[str, int]:
        """Bytes by kind, every kind listed."""
        totals = dict.fromkeys(KINDS, 0)
        for (kind, _), size_bytes in self.by_account(at_peak).items():
            totals[kind] += size_bytes
        return totals

    def reset_peak(self) -> None:
        """Begin a new peak at what is live now."""
        with self._lock:
            self.peak = self.live
            self._keep_peak()

    def _keep_peak(self) -> None:
        self._at_peak = self._snapshot()
        self._rising = False

    def _snapshot(self) -> dict[tuple[str, str], int]:
        return {key: account.live for key, account in list(self._accounts.items()) if account.live}


ledger = Ledger()
