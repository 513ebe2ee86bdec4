"""The ledger as text and as a dict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from ownt.ledger import KINDS, ledger

if TYPE_CHECKING:
    from ownt.arena import Arena


def human_bytes(size_bytes: int) -> str:
    """1234567 -> '1.23 MB'. Decimal units: 1 MB is 1,000,000 bytes."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(size_bytes) >= scale:
            return f"{size_bytes / scale:.2f} {unit}"
    return f"{size_bytes} B"


@dataclass(frozen=True)
class ArenaStatistics:
    """Units: bytes. `fragmented` is free memory outside the largest free run."""

    device: str
    used: int
    peak: int
    capacity: int
    blocks: int
    fragmented: int

    @classmethod
    def of(cls, arena: Arena) -> ArenaStatistics:
        free = [size for _, size in arena.addresses()]
        fragmented = sum(free) - max(free, default=0)
        return cls(arena.device.name, arena.used, arena.peak, arena.capacity, arena.blocks, fragmented)


@final
@dataclass(frozen=True)
class Report:
    """Bytes by kind and by module path, live and at the peak, with the arenas they lie in.

    live, peak:   {kind: {module path: bytes}}
    resident:     bytes of the whole process in physical memory
    """

    live: dict[str, dict[str, int]]
    peak: dict[str, dict[str, int]]
    arenas: list[ArenaStatistics]
    resident: int

    @classmethod
    def now(cls, arenas: list[Arena], resident: int) -> Report:
        tables = [_by_kind_and_path(ledger.by_account(at_peak)) for at_peak in (False, True)]
        return cls(tables[0], tables[1], [ArenaStatistics.of(arena) for arena in arenas], resident)

    def by_kind(self, at_peak: bool = False) -> dict[str, int]:
        """Bytes by kind."""
        table = self.peak if at_peak else self.live
        return {kind: sum(paths.values()) for kind, paths in table.items()}

    def by_module(self, at_peak: bool = False, depth: int = 2) -> dict[str, int]:
        """Bytes by module path, cut to its first `depth` names; '' holds what belongs to no module."""
        table = self.peak if at_peak else self.live
        totals: dict[str, int] = {}
        for paths in table.values():
            for path, size_bytes in paths.items():
                short = ".".join(path.split(".")[:depth])
                totals[short] = totals.get(short, 0) + size_bytes
        return totals

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain dicts, lists and integers; `live_bytes` and `peak_bytes` are the totals."""
        totals = {"live_bytes": sum(self.by_kind().values()), "peak_bytes": sum(self.by_kind(at_peak=True).values())}
        kinds = {"by_kind": self.by_kind(), "by_kind_at_peak": self.by_kind(at_peak=True)}
        modules = {"by_module": self.by_module(), "by_module_at_peak": self.by_module(at_peak=True)}
        return totals | kinds | modules | asdict(self)

    def __str__(self) -> str:
        lines = _table("kind", self.by_kind(), self.by_kind(at_peak=True), total=True)
        lines += ["", *_table("module", _named(self.by_module()), _named(self.by_module(at_peak=True)))]
        lines.append("")
        for arena in self.arenas:
            lines.append(
                f"scratch on {arena.device}: {human_bytes(arena.used)} used in {arena.blocks} blocks, "
                f"{human_bytes(arena.peak)} at the peak, {human_bytes(arena.capacity)} in chunks, "
                f"{human_bytes(arena.fragmented)} fragmented"
            )
        lines.append(f"process: {human_bytes(self.resident)} resident, interpreter and libraries included")
        return "\n".join(lines)


def _by_kind_and_path(accounts: dict[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for (kind, path), size_bytes in accounts.items():
        table[kind][path] = size_bytes
    return table


def _named(modules: dict[str, int]) -> dict[str, int]:
    return {path or "(no module)": size_bytes for path, size_bytes in modules.items()}


def _table(title: str, live: dict[str, int], peak: dict[str, int], total: bool = False) -> list[str]:
    names = list(live | peak)
    width = max(12, *(len(name) for name in names)) if names else 12
    rows = [(name, live.get(name, 0), peak.get(name, 0)) for name in names]
    if total:
        rows.append(("total", sum(live.values()), sum(peak.values())))
    head = f"{title:<{width}}  {'live':>12}  {'at the peak':>12}"
    return [head, *(f"{n:<{width}}  {human_bytes(a):>12}  {human_bytes(b):>12}" for n, a, b in rows)]
