"""What bench/train_gpt.py prints of its results."""

from __future__ import annotations

from typing import Any

from gpt_peers import PEERS


def show(results: list[Any], worst: float, checked: int) -> None:
    head = f"{'':<46} {'ms/step':>9} {'10-90 %':>17} {'tokens/s':>10} {'resident':>9} {'heap':>9} {'first step':>11}"
    print(head)
    for r in results:
        name = f"{r.framework} ({r.variant})" if r.variant else r.framework
        low, high = (f"{1e3 * s:.4g}" for s in r.deciles_s)
        print(
            f"{name:<46} {1e3 * r.median_s:>9.4g} {f'{low}-{high}':>17} {r.tokens_per_s:>10,.0f} "
            f"{megabytes(r.resident_peak_bytes):>9} {megabytes(r.heap_peak_bytes):>9} {r.first_step_s:>9.2f} s"
        )
    for line in ratios(results):
        print(line)
    if len(results) > 1:
        print(f"losses of the first {checked} steps agree to {worst:.0e}", flush=True)


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.1f} MB"


def ratios(results: list[Any]) -> list[str]:
    """How much longer the best peer's step takes, and what part of PyTorch's heap is needed."""
    ours = [r for r in results if r.framework not in PEERS]
    peers = [r for r in results if r.framework in PEERS]
    lines = []
    if peers:
        best = min(peers, key=lambda r: r.median_s)
        found = ", ".join(f"{r.framework} {best.median_s / r.median_s:.2f}x" for r in ours)
        lines.append(f"step time, the best peer's ({best.framework}) over ours: {found}")
    for peer in peers:
        if peer.framework == "torch" and peer.heap_peak_bytes:
            found = ", ".join(f"{r.framework} {(r.heap_peak_bytes or 0) / peer.heap_peak_bytes:.2f}" for r in ours)
            lines.append(f"heap at the peak, ours over PyTorch's: {found}")
    return lines
