"""Run the cases that launch kernels once under AddressSanitizer; see test_kernels_stay_within_their_arrays."""

from __future__ import annotations

import sys

from cases import CASES, compare
from simulated import simulated

DTYPES = ("float32", "bfloat16")  # 4 and 8 numbers in 16 bytes

simulated.sanitized = True
for name in sys.argv[1:] or CASES:
    if compare(name, DTYPES[0]):
        compare(name, DTYPES[1])
