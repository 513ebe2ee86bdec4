"""Products of CuPy's own arrays, over host memory: what a binder asks of an array, CuPy's answers."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
from host_device import Host
from lt_stand_in import StandIn
from matrices import close, destination, laid, numbers, there

from ownt import device, gemm
from ownt.cublaslt import CublasLt


@pytest.fixture
def cupy(monkeypatch):
    """CuPy, for whose arrays there is a device on host memory."""
    cupy = pytest.importorskip("cupy")
    place = Host()
    place.gemm = CublasLt(lambda array: array.data.ptr, library=StandIn(workspace_bytes=0))
    place.pointer = place.gemm.pointer
    monkeypatch.setitem(device._BY_ARRAY, cupy.ndarray, place)
    return cupy


def over(cupy, x):
    """A CuPy array over a NumPy array's memory."""
    low = x.ctypes.data
    memory = cupy.cuda.UnownedMemory(low, max(x.nbytes, 1), x, device_id=0)
    return cupy.ndarray(x.shape, x.dtype, cupy.cuda.MemoryPointer(memory, 0), x.strides)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("beta", [0, 1])
def test_products_of_cupys_arrays(cupy, dtype, beta):
    layouts = ("rows", "columns", "window", "stack inside")
    for stack, left, right, how in itertools.product(((), (2, 3)), layouts, layouts, layouts):
        a, b = numbers((*stack, 6, 8), dtype, 1), numbers((*stack, 8, 5), dtype, 2)
        before, out = destination((*stack, 6, 5), how, dtype, beta)
        given = laid(a, left), laid(b, right)
        function, arguments = gemm.bind(*(over(cupy, x) for x in (*given, out)), beta)
        function(*arguments)
        expected = a.astype("float64") @ b.astype("float64")
        close(out, expected + before.astype("float64") if beta else expected, dtype)


def test_bias_and_aux_of_cupys_arrays(cupy):
    a, b, bias = numbers((6, 8), seed=1), numbers((8, 16), seed=2), numbers((16,), seed=3)
    out, aux = np.empty((6, 16), "float32"), np.empty((6, 24), "float32")[:, :16]
    function, arguments = gemm.bind(
        *(over(cupy, x) for x in (a, b, out)), 0, "gelu_aux_bias", over(cupy, bias), over(cupy, aux)
    )
    function(*arguments)
    close(aux, a @ b + bias, "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matrices_lie_on_a_gpu_as_they_do_here(gpu, dtype):
    for how in ("rows", "columns", "window", "window of columns", "backwards"):
        here = laid(numbers((6, 8), dtype), how)
        moved = there(gpu, here)
        assert type(moved) is gpu.array and moved.strides == here.strides
        for i in np.ndindex(6, 8):
            assert ctypes.string_at(gpu.pointer(moved[(*i, ...)]), here.itemsize) == here[i].tobytes()
