"""The memory of a training step as one page of HTML, or of two steps beside each other.

The page is complete in itself: it asks for nothing over a network, and what the runs say is shown as text only.
"""

from __future__ import annotations

import html
import json
import os
import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

SCRIPTS = ("data", "view", "raster", "draw", "overview", "timeline", "keys", "tables", "tree", "text", "main")
TEXTS = ("path", "op", "shape", "line", "name")  # columns of indices into a run's strings
COLUMNS = ("start", "end", "bytes", "kind", *TEXTS)


def write(path: str | os.PathLike[str], runs: list[dict[str, Any]]) -> None:
    """Write the page of one run, or of two to compare.

    Raises: ValueError for another number of runs, and for a run whose parts do not fit together.
    """
    if not 1 <= len(runs) <= 2:
        raise ValueError(f"memory page: expected 1 run, or 2 to compare; got {len(runs)}")
    for run in runs:
        _check(run)
    Path(path).write_text(_page(runs), "utf-8")


def _page(runs: list[dict[str, Any]]) -> str:
    style = _read("memory.css")
    script = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    parts = {
        "policy": _policy(style, script),
        "title": html.escape(" · ".join(run["title"] or "untitled" for run in runs)),
        "style": style,
        "script": script,
        "runs": _json(runs),
    }
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], _read("memory.html"))


def _read(name: str) -> str:
    return (files("ownt") / "web" / name).read_text("utf-8")


def _json(runs: list[dict[str, Any]]) -> str:
    """JSON in which nothing can end the script element that holds it."""
    return json.dumps(runs, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _policy(style: str, script: str) -> str:
    """The browser runs this script and this style, and loads nothing else, whatever the data are."""
    style_hash, script_hash = (b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    sources = {
        "default": "'none'",
        "style": f"'sha256-{style_hash}'",
        "script": f"'sha256-{script_hash}'",
        "img": "data:",
    }
    rules = [f"{name}-src {source}" for name, source in sources.items()]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _check(run: dict[str, Any]) -> None:
    blocks, times, title = run["blocks"], run["times"], run["title"]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise ValueError(f"memory page: expected times that ascend; those of run {title!r} do not")
    lengths = {column: len(blocks[column]) for column in COLUMNS}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"memory page: expected columns of one length; got {lengths} in run {title!r}")
    limits = {"start": (-1, len(times)), "end": (-1, len(times)), "kind": (0, len(run["kinds"])), "bytes": (0, 1 << 53)}
    limits |= dict.fromkeys(TEXTS, (0, len(run["strings"])))
    for column, (low, high) in limits.items():
        wrong = [value for value in blocks[column] if not low <= value < high]
        if wrong:
            raise ValueError(f"memory page: expected {column} of {low}..{high - 1}; got {wrong[0]} in run {title!r}")
