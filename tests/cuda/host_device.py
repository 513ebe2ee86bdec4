"""A device on host memory that uses CUDA's binders; its GEMM library is the stand-in."""

from __future__ import annotations

import numpy as np
from lt_stand_in import StandIn

from ownt import device
from ownt.cublaslt import CublasLt


class HostArray(np.ndarray):
    """An array on host memory of which everybody thinks that it is on CUDA."""


class Host(device.Device):
    """CUDA's binders on host memory."""

    def __init__(self):
        super().__init__("host", np, HostArray, "scipy.special", 512)
        self.kernels = "cuda"
        self.lt = StandIn()
        self.gemm = CublasLt(self.pointer, library=self.lt)

    @staticmethod
    def pointer(array):
        return array.ctypes.data

    @staticmethod
    def view(memory, offset, shape, dtype):
        return HostArray(shape, dtype, memory, offset)

    def empty(self, shape, dtype):
        return np.empty(shape, dtype).view(HostArray)

    def to_host(self, array):
        return np.asarray(array).view(np.ndarray)

    def from_host(self, values, dtype=None):
        return np.asarray(values, dtype).view(HostArray)
