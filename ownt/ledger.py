"""The ledger: who holds which bytes, by kind and by module path, now and at the peak."""

from __future__ import annotations

import threading
from typing import Any, final

KINDS = ("parameter", "gradient", "optimizer", "buffer", "activation", "workspace")


@final
class Account:
    """Bytes of one kind held by one module path, in a ledger."""

    __slots__ = ("kind", "ledger", "live", "path")

    def __init__(self, ledger: Ledger, kind: str, path: str) -> None:
        self.ledger = ledger
        self.kind = kind
        self.path = path
        self.live = 0


@final
class Ledger:
    """Every Block of a device books its bytes here when it is made and takes them back when it dies.

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
        self.timeline: Any = None  # the ownt.timeline.Timeline that is recorded; told of blocks
        self.logs: dict[int, Log] = {}  # by thread: those told of what it adds and subtracts
        self._lock = threading.RLock()  # re-entrant: a garbage collection inside may free a Block

    def account(self, kind: str, path: str) -> Account:
        """The account of `kind` and `path`, opened at its first use.

        Raises: ValueError for an unknown kind.
        """
        found = self._accounts.get((kind, path))
        if found is None:
            if kind not in KINDS:
                raise ValueError(f"unknown kind of memory {kind!r}: expected one of {', '.join(KINDS)}")
            found = self._accounts.setdefault((kind, path), Account(self, kind, path))
        return found

    def add(self, account: Account, size_bytes: int) -> None:
        self._lock.acquire()  # not `with`, which takes longer than the rest
        try:
            account.live += size_bytes
            self.live += size_bytes
            if self.live > self.peak:
                self.peak = self.live
                self._rising = True
            if self.logs:
                self._note(account, size_bytes)
        finally:
            self._lock.release()

    def subtract(self, account: Account, size_bytes: int) -> None:
        self._lock.acquire()
        try:
            if self._rising:
                self._keep_peak()
            account.live -= size_bytes
            self.live -= size_bytes
            if self.logs:
                self._note(account, -size_bytes)
        finally:
            self._lock.release()

    def visit(self, accounts: dict[Account, int], size_bytes: int) -> None:
        """Count bytes by account, so many in all, as if they were added and subtracted again."""
        with self._lock:
            if self.live + size_bytes > self.peak:
                self.peak = self.live + size_bytes
                self._keep_peak()
                for account, more in accounts.items():
                    key = account.kind, account.path
                    self._at_peak[key] = self._at_peak.get(key, 0) + more

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

    def _note(self, account: Account, size_bytes: int) -> None:
        log = self.logs.get(threading.get_ident())
        if log is not None:
            log.events.append((account, size_bytes))

    def _keep_peak(self) -> None:
        self._at_peak = self._snapshot()
        self._rising = False

    def _snapshot(self) -> dict[tuple[str, str], int]:
        return {key: account.live for key, account in list(self._accounts.items()) if account.live}


@final
class Log:
    """What this thread adds to a ledger and subtracts inside, in order: `with Log(ledger) as log: ...`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.events: list[tuple[Account, int]] = []

    def __enter__(self) -> Log:
        self._outer = self.ledger.logs.get(threading.get_ident())
        self.ledger.logs[threading.get_ident()] = self
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is None:
            del self.ledger.logs[threading.get_ident()]
        else:
            self.ledger.logs[threading.get_ident()] = self._outer

    def peak(self, kinds: tuple[str, ...]) -> dict[Account, int]:
        """Bytes of some kinds by account when there were most of them."""
        live: dict[Account, int] = {}
        peak: dict[Account, int] = {}
        total = most = 0
        rising = False
        for account, size_bytes in self.events:
            if account.kind not in kinds:
                continue
            if rising and size_bytes < 0:
                peak, rising = dict(live), False
            live[account] = live.get(account, 0) + size_bytes
            total += size_bytes
            if total > most:
                most, rising = total, True
        return {account: count for account, count in (live if rising else peak).items() if count}


ledger = Ledger()  # the CPU's
