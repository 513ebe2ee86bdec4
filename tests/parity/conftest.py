"""How much was compared, at the end of a run."""

from __future__ import annotations

from torch_functions import compared


def pytest_terminal_summary(terminalreporter):
    if compared:
        terminalreporter.write_line(f"{compared.total()} comparisons with torch, of {len(compared)} ops")
        terminalreporter.write_line(", ".join(f"{name} {count}" for name, count in sorted(compared.items())))
