"""Threads of BLAS libraries: held to one where the work is small, and given back after.

NumPy and SciPy each bring a BLAS with a pool of threads, which spin for a while after each product. Small products
gain nothing from a second thread, and where another process wants the core they lose a lot.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any, final


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


numpys_blas = OneThread("numpy")
scipys_blas = OneThread("scipy")
