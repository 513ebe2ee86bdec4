"""The CUDA sources of the packages, each found beside its binders."""

from __future__ import annotations

import importlib
from pathlib import Path

from ownt.cuda_source import Source

ROOT = Path(__file__).parents[2]


def source_of(path: Path) -> Source:
    """The Source by which the binders of `<file>_cuda.py` launch what is in `<file>.cu`.

    Raises: AssertionError if there is none.
    """
    name = path.with_name(f"{path.stem}_cuda").relative_to(ROOT).as_posix().replace("/", ".")
    module = importlib.import_module(name)
    found = [value for value in vars(module).values() if isinstance(value, Source) and value.path == path]
    assert found, f"{path.name}: expected a Source(__file__) in {name}"
    return found[0]


PATHS = sorted(path for package in ("ownt", "ag", "nn") for path in (ROOT / package).rglob("*.cu"))
SOURCES = {path.name: source_of(path) for path in PATHS}
