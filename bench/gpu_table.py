"""The table that bench/gpu.sh prints last, and its look at what is installed.

python bench/gpu_table.py check [--dry-run]
python bench/gpu_table.py table FOLDER
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import json
import platform
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpt_sizes import ALL_SIZES

NEEDED = {
    "numpy": "numpy", "scipy": "scipy", "numba": "numba", "ml_dtypes": "ml_dtypes", "safetensors": "safetensors",
    "rich": "rich", "pytest": "pytest",
}  # fmt: skip
ON_A_GPU = {"cupy": "cupy-cuda13x (or cupy-cuda12x)", "cuda.pathfinder": "cuda-pathfinder"}
WISHED = {"torch": "nothing is compared with PyTorch", "cudnn": "attention and convolution are our own kernels"}
SHOWN = (
    "cupy-cuda13x", "cupy-cuda12x", "torch", "triton", "nvidia-cudnn-frontend", "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12", "nvidia-cublas", "nvidia-cuda-nvrtc", "numpy", "numba", "ml_dtypes",
)  # fmt: skip
PARTS = ("train", "tests", "kernels", "gradients")
PEAK = 989e12  # operations a second, of an H100's or H200's tensor cores, in half precision
FEWEST = 0.8  # of the copied bytes a second, that what memory bounds should reach
MOST_BYTES = 0.7  # of compiled PyTorch's
FEW = 16  # sequences of a batch, up to which a graph's gain should be seen
TARGETS = (
    "Wanted of nn.Step: 1.0x torch.compile's tokens/s, 1.1x up to a batch of 16; 0.7 of its bytes at the peak; of "
    "kernels that memory bounds: 80% of a copy; of gradients: errors of 1e-2 in bfloat16, 1e-4 in float32. Operations "
    "are 6 N + 6 L C T a token."
)
HEAD = ("what", "ms", "rate", "of what is possible", "bytes at the peak", "held", "error", "note")
Row = tuple[str, ...]


def check(dry: bool) -> int:
    """Say which packages are missing; the exit status."""
    needed = NEEDED | ({} if dry else ON_A_GPU)
    missing = [wheel for module, wheel in needed.items() if not _is_there(module)]
    if missing:
        print(f"bench/gpu.sh: expected these wheels to be installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    for module, without in WISHED.items():
        if not _is_there(module):
            print(f"{module} is not installed: {without}")
    if not dry:
        import ownt

        try:
            ownt.device.get("cuda")
        except ownt.DeviceError as error:
            print(f"bench/gpu.sh: {error}", file=sys.stderr)
            return 1
    return 0


def _is_there(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return find_spec(module) is not None
    return False


def table(folder: Path) -> str:
    """All parts, those that failed too, as Markdown."""
    train, kernels = _read(folder, "train"), _read(folder, "kernels")
    rates = next((part["rates"] for part in (train, kernels) if part.get("rates", {}).get("copied_per_s")), {})
    rows: list[Row] = [_part(folder, name) for name in PARTS]
    rows += training(train, rates)
    rows += [_kernel(row, rates, kernels["dtype"]) for row in kernels.get("results", [])]
    rows += [(f"kernel {name}", *[""] * 6, f"failed: {_line(why)}") for name, why in kernels.get("failed", {}).items()]
    rows += [_gradient(row) for row in _read(folder, "gradients").get("results", [])]
    dry = train.get("device", kernels.get("device")) != "cuda"
    lines = [*_about(rates, dry), "", *_commands(folder), "", TARGETS, ""]
    return "\n".join([*lines, _shown(HEAD), "|" + "---|" * len(HEAD), *map(_shown, rows)])


def _commands(folder: Path) -> list[str]:
    """What each part ran."""
    return [
        f"    {file.read_text().strip().replace(str(folder), 'FOLDER')}" for name in PARTS
        if (file := folder / f"{name}.command").exists()
    ]  # fmt: skip


def training(train: dict[str, Any], rates: dict[str, Any]) -> list[Row]:
    """A row for each framework at each size; ours beside the best compiled PyTorch, or the best there is."""
    results = train.get("results", [])
    rows = []
    for row in results:
        what = f"{row['config']}, {train['dtype']}: {row['framework']} {row['variant']}".strip()
        if not row["median_s"]:
            rows.append((what, *[""] * 6, f"failed: {_line(row['failed'])}"))
            continue
        done = row["operations_per_s"]
        product = rates.get("multiplied_per_s")
        possible = f"{done / product:.1%} of a product, " if product else ""
        rate = f"{row['tokens_per_s']:,.0f} tokens/s"
        note = f"failed: {_line(row['failed'])}" if row["failed"] else _beside(row, results)
        rows.append((
            what, f"{1e3 * row['median_s']:.4g}", rate, f"{possible}{done / PEAK:.1%} of 989 TFLOP/s",
            _bytes(row["peak_bytes"]), _bytes(row["held_bytes"]), f"{row['difference']:.1e}", note,
        ))  # fmt: skip
    return rows


def _beside(row: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """Ours against each compiled PyTorch, or each there is: how many times its tokens, and which part of its bytes."""
    if not row["framework"].startswith("ownt"):
        return ""
    peers = [p for p in results if p["config"] == row["config"] and "torch" in p["framework"]]
    peers = [p for p in peers if p["median_s"] and not p["failed"]]
    peers = [p for p in peers if p["framework"] == "torch-compile"] or peers
    return "; ".join(_against(row, peer) for peer in peers)


def _against(row: dict[str, Any], peer: dict[str, Any]) -> str:
    speed = peer["median_s"] / row["median_s"]
    wanted = 0.0 if row["framework"] == "ownt" else 1.1 if ALL_SIZES[row["config"]].batch <= FEW else 1.0
    note = f"{speed:.2f}x {peer['framework']} {peer['variant']}{'' if speed >= wanted else f' (wanted {wanted})'}"
    if not (row["peak_bytes"] and peer["peak_bytes"]):
        return note
    part = row["peak_bytes"] / peer["peak_bytes"]
    return f"{note}, {part:.2f} of its bytes{'' if part <= MOST_BYTES else f' (wanted {MOST_BYTES})'}"


def _kernel(row: dict[str, Any], rates: dict[str, Any], dtype: str) -> Row:
    took = row["median_s"]["ownt"]
    done, unit = (row["moved_bytes"], "GB/s") if row["by_memory"] else (row["operations"], "GFLOP/s")
    share = row["bound_s"] / took
    slow = row["by_memory"] and share < FEWEST
    of = "a copy" if row["by_memory"] else "a product"
    error = "" if row["error"] is None else f"{row['error']:.1e}"
    note = f"below {FEWEST:.0%}" if slow else ""
    what = f"{row['config']}, {dtype}: {row['kernel']}"
    return (what, f"{1e3 * took:.4g}", f"{done / took / 1e9:,.0f} {unit}", f"{share:.0%} of {of}", "", "", error, note)


def _gradient(row: dict[str, Any]) -> Row:
    what = f"gradients, {row['dtype']}: {row['framework']} {row['variant']}".strip()
    note = f"failed: {_line(row['failed'])}" if row["failed"] else ""
    if "error" not in row:
        return (what, *[""] * 6, note)
    worst = f"{row['worst']} {row['worst_error']:.1e}"
    return (what, *[""] * 5, f"{row['error']:.1e}", "; ".join(filter(None, (note, f"worst: {worst}"))))


def _part(folder: Path, name: str) -> Row:
    """How a part of the run ended."""
    file = folder / f"{name}.status"
    if not file.exists():
        return (f"part {name}", *[""] * 6, "failed: it did not run")
    status, seconds = map(int, file.read_text().split())
    found = f"{_counts(folder / 'tests.xml')}, " if name == "tests" else ""
    how = {0: "done", 5: "no tests", 124: "failed: out of time", 137: "failed: out of time"}.get(status)
    log = folder / f"{name}.log"
    lines = [line for line in log.read_text().splitlines() if line.strip()] if log.exists() else []
    return (
        f"part {name}",
        *[""] * 6,
        f"{found}{how or f'failed: {_line(lines[-1] if lines else str(status))}'}, {seconds} s",
    )


def _counts(file: Path) -> str:
    if not file.exists():
        return "no report"
    suite = next(ElementTree.parse(file).getroot().iter("testsuite"))
    count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    return f"{passed} passed, {count['failures'] + count['errors']} failed, {count['skipped']} skipped"


def _about(rates: dict[str, Any], dry: bool) -> list[str]:
    """Date, device, versions."""
    versions = [f"Python {platform.python_version()}"]
    for name in SHOWN:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    name = "no GPU: this is a dry run, and no measurement" if dry else rates.get("name", "a GPU")
    lines = [f"{datetime.date.today()}, {name}, {_cuda()}"]
    lines.append(", ".join(versions) + f", commit {_asked('git', 'rev-parse', '--short', 'HEAD')}")
    if rates:
        copied, multiplied = rates["copied_per_s"] / 1e9, rates["multiplied_per_s"] / 1e12
        lines.append(f"A copy moves {copied:,.0f} GB/s, read and written; a product does {multiplied:,.3g} TFLOP/s")
    return lines


def _cuda() -> str:
    with contextlib.suppress(Exception):
        runtime: Any = importlib.import_module("cupy").cuda.runtime
        return f"driver {_asked('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader')} for CUDA " + (
            f"{runtime.driverGetVersion()}, CUDA {runtime.runtimeGetVersion()}"
        )
    return "no CUDA"


def _asked(*command: str) -> str:
    """The first line that a program says."""
    with contextlib.suppress(OSError):
        return (subprocess.run(command, capture_output=True, text=True).stdout.splitlines() or ["unknown"])[0].strip()
    return "unknown"


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A part's figures; none where it wrote none."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / f"{name}.json").read_text())
    return {}


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e9:.2f} GB"


def _line(text: str) -> str:
    return " ".join(text.split())[:160]


def _shown(cells: Row) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["check"]:
        return check("--dry-run" in arguments)
    if arguments[:1] != ["table"] or len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    text = table(Path(arguments[1]))
    print(text)
    return int("failed: " in text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
