"""Indices as CUDA kernels take them, `const void* indices, int kind`: arrays of any integers that int64 holds.

The other half is indices.cuh, which reads them as they are: a copy would be one more launch.
"""

from __future__ import annotations

from typing import Any

from ownt import dtype as dtypes

_KINDS = {
    dtypes.get(name): i for i, name in enumerate(("int64", "int32", "uint32", "uint16", "int16", "uint8", "int8"))
}


def known(indices: Any) -> bool:
    """Whether kernels can read such indices."""
    return indices.dtype in _KINDS


def given(indices: Any) -> tuple[Any, int]:
    """What a kernel is given of them."""
    return indices, _KINDS[indices.dtype]
