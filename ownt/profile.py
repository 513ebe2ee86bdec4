"""profile: where the time of a stretch of code goes, kernel by kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from ownt import device as devices
from ownt.launch import Launch, Watch
from ownt.thread import state


@final
@dataclass
class Row:
    """What the launches of one kernel took.

    Units: seconds, bytes read and written, operations of arithmetic (0 where the kernel does not say).
    """

    name: str
    count: int = 0
    time_s: float = 0.0
    traffic_bytes: int = 0
    operations: int = 0


@final
class profile:
    """Time every launch of this thread: `with ownt.profile() as profiled: ...`, then `print(profiled)`.

    Forward, backward, optimizers and replays alike. Whatever is no launch (Python, memory, reading values) is "other".
    Asking for the time costs about a microsecond a launch.
    """

    def __init__(self) -> None:
        self.total_s = 0.0
        self._rows: dict[tuple[str, str], Row] = {}  # by kernel and module path
        self._outer: list[tuple[Watch | None, float]] = []  # who watched before, and since when this does

    def __enter__(self) -> profile:
        self._outer.append((state.launch, time.perf_counter()))
        state.launch = partial(self._run, state.launch)
        return self

    def __exit__(self, *_: object) -> None:
        state.launch, began = self._outer.pop()
        if not self._outer:
            self.total_s += time.perf_counter() - began

    def _run(self, outer: Watch | None, launch: Launch) -> None:
        began = time.perf_counter()
        launch.run(outer)
        for tensor in launch.written[:1]:  # which are all on one device
            devices.of(tensor.array).synchronize()
        took_s = time.perf_counter() - began
        key = launch.name, launch.path
        row = self._rows.get(key) or self._rows.setdefault(key, Row(launch.name))
        row.count += 1
        row.time_s += took_s
        row.traffic_bytes += launch.traffic
        row.operations += launch.operations

    @property
    def rows(self) -> list[Row]:
        """A row for each kernel, the longest first."""
        return self._grouped({key: key[0] for key in self._rows})

    def by_module(self, depth: int = 2) -> list[Row]:
        """A row for each module path, cut to its first `depth` names; "" is what belongs to no module."""
        return self._grouped({key: ".".join(key[1].split(".")[:depth]) for key in self._rows})

    def _grouped(self, names: dict[tuple[str, str], str]) -> list[Row]:
        found: dict[str, Row] = {}
        for key, row in self._rows.items():
            total = found.setdefault(names[key], Row(names[key]))
            total.count += row.count
            total.time_s += row.time_s
            total.traffic_bytes += row.traffic_bytes
            total.operations += row.operations
        return sorted(found.values(), key=lambda row: -row.time_s)

    def as_dict(self) -> dict[str, Any]:
        """The rows in plain lists, dicts and numbers."""
        return {"total_s": self.total_s, "kernels": [vars(row) for row in self.rows]}

    def __str__(self) -> str:
        rows = self.rows
        width = max(12, *(len(row.name) for row in rows)) if rows else 12
        units = f"{'count':>8}  {'ms':>10}  {'share':>6}  {'MB':>10}  {'GB/s':>7}  {'GFLOP/s':>8}"
        lines = [f"{'kernel':<{width}}  {units}"]
        for row in rows:
            speed = f"{row.operations / row.time_s / 1e9:8.1f}" if row.operations else f"{'':>8}"
            lines.append(
                f"{row.name:<{width}}  {row.count:>8,}  {row.time_s * 1e3:10.3f}  {self._share(row.time_s)}  "
                f"{row.traffic_bytes / 1e6:10.2f}  {row.traffic_bytes / row.time_s / 1e9:7.1f}  {speed}"
            )
        other_s = self.total_s - sum(row.time_s for row in rows)
        lines.append(f"{'other':<{width}}  {'':>8}  {other_s * 1e3:10.3f}  {self._share(other_s)}")
        lines.append(f"{'total':<{width}}  {sum(row.count for row in rows):>8,}  {self.total_s * 1e3:10.3f}")
        return "\n".join(lines)

    def _share(self, time_s: float) -> str:
        return f"{100 * time_s / self.total_s if self.total_s else 0:5.1f}%"
