"""Rows of convolution, pooling and batch norm; see `opinfo_rows`."""

from __future__ import annotations

from functools import wraps
from typing import Any

from opinfo import LeftOut, Row

import ag
import nn

EVEN_SAME = "as much padding as keeps the size, more on one side"
NO_CHANNELS = "no axis of channels"
OPTIONS = "ceil_mode, return_indices or divisor_override"


def of_one_too(function: Any) -> Any:
    """A function of images, given one without a batch as well."""

    @wraps(function)
    def call(x: Any, *args: Any, **options: Any) -> Any:
        return function(x[None], *args, **options)[0] if x.ndim == 3 else function(x, *args, **options)

    return call


@of_one_too
def conv2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    if padding == "same" and any(n % 2 == 0 for n in weight.shape[2:]):
        raise LeftOut(EVEN_SAME)
    if not isinstance(padding, str):
        return ag.conv2d(x, weight, bias, stride, padding, dilation, groups)
    layer = nn.Conv2d(x.shape[1], weight.shape[0], weight.shape[2:], stride, padding, dilation, groups)
    layer.weight, layer.bias = weight, bias
    return layer(x)


def batch_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    if x.ndim < 2:
        raise LeftOut(NO_CHANNELS)
    running = None if running_mean is None else (running_mean.tensor, running_var.tensor)
    return ag.batch_norm(x, weight, bias, None, running, training, momentum, eps)


@of_one_too
def max_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    if ceil_mode or return_indices:
        raise LeftOut(OPTIONS)
    return ag.max_pool2d(x, kernel_size, stride, padding, dilation)


@of_one_too
def avg_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: Any = None,
) -> Any:  # fmt: skip
    if ceil_mode or divisor_override is not None:
        raise LeftOut(OPTIONS)
    return ag.avg_pool2d(x, kernel_size, stride, padding, count_include_pad)


@of_one_too
def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """To torch a size of None is that of the images."""
    if isinstance(output_size, tuple):
        output_size = tuple(n or size for n, size in zip(output_size, x.shape[2:]))
    return nn.AdaptiveAvgPool2d(output_size)(x)


ROWS = [
    Row("conv2d", "nn.functional.conv2d", conv2d, left_out=(EVEN_SAME,)),
    Row("batch_norm", "nn.functional.batch_norm", batch_norm, left_out=(NO_CHANNELS,)),
    Row("max_pool2d", "nn.functional.max_pool2d", max_pool2d, left_out=(OPTIONS,), every=17),
    Row("avg_pool2d", "nn.functional.avg_pool2d", avg_pool2d, left_out=(OPTIONS,)),
    Row("mean", "nn.functional.adaptive_avg_pool2d", adaptive_avg_pool2d),
]
