"""Every CUDA source compiled by NVIDIA's compiler, for the oldest GPU that is served and for Hopper."""

from __future__ import annotations

import importlib.util
import io
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from sources import PATHS, SOURCES

from ownt.cuda_source import Source, options


def missing() -> str:
    """What the compiler lacks here, "" if nothing."""
    if importlib.util.find_spec("cupy") is None:
        return "needs CuPy and NVRTC: pip install -e '.[cuda-check]'"
    from cuda.pathfinder import find_nvidia_header_directory
    from cupy.cuda import nvrtc

    try:
        nvrtc.getVersion()
    except Exception as error:
        return f"needs NVRTC: {error}"
    return "" if find_nvidia_header_directory("cudart") else "needs CUDA's headers"


pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]
# What CUDA's sinf, cosf and tanf do to angles above 10^5: an integer times pi / 2^65 in double.
_LARGE_ANGLE = re.compile(r"\.reg \.f64|cvt\.rn\.f64\.s64|mul\.f64 .*0d3BF921FB54442D19|cvt\.rn\.ftz\.f32\.f64")


def compiled(source: Source, dtype: str, architecture: str, method: str = "cubin") -> tuple[bytes, str]:
    """Machine code or PTX, and what the compiler said: with the options that CuPy adds to ours."""
    from cuda.pathfinder import find_nvidia_header_directory
    from cupy.cuda.compiler import _NVRTCProgram

    log = io.StringIO()
    headers = find_nvidia_header_directory("cudart")
    added = ("-ftz=true", "--device-as-default-execution-space", f"-I{headers}", "--ptxas-options=-v")
    program = _NVRTCProgram(source.text, source.path.name, method=method)
    code, _ = program.compile((*options(dtype, architecture), *added), log)
    return code, log.getvalue()


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("file", sorted(SOURCES))
def test_it_compiles_without_spills_and_warnings(file, architecture):
    source = SOURCES[file]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda dtype: compiled(source, dtype, architecture), source.dtypes)
    for dtype, (code, log) in zip(source.dtypes, found, strict=True):
        assert code[:4] == b"\x7fELF"
        assert set(re.findall(r"Compiling entry function '(\w+)'", log)) == set(source.kernels), dtype
        spilled = [line for line in log.splitlines() if "spill" in line and "0 bytes spill stores, 0 " not in line]
        assert not spilled, (dtype, log)
        assert "warning" not in log, (dtype, log)


@pytest.mark.parametrize("file", sorted(SOURCES))
def test_single_precision_stays_single(file):
    """A constant without its type, 0.5 in place of wide(0.5), has all computed in double, slowly."""
    source = SOURCES[file]
    if re.search(r"\bdouble\b", re.sub(r"//.*", "", source.path.read_text("utf-8"))):
        pytest.skip("it says itself that it computes in double")
    for dtype in {"float32", "bfloat16"} & set(source.dtypes):
        code, _ = compiled(source, dtype, "compute_90", "ptx")
        lines = [line for line in code.decode().splitlines() if ".f64" in line and not _LARGE_ANGLE.search(line)]
        assert not lines, (dtype, lines[:5])


def test_every_source_is_found():
    assert {path.name for path in PATHS} == set(SOURCES)
    assert len(PATHS) == len(SOURCES), "expected files of different names"


def test_a_spill_would_be_seen(tmp_path):
    path = tmp_path / "spill.cu"
    sums = " ".join(f"real a{i} = x[{i}];" for i in range(400))
    uses = " ".join(f"y[{i}] = a{399 - i};" for i in range(400))
    declared = 'extern "C" __global__ void __launch_bounds__(1024) spill(const real* x, real* y)'
    path.write_text(f"{declared} {{ {sums} __syncthreads(); {uses} }}\n")
    _, log = compiled(Source(path), "float32", "sm_80")
    assert re.search(r"[1-9]\d* bytes spill", log)
