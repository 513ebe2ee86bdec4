"""Whether there is a GPU that can be used, and if not, why, in a line with the remedy."""

from __future__ import annotations

import importlib
from typing import Any

from ownt import cuda
from ownt import device as devices

OLDEST = 80  # compute capability, times ten: bfloat16 and asynchronous copies begin with sm_80, Ampere


def find(index: int) -> cuda.Cuda:
    """GPU number `index`.

    Raises: DeviceError, in one line, where there is no CuPy, no driver, no such GPU, or one that is too old.
    """
    cupy = _import()
    runtime = cupy.cuda.runtime
    driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if not driver:
        raise devices.DeviceError(
            "device 'cuda': expected NVIDIA's driver; found none. Install it (nvidia-smi must list the GPU; "
            "in a container, start it with --gpus all), or use the device 'cpu'"
        )
    if driver // 1000 < built // 1000:
        raise devices.DeviceError(
            f"device 'cuda': expected CuPy for CUDA {driver // 1000}, the latest that the driver supports; "
            f"found CuPy for CUDA {built // 1000}. pip uninstall cupy-cuda{built // 1000}x, then "
            f"pip install 'ownt[cuda{driver // 1000}]', or install a newer driver"
        )
    count = _count(runtime)
    if index >= count:
        found = f"found {count}" if count else "found none. Is CUDA_VISIBLE_DEVICES empty?"
        raise devices.DeviceError(f"device 'cuda:{index}': expected {index + 1} GPUs or more; {found}")
    capability = int(cupy.cuda.Device(index).compute_capability)
    if capability < OLDEST:
        raise devices.DeviceError(
            f"device 'cuda:{index}': expected a GPU of compute capability {OLDEST / 10} or more (Ampere, of 2020); "
            f"got {capability / 10}. Use another, or the device 'cpu'"
        )
    return cuda.Cuda(index, cupy, capability)


def _import() -> Any:
    try:
        return importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise devices.DeviceError(
                f"device 'cuda': CuPy lacks the module {error.name!r}. Install it again"
            ) from None
        raise devices.DeviceError(
            "device 'cuda': expected CuPy; it is not installed. pip install 'ownt[cuda13]', or 'ownt[cuda12]' where "
            "nvidia-smi says CUDA Version: 12"
        ) from None
    except ImportError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
        raise devices.DeviceError(
            f"device 'cuda': CuPy is installed, but cannot be loaded: {lines[-1] if lines else repr(error)}. Uninstall "
            "all packages whose names begin with cupy, then pip install 'ownt[cuda13]' or 'ownt[cuda12]'"
        ) from None


def _count(runtime: Any) -> int:
    """How many GPUs there are."""
    try:
        return runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "NoDevice" in str(error):
            return 0
        raise devices.DeviceError(f"device 'cuda': the driver cannot be used: {error}. Does nvidia-smi work?") from None
