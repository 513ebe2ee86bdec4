"""CUDA sources compiled with g++ into what the executor runs: a library with an entry point for each kernel."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ownt.cuda_signature import Signature
from ownt.cuda_source import Line, Source, options

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("OWNT_TEST_CACHE", Path(tempfile.gettempdir()) / f"ownt-cuda-check-{os.getuid()}"))
ORDERS = ("forward", "reversed", "shuffled")
BARRIER = re.compile(r"__sync(threads|warp)\(([^()]*)\)")
FLAGS = ("-O1", "-g0", "-fPIC", "-std=c++20", "-fpermissive", "-w", "-ffp-contract=off")
SANITIZE = ("-fsanitize=address,alignment", "-fno-sanitize-recover=alignment", "-fno-omit-frame-pointer")


def missing() -> str:
    """What the executor lacks here, "" if nothing."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "the executor's fibers are for Linux on x86-64"
    if shutil.which("g++") is None:
        return "needs g++"
    return "" if includes() else "needs CUDA's headers: pip install -e '.[cuda-check]'"


@functools.cache
def includes() -> tuple[str, ...]:
    """Options that lead to CUDA's headers and to what they include of its C++ library; none if they are missing."""
    if importlib.util.find_spec("cupy") is None:
        return ()
    from cuda.pathfinder import find_nvidia_header_directory

    headers = find_nvidia_header_directory("cudart")
    library = Path(importlib.util.find_spec("cupy").origin).parent / "_core/include/cupy/_cccl/libcudacxx"
    return (f"-I{headers}", f"-I{library}", f"-I{HERE}") if headers else ()


def numbered(lines: list[Line]) -> tuple[str, list[Line]]:
    """A source's text with its barriers numbered, and the line that each stands on."""
    barriers: list[Line] = []
    parts = []
    for line in lines:

        def number(found: re.Match, line: Line = line) -> str:
            barriers.append(line)
            return f"NUMBERED_SYNC{found[1].upper()}({len(barriers) - 1})"

        code, slashes, comment = line.text.partition("//")
        parts.append(BARRIER.sub(number, code) + slashes + comment)
    return "\n".join(parts), barriers


def entry(signature: Signature) -> str:
    """The function by which a kernel is called: its arguments are addresses of values, as in CUDA."""
    values = []
    for i, parameter in enumerate(signature.parameters):
        kind = f"{parameter.type}*" if parameter.pointer else parameter.type
        const = "" if parameter.written or not parameter.pointer else "const "
        values.append(f"*static_cast<{const}{kind}*>(values[{i}])")
    call = f"{signature.name}({', '.join(values)})"
    return (
        f'extern "C" const char* run_{signature.name}(executor::Dim grid, executor::Dim block, size_t shared_bytes, '
        f"void** values) {{ return executor::run(grid, block, shared_bytes, [=] {{ {call}; }}); }}"
    )


class Library:
    """A compiled source. `barriers` are the lines that its barriers stand on, by their numbers."""

    def __init__(self, source: Source, dtype, sanitized: bool = False) -> None:
        self.barriers = numbered(source.lines)[1]
        self.library = ctypes.CDLL(compiled(source, dtype, sanitized))

    def set(self, order: str, deleted: int = -1) -> None:
        """Choose the order in which threads run, and the barrier that does nothing."""
        self.library.executor_set(ORDERS.index(order), deleted)

    def met(self, barrier: int) -> bool:
        """Whether a thread has come to a barrier."""
        return bool(self.library.executor_met(barrier))

    def run(self, name: str, grid: tuple, block: tuple, shared_bytes: int, values: list) -> str:
        """Run a kernel with arguments that are ctypes values; what went wrong, "" if nothing did."""
        addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        function = self.library[f"run_{name}"]
        function.restype = ctypes.c_char_p
        found = function(Dim(*grid), Dim(*block), ctypes.c_size_t(shared_bytes), addresses)
        return found.decode()


class Dim(ctypes.Structure):
    """Sizes along three axes."""

    _fields_ = [(name, ctypes.c_uint) for name in "xyz"]

    def __init__(self, x: int = 1, y: int = 1, z: int = 1) -> None:
        super().__init__(x, y, z)


def compiled(source: Source, dtype, sanitized: bool = False) -> str:
    """The path of a source as a library, which is kept for the next time."""
    entries = "\n".join(entry(kernel.signature) for kernel in source.kernels.values())
    program = f'#include "executor.h"\nnamespace {{\n{numbered(source.lines)[0]}\n}}\n{entries}\n'
    flags = (*FLAGS, *includes(), *(SANITIZE if sanitized else ()))
    defined = (option for option in options(dtype) if option.startswith("-D"))
    folder = str(_headers(flags).parent)
    return str(_made(source.path.name, program, (f"-I{folder}", *flags, *defined, "-shared", "-x", "c++", "-"), ".so"))


@functools.cache
def _headers(flags: tuple[str, ...]) -> Path:
    """executor.h and what it includes, compiled for programs with these flags."""
    kept = _made("executor.h", "", (*flags, "-x", "c++-header", f"{HERE}/executor.h"), ".gch")
    path = kept.with_suffix("") / "executor.h.gch"  # where g++ looks for it, in a folder of its own
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(kept)
    return path


def _made(name: str, program: str, flags: tuple[str, ...], suffix: str) -> Path:
    """What g++ makes of a program, or made of it before."""
    headers = "".join(path.read_text("utf-8") for path in sorted(HERE.glob("*.h")))
    key = hashlib.sha256("\0".join([program, headers, *flags]).encode()).hexdigest()[:20]
    path = CACHE / f"{name}-{key}{suffix}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        command = ["g++", *flags, "-o", str(made)]
        found = subprocess.run(command, input=program, capture_output=True, text=True)
        if found.returncode:
            raise RuntimeError(f"{name}: g++ could not compile it for the executor\n{found.stderr[:4000]}")
        made.rename(path)
    return path


def sanitized(*arguments: str) -> subprocess.CompletedProcess:
    """Python with arguments under AddressSanitizer, which has to be there before Python is."""
    library = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    environment = {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )
