"""Threads: how many the kernels use, in one pool; and those of BLAS libraries, held to one.

NumPy and SciPy each bring a BLAS with a pool of threads, which spin for a while after each product. Small products
gain nothing from a second thread, and where another process wants the core they lose a lot; large ones are split over
the kernels' own pool.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from functools import cache, cached_property
from typing import Any, final

VARIABLE = "OWNT_NUM_THREADS"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@final
class _Pool:
    """How many threads kernels are shared out among; see `set_num_threads`."""

    def __init__(self) -> None:
        self.count = cores()
        try:
            self.count = checked(os.environ.get(VARIABLE, self.count), VARIABLE)
        except ValueError as error:  # no reason not to start
            print(f"ownt: {error}; all are used", file=sys.stderr)


def checked(number: Any, name: str) -> int:
    """A number of threads. Raises: ValueError unless it is from 1 to the number of cores."""
    try:
        count = int(number)
    except ValueError:
        count = 0
    if not 1 <= count <= cores():
        raise ValueError(f"{name}: expected a number of threads from 1 to {cores()}, the cores there are; got {number}")
    return count


_pool = _Pool()


def get_num_threads() -> int:
    """How many threads kernels are shared out among."""
    return _pool.count


def set_num_threads(count: int) -> None:
    """Share kernels out among so many threads; all cores unless set, or OWNT_NUM_THREADS in the environment.

    Raises: ValueError unless it is from 1 to the number of cores.
    """
    _pool.count = checked(count, "set_num_threads")
    if "numba" in sys.modules:
        use_pool()


def use_pool() -> None:
    """Have Numba run parallel kernels in OpenMP's pool, whose launches are cheap, and with so many threads.

    Without OpenMP's library kernels run on one thread: Numba's other pools cost more than they give.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # OpenMP's own 8 ms of spinning starve other processes' threads
    import numba

    if has_pool():
        numba.config.THREADING_LAYER = "omp"
        numba.set_num_threads(min(_pool.count, numba.config.NUMBA_NUM_THREADS))
    elif _pool.count > 1:
        print("ownt: one thread is used: more need OpenMP's library, libgomp; install it", file=sys.stderr)
        _pool.count = 1


@cache
def has_pool() -> bool:
    """Whether kernels can be shared out at all: among more than one core, by OpenMP's library."""
    if cores() < 2:
        return False
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError:
        return False
    return True


@final
class OneThread:
    """Holds a BLAS to one thread: `with numpys_blas: ...`. May be entered by many threads, one in another.

    package: whose BLAS; told by the folder that the library lies in, "numpy.libs" or "scipy.libs", or the only
             one there is
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[int] = []

    @cached_property
    def libraries(self) -> list[Any]:
        """Looked for on first use: by then the package has loaded its library."""
        import threadpoolctl

        found = [lib for lib in threadpoolctl.ThreadpoolController().lib_controllers if lib.user_api == "blas"]
        return [lib for lib in found if f"{self.package}.libs" in lib.filepath] or found

    def c_function(self, name: str) -> Any:
        """The library's C function `get_num_threads` or `set_num_threads`; one that does nothing if it has none."""
        for library in self.libraries:
            for before, after in (("scipy_openblas_", ""), ("scipy_openblas_", "64_"), ("openblas_", "")):
                found = getattr(library.dynlib, f"{before}{name}{after}", None)
                if found is not None:
                    return found
        return _one_thread_already

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [lib.get_num_threads() for lib in self.libraries]
                self._set([1] * len(self._before))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._set(self._before)

    def _set(self, counts: list[int]) -> None:
        for library, count, before in zip(self.libraries, counts, self._before, strict=True):
            if before != 1:
                library.set_num_threads(count)


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
def _one_thread_already(_: int) -> int:
    return 1


numpys_blas = OneThread("numpy")
scipys_blas = OneThread("scipy")
