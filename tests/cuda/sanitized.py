"""Run the cases of these names under AddressSanitizer; see test_kernels_stay_within_their_arrays."""

from __future__ import annotations

import sys

from cases import compare
from simulated import simulated

DTYPES = ("float32", "bfloat16")  # 4 and 8 numbers in 16 bytes

if __name__ == "__main__":
    simulated.sanitized = True
    for name in sys.argv[1:]:
        for dtype in DTYPES:
            compare(name, dtype)
