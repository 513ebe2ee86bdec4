"""Processes that live beside each other and work in turn: a line of JSON asks, a line of JSON answers.

Each framework gets a process of its own, so that neither's threads, caches or allocator touch the other's; only the
one that is asked works, the others wait for input. So their times can be taken in turn, A B A B.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

import numpy

Answer = Callable[[dict[str, Any]], dict[str, Any]]  # from a question

PAUSE_S = 0.05  # before a question: threads of whoever worked before stop spinning
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "OWNT")  # prefixes of <prefix>_NUM_THREADS
SOURCES = {"torch": "parity", "jax": "bench"}  # packages that may be missing, and the extra that installs them


class WorkerError(RuntimeError):
    """A worker died: what it wrote last says of what."""


class DisagreementError(RuntimeError):
    """Two frameworks do not compute the same."""


class Worker:
    """A script in a process of its own, and the questions to it; what it says to stderr is passed on when it ends.

    limit_s: how long an answer may take, if there is a limit
    """

    def __init__(self, name: str, script: Path, *arguments: str, threads: int, limit_s: float | None = None) -> None:
        self.name = name
        self._limit_s = limit_s
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=os.environ | {f"{prefix}_NUM_THREADS": str(threads) for prefix in THREADS},
        )  # fmt: skip
        self._stdin, self._stdout = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)

    def ask(self, **question: Any) -> dict[str, Any]:
        """Raises: WorkerError if it does not live to answer, or takes too long, which ends it."""
        time.sleep(PAUSE_S)
        try:
            print(json.dumps(question), file=self._stdin, flush=True)
            if not select.select([self._stdout], [], [], self._limit_s)[0]:
                self._process.kill()
                raise WorkerError(f"{self.name}: no answer in {self._limit_s} s to {question}")
            answer = self._stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            status = self._process.wait()
            raise WorkerError(f"{self.name}: {_what_failed(self._said()) or f'ended with status {status}'}")
        return json.loads(answer)

    def close(self) -> None:
        """Let it end. May be called again."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._process.wait()
        self._stdout.close()
        if not self._errors.closed:
            for line in self._said():
                print(f"{self.name}: {line}", file=sys.stderr)
            self._errors.close()

    def _said(self) -> list[str]:
        """The lines that it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().strip().splitlines()


def _what_failed(said: list[str]) -> str:
    """The last line that names an exception, or else the last."""
    named = [line for line in said if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    return (named or said or [""])[-1]


def serve(start: Callable[[], Answer]) -> None:
    """Start what answers, and answer until there are no more questions. What libraries print does not get between."""
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        answer = start()
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=channel, flush=True)


def hold(framework: str, threads: int) -> None:
    """Keep this process to so many threads, and to so many cores: JAX has no other setting."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if framework.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    elif framework.startswith("ownt"):
        import ownt

        if hasattr(ownt, "set_num_threads"):
            ownt.set_num_threads(threads)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(text: str) -> int:
    """Of the command line. Raises: ArgumentTypeError for none, and for more than there are cores."""
    if not text.isdecimal() or not 1 <= int(text) <= cores():
        raise argparse.ArgumentTypeError(f"expected threads from 1 to {cores()}, the cores there are; got {text}")
    return int(text)


def chosen_from(names: list[str]) -> Callable[[str], list[str]]:
    """A list of names, separated by commas. Raises: ArgumentTypeError for one that is not among `names`."""

    def parse(text: str) -> list[str]:
        for name in (given := text.split(",")):
            if name not in names:
                raise argparse.ArgumentTypeError(f"expected names among {', '.join(names)}; got {name!r}")
        return given

    return parse


def installed(peers: list[str]) -> list[str]:
    """Those peers whose package is there; a line about each of the others."""
    found = [peer for peer in peers if find_spec(peer.split("-")[0])]
    for peer in peers:
        if peer not in found:
            package = peer.split("-")[0]
            print(f"{peer}: left out, {package} is not installed. pip install 'ownt[{SOURCES[package]}]'")
    return found


def machine(threads: int) -> dict[str, Any]:
    """What figures depend on."""
    import platform

    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    processor = names[0] if names else platform.processor()
    found: dict[str, Any] = {"processor": processor, "cores": cores(), "threads": threads, "load": round(load, 2)}
    print(f"{processor}, {cores()} cores, {threads} threads, NumPy {numpy.__version__}")
    chosen = [
        name for name in ("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA") if name in os.environ
    ]
    for name in chosen:
        found[name] = os.environ[name]
        print(f"{name}={os.environ[name]} is set: some matrix products do not run as they do by default")
    if load > 0.5:
        print(f"The load is {load:.2f}: other processes are busy, and times will be longer and less certain")
    return found


def resident_peak_bytes() -> int | None:
    """The most that was resident at any time of this process, where the system says so."""
    sizes = [line.split()[1] for line in _lines("/proc/self/status") if line.startswith("VmHWM")]
    return int(sizes[0]) * 1024 if sizes else None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
