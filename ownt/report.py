"""The ledger as text, as a dict, and as a page."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, final

from ownt.ledger import KINDS, Ledger
from ownt.timeline import Held, Timeline

if TYPE_CHECKING:
    from ownt.arena import Arena

_LARGEST = 10  # holders that are shown
_DEPTH = 2  # names of a module's path that are shown


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


Table = dict[str, dict[str, int]]  # {kind: {module path: bytes}}


@final
@dataclass(frozen=True)
class Report:
    """Bytes by kind and by module path, live and at the peak, with the arenas they lie in.

    live, peak: {kind: {module path: bytes}}
    resident:   bytes of the whole process in physical memory; 0 if unknown
    occupied:   bytes of a GPU by who took them: "pool_used" and "pool" for what models keep, in units of 512 bytes,
                "cupy" CuPy's own pool, "device" all programs
    timeline:   of a recording, whose peak it is then; None if there was none
    note:       what is to be said of the device
    """

    live: Table
    peak: Table
    arenas: list[ArenaStatistics]
    resident: int
    timeline: Timeline | None = None
    occupied: dict[str, int] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def of(cls, ledger: Ledger, arenas: list[Arena], resident: int, occupied: dict[str, int], note: str = "") -> Report:
        """The report of now."""
        live, peak = (_by_kind_and_path(ledger.by_account(at_peak)) for at_peak in (False, True))
        return cls(live, peak, [ArenaStatistics.of(arena) for arena in arenas], resident, None, occupied, note)

    def recorded_by(self, timeline: Timeline) -> Report:
        """The same with the peak of a recording that has just ended."""
        accounts: dict[tuple[str, str], int] = {}
        for held in timeline.at(timeline.peak()):
            key = held.kind, held.path
            accounts[key] = accounts.get(key, 0) + held.bytes
        peak = _by_kind_and_path(accounts)
        return dataclasses.replace(self, peak=peak, timeline=timeline)

    @property
    def live_bytes(self) -> int:
        """Of all kinds."""
        return sum(self.by_kind().values())

    @property
    def peak_bytes(self) -> int:
        """Of all kinds, when there were most."""
        return sum(self.by_kind(at_peak=True).values())

    def by_kind(self, at_peak: bool = False) -> dict[str, int]:
        """Bytes by kind."""
        table = self.peak if at_peak else self.live
        return {kind: sum(paths.values()) for kind, paths in table.items()}

    def by_module(self, at_peak: bool = False, depth: int = _DEPTH) -> dict[str, int]:
        """Bytes by module path, cut to its first `depth` names; '' holds what belongs to no module."""
        table = self.peak if at_peak else self.live
        totals: dict[str, int] = {}
        for paths in table.values():
            for path, size_bytes in paths.items():
                short = ".".join(path.split(".")[:depth])
                totals[short] = totals.get(short, 0) + size_bytes
        return totals

    def largest(self, count: int = _LARGEST) -> list[Held]:
        """Who held most at the peak of the recording, the largest first; nobody if there was none."""
        return [] if self.timeline is None else self.timeline.at(self.timeline.peak())[:count]

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain dicts, lists and integers; `live_bytes` and `peak_bytes` are the totals."""
        kinds = {"by_kind": self.by_kind(), "by_kind_at_peak": self.by_kind(at_peak=True)}
        modules = {"by_module": self.by_module(), "by_module_at_peak": self.by_module(at_peak=True)}
        tables: dict[str, Any] = {
            "live": self.live,
            "peak": self.peak,
            "arenas": [asdict(arena) for arena in self.arenas],
        }
        totals = {"live_bytes": self.live_bytes, "peak_bytes": self.peak_bytes, "resident": self.resident}
        tables |= {"occupied": self.occupied, "note": self.note}
        return totals | kinds | modules | tables | {"largest": [held.as_dict() for held in self.largest()]}

    def to_html(self, path: str | os.PathLike[str], other: Report | None = None) -> None:
        """Write the recording to a page that needs nothing but itself; beside another's to compare them.

        Raises: ValueError if there is no recording.
        """
        from ownt import page

        page.write(path, [report._run() for report in (self, other) if report is not None])

    def _run(self) -> dict[str, Any]:
        """What the page is made of."""
        if self.timeline is None:
            raise ValueError(
                "to_html: expected the report of a recording; got one of now. "
                "Use `with ownt.memory.record() as timeline: ...` and timeline.report"
            )
        device = self.arenas[0].device if self.arenas else "cpu"
        rest = {"device": device, "resident_bytes": self.resident, "arenas": [asdict(arena) for arena in self.arenas]}
        return self.timeline.as_dict() | rest

    def __str__(self) -> str:
        lines = _table("kind", [(kind, self.by_kind()[kind], at) for kind, at in self.by_kind(at_peak=True).items()])
        lines += [_row("total", self.live_bytes, self.peak_bytes, 12), ""]
        lines += _table("module", self._tree())
        lines += ["", *self._instant()]
        for arena in self.arenas:
            lines.append(
                f"scratch on {arena.device}: {human_bytes(arena.used)} used in {arena.blocks} blocks, "
                f"{human_bytes(arena.peak)} at the peak, {human_bytes(arena.capacity)} in chunks, "
                f"{human_bytes(arena.fragmented)} fragmented"
            )
        if self.occupied:
            lines.append(self._occupied())
        if self.resident:
            rest = human_bytes(max(0, self.resident - self.live_bytes))
            lines.append(
                f"process: {human_bytes(self.resident)} resident, {rest} of it interpreter, libraries and code"
            )
        return "\n".join([*lines, *filter(None, [self.note])])

    def _occupied(self) -> str:
        """Who holds the memory of a GPU; the rest is CUDA's context, libraries, other threads and other programs."""
        found = {name: human_bytes(size) for name, size in self.occupied.items()}
        taken = self.occupied["pool"] + self.occupied["cupy"] + sum(arena.capacity for arena in self.arenas)
        return (
            f"device: {found['pool_used']} for models, in units of 512 bytes, of {found['pool']} in their pool, "
            f"{found['cupy']} in CuPy's own; {found['device']} in use by all, "
            f"{human_bytes(self.occupied['device'] - taken)} of it context, libraries and others"
        )

    def _tree(self) -> list[tuple[str, int, int]]:
        """(name, live, at the peak) of modules like files in folders, a folder's bytes with all that is in it."""
        live, peak = self.by_module(), self.by_module(at_peak=True)
        rows: dict[str, list[int]] = {}
        for column, totals in enumerate((live, peak)):
            for path, size_bytes in totals.items():
                names = path.split(".") if path else ["(no module)"]
                for depth in range(len(names)):
                    rows.setdefault(".".join(names[: depth + 1]), [0, 0])[column] += size_bytes
        children: dict[str, list[str]] = {}
        for path in rows:
            children.setdefault(path.rpartition(".")[0], []).append(path)
        return _indented(rows, children, "", 0)

    def _instant(self) -> list[str]:
        """When the peak was, and who held most then."""
        if self.timeline is None:
            return []
        event = self.timeline.peak()
        moment = self.timeline.times[event] if event >= 0 else 0.0
        phase = self.timeline.phase(event)
        when = f"event {event + 1} of {len(self.timeline.times)}, {1e3 * moment:.2f} ms"
        lines = [f"peak: {human_bytes(self.peak_bytes)} at {when}{', in ' * bool(phase)}{phase}; the largest then:"]
        for held in self.largest():
            parts = (held.path or held.name, held.op, held.text, held.line)
            lines.append(f"{human_bytes(held.bytes):>12}  {held.kind:<10}  {'  '.join(part for part in parts if part)}")
        return [*lines, ""]


def _indented(
    rows: dict[str, list[int]], children: dict[str, list[str]], parent: str, depth: int
) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    for path in children.get(parent, []):
        live, peak = rows[path]
        found.append(("  " * depth + path.rpartition(".")[2], live, peak))
        found += _indented(rows, children, path, depth + 1)
    return found


def _by_kind_and_path(accounts: dict[tuple[str, str], int]) -> Table:
    table: Table = {kind: {} for kind in KINDS}
    for (kind, path), size_bytes in accounts.items():
        table[kind][path] = size_bytes
    return table


def _row(name: str, live: int, peak: int, width: int) -> str:
    return f"{name:<{width}}  {human_bytes(live):>12}  {human_bytes(peak):>12}"


def _table(title: str, rows: list[tuple[str, int, int]]) -> list[str]:
    width = max(12, *(len(name) for name, _, _ in rows)) if rows else 12
    head = f"{title:<{width}}  {'live':>12}  {'at the peak':>12}"
    return [head, *(_row(name, live, peak, width) for name, live, peak in rows)]
