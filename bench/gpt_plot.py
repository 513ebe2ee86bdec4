"""The figure of bench/train_gpt.py: milliseconds a step, a panel for each size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAMES = {
    "ownt-step": "ownt, nn.Step",
    "ownt": "ownt, plain loop",
    "torch": "PyTorch",
    "torch-compile": "PyTorch, compiled",
    "jax": "JAX",
}
OURS, PEERS, INK = "#2563a8", "#b9c0c8", "#333333"


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Write the figure, in the format that the file's name ends in."""
    from matplotlib.figure import Figure

    configs = list(dict.fromkeys(result["config"] for result in results))
    frameworks = [name for name in NAMES if any(result["framework"] == name for result in results)]
    figure = Figure(figsize=(2.3 * len(configs) + 1.5, 0.34 * len(frameworks) + 0.5), facecolor="white")
    panels = figure.subplots(1, len(configs), squeeze=False)[0]
    for panel, config in zip(panels, configs, strict=True):
        times = {result["framework"]: 1e3 * result["median_s"] for result in results if result["config"] == config}
        _panel(panel, config, [(name, times.get(name)) for name in reversed(frameworks)])
    panels[0].set_yticks(range(len(frameworks)), [NAMES[name] for name in reversed(frameworks)], color=INK)
    figure.tight_layout()
    figure.savefig(path)


def _panel(panel: Any, config: str, times: list[tuple[str, float | None]]) -> None:
    colours = [OURS if name.startswith("ownt") else PEERS for name, _ in times]
    bars = panel.barh(range(len(times)), [time or 0 for _, time in times], color=colours)
    panel.bar_label(bars, [_label(time) for _, time in times], padding=3, fontsize=8, color=INK)
    panel.set_title(f"{config}, ms a step", fontsize=10, color=INK)
    panel.margins(x=0.25)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[["top", "right", "bottom"]].set_visible(False)


def _label(time: float | None) -> str:
    """Three digits, or all before the point; nothing where nothing was measured."""
    return "" if time is None else f"{time:.3g}" if time < 100 else f"{time:,.0f}"
