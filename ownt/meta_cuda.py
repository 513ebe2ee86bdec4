"""The device "meta:cuda": no data, as on "meta", and the ledger of what "cuda" would do; it needs no GPU.

CUDA's binders take their workspaces on it as they would there. What only a GPU could tell is bounded or left out; see
NOTE, which is part of its reports.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

from ownt.cublaslt import WORKSPACE_BYTES
from ownt.cuda import UNIT_BYTES, Cuda
from ownt.device import Meta, MetaArray, cpu
from ownt.launch import nothing
from ownt.report import human_bytes

NOTE = (
    f"for a GPU: each product is counted with the most workspace it may take, {human_bytes(WORKSPACE_BYTES)}; not "
    "counted are cuDNN's workspaces, which only a GPU tells, what references of kernels that CUDA lacks compute on "
    "the way, and CUDA's context and libraries"
)


class MetaCudaArray(MetaArray):
    """A MetaArray for which CUDA's binders are asked."""


class _Product(NamedTuple):
    """What a product takes; see ownt.cublaslt.Product."""

    workspace_bytes: int

    def __call__(self, *_: Any) -> None:
        nothing()


@final
class _Products:
    """The library of matrix products, where there is none."""

    def product(self, problem: Any) -> _Product:
        return _Product(WORKSPACE_BYTES)


device = Meta("meta:cuda", cpu.xp, MetaCudaArray, special="scipy.special", align=UNIT_BYTES)
device.kernels = "cuda"
device.chunk_bytes = Cuda.chunk_bytes
device.gemm = _Products()
device.note = NOTE
