"""Elementwise kernels for CUDA devices: the binder of those that call `elementwise` of elementwise.cuh.

```
# (const real* g, const real* x, real* out, int beta, long long count)
elementwise(silu_vjp, source.kernel("silu_vjp"))
```
"""

from __future__ import annotations

from typing import Any

from ownt import device as devices
from ownt.cuda_source import CudaKernel
from ownt.kernel import Kernel, Out
from ownt.layout import TO_LAST

THREADS = 256  # of a block
_BLOCKS = 1 << 14  # at most: more work is done in turns


def elementwise(kernel: Kernel, code: CudaKernel) -> None:
    """Override a kernel by one in CUDA C++, for the dtypes of its source.

    Its parameters are the inputs, arrays first and then options, and `real* out, int beta, long long count`. Inputs
    that are broadcast, or do not lie in one run of bytes in the order of the output, are left to the reference.
    """

    @kernel.on("cuda", *code.source.dtypes)
    def bind(*inputs: Any, out: Out) -> Any:
        y = out.array
        arrays = [x for x in inputs if devices.is_array(x)]
        if not alike(y, *arrays) or not all(devices.is_array(x) or isinstance(x, (int, float)) for x in inputs):
            return None
        launch = code.launch(devices.of(y), y.dtype, blocks(y), THREADS)
        return launch, (*inputs, y, out.beta, y.size)


def alike(y: Any, *arrays: Any) -> bool:
    """Whether arrays are of one shape and dtype, and each in one run of bytes, all images with their channels alike."""
    if not all(x.shape == y.shape and x.dtype == y.dtype for x in arrays):
        return False
    if all(x.flags.c_contiguous for x in (y, *arrays)):
        return True
    return y.ndim == 4 and all(x.transpose(TO_LAST).flags.c_contiguous for x in (y, *arrays))


def blocks(y: Any) -> int:
    """How many blocks go through an array 16 bytes a thread at a time, in turns if it is large; none if it is empty."""
    return min(_BLOCKS, -(-y.nbytes // (16 * THREADS)))
