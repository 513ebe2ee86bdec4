"""Tensors whose every byte has an owner: data, devices and memory, without gradients."""

from ownt import device, dtype, kernel, memory, random, scratch
from ownt.arena import Arena
from ownt.device import DeviceError, OutOfMemoryError
from ownt.dtype import bfloat16, bool_, float16, float32, float64, int8, int16, int32, int64, uint8
from ownt.factories import arange, asarray, empty, from_dlpack, full, ones, rand, randint, randn, zeros
from ownt.mark import HeldError
from ownt.profile import profile
from ownt.random import manual_seed
from ownt.tensor import Tensor
from ownt.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Arena",
    "DeviceError",
    "HeldError",
    "OutOfMemoryError",
    "Tensor",
    "arange",
    "asarray",
    "bfloat16",
    "bool_",
    "device",
    "dtype",
    "empty",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "full",
    "get_num_threads",
    "int8",
    "int16",
    "int32",
    "int64",
    "kernel",
    "manual_seed",
    "memory",
    "ones",
    "profile",
    "rand",
    "randint",
    "randn",
    "random",
    "scratch",
    "set_num_threads",
    "uint8",
    "zeros",
]
