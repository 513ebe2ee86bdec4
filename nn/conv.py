"""Layers for images: Conv2d and pooling."""

from __future__ import annotations

from typing import Any

import ag
from ag import Node
from ag.op import where
from ag.ops.window import Pair, pair
from nn import init
from nn.errors import InputError
from nn.module import Module
from nn.one_op import OneOp


class Conv2d(Module):
    """Convolution of images, as PyTorch's: each output channel is a sum over windows of the input.

    padding: zeros around the image, a number or one for each axis; "valid" for none, "same" to keep the size
    groups:  the channels are cut into so many groups, each convolved by itself
    recompute: whether the result is made again in backward rather than kept: worth it for a few operations a byte
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, OH, OW);
            weight (out_channels, in_channels / groups, KH, KW), bias (out_channels,)
    Weights begin uniform within 1 / sqrt(in_channels / groups * KH * KW).
    Raises: InputError for what is no convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = None,
        *,
        recompute: bool = False,
    ) -> None:
        if any(type(n) is not int or n < 1 for n in (in_channels, out_channels, groups)):
            raise InputError(
                f"Conv2d: expected integers of 1 or more for groups, in_channels and out_channels; "
                f"got {groups!r}, {in_channels!r} and {out_channels!r}"
            )
        if in_channels % groups or out_channels % groups:
            raise InputError(
                f"Conv2d: expected groups that divide in_channels and out_channels; "
                f"got {groups}, {in_channels} and {out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = pair(kernel_size, "Conv2d", "kernel_size", 1)
        self.stride = pair(stride, "Conv2d", "stride", 1)
        self.dilation = pair(dilation, "Conv2d", "dilation", 1)
        self.padding = _padding(padding, self.kernel_size, self.stride, self.dilation)
        self.groups = groups
        self.recompute = recompute
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        fan_in = shape[1] * shape[2] * shape[3]
        self.weight = ag.param(init.linear_uniform(shape, fan_in, dtype))
        self.bias = ag.param(init.linear_uniform((out_channels,), fan_in, dtype)) if bias else None

    def forward(self, x: Any) -> Node:
        options = self.stride, self.padding, self.dilation, self.groups, self.recompute
        return ag.conv2d(x, self.weight, self.bias, *options)

    def extra_repr(self) -> str:
        rest = {"padding": (self.padding, (0, 0)), "dilation": (self.dilation, (1, 1)), "groups": (self.groups, 1)}
        parts = [f"{name}={value}" for name, (value, default) in rest.items() if value != default]
        parts += [] if self.bias is not None else ["bias=False"]
        sizes = f"kernel_size={self.kernel_size}, stride={self.stride}"
        return ", ".join([f"{self.in_channels}, {self.out_channels}, {sizes}", *parts])


def _padding(
    padding: Pair | str, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return pair(padding, "Conv2d", "padding", 0)
    around = [d * (n - 1) for d, n in zip(dilation, size, strict=True)]
    if stride != (1, 1) or any(n % 2 for n in around):
        raise InputError(
            f'Conv2d: expected stride 1 and an odd kernel_size for padding="same"; got {stride} and {size}. '
            "Use ag.pad before the convolution"
        )
    return around[0] // 2, around[1] // 2


class MaxPool2d(OneOp):
    """The largest of each window; its stride is its size unless given.

    Shapes: x (N, C, H, W) -> (N, C, OH, OW)
    """

    op = ag.max_pool2d
    options = ("kernel_size", "stride", "padding", "dilation")

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation


class AvgPool2d(OneOp):
    """The mean of each window; its stride is its size unless given.

    count_include_pad: whether padding counts, as zeros
    Shapes: x (N, C, H, W) -> (N, C, OH, OW)
    """

    op = ag.avg_pool2d
    options = ("kernel_size", "stride", "padding", "count_include_pad")

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.count_include_pad = count_include_pad


class AdaptiveAvgPool2d(Module):
    """Means over as many windows as the output is to have pixels, alike in size as far as that goes.

    Shapes: x (N, C, H, W) -> (N, C, *output_size)
    """

    def __init__(self, output_size: Pair) -> None:
        self.output_size = pair(output_size, "AdaptiveAvgPool2d", "output_size", 1)

    def forward(self, x: Any) -> Node:
        x = x if isinstance(x, Node) else ag.constant(x)
        if x.ndim != 4:
            raise ValueError(f"{where('AdaptiveAvgPool2d')}: expected images (N, C, H, W); got shape {x.shape}")
        if self.output_size == (1, 1):
            return ag.mean(x, axis=(2, 3), keepdims=True)
        down, across = (_stretches(n, count) for n, count in zip(x.shape[2:], self.output_size, strict=True))
        rows = [ag.concat([x[:, :, a, b].mean(axis=(2, 3), keepdims=True) for b in across], axis=3) for a in down]
        return ag.concat(rows, axis=2)

    def extra_repr(self) -> str:
        return f"{self.output_size}"


def _stretches(size: int, count: int) -> list[slice]:
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
