"""Norms: LayerNorm, RMSNorm, GroupNorm, BatchNorm, and a norm fused with the Linear after it."""

from __future__ import annotations

from typing import Any, ClassVar

import ag
import ownt
from ag import Node
from ag.op import recomputing, where
from nn.errors import InputError
from nn.layers import Linear
from nn.module import Module


class LayerNorm(Module):
    """Each row to mean 0 and variance 1, then scaled by `weight` and shifted by `bias`.

    Shapes: x (..., width) -> the same; weight, bias (width,)
    """

    kind = "layer"

    def __init__(self, width: int, eps: float = 1e-5, bias: bool = True, dtype: Any = None) -> None:
        self.width = width
        self.eps = eps
        self.weight = ag.param(ownt.ones(width, dtype=dtype))
        self.bias = ag.param(ownt.zeros(width, dtype=dtype)) if bias else None

    def forward(self, x: Any) -> Node:
        return ag.layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.width}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Each row to mean square 1, then scaled by `weight` if it has a gain.

    Shapes: x (..., width) -> the same; weight (width,)
    """

    kind = "rms"
    bias = None

    def __init__(self, width: int, eps: float = 1e-5, gain: bool = True, dtype: Any = None) -> None:
        self.width = width
        self.eps = eps
        self.weight = ag.param(ownt.ones(width, dtype=dtype)) if gain else None

    def forward(self, x: Any) -> Node:
        return ag.rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.width}, eps={self.eps}, gain={self.weight is not None}"


class GroupNorm(Module):
    """Each group of channels of each example to mean 0 and variance 1; if affine, each channel scaled and shifted.

    Shapes: x (N, num_channels, ...) -> the same; weight, bias (num_channels,)
    Raises: InputError unless num_groups divides num_channels.
    Source: Wu and He, arXiv 1803.08494
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = None
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise InputError(
                f"GroupNorm: expected num_groups that divides num_channels; got {num_groups} and {num_channels}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.weight = ag.param(ownt.ones(num_channels, dtype=dtype)) if affine else None
        self.bias = ag.param(ownt.zeros(num_channels, dtype=dtype)) if affine else None

    def forward(self, x: Any) -> Node:
        return ag.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


class BatchNorm(Module):
    """Each channel to mean 0 and variance 1 over the batch; if affine, scaled and shifted.

    In evaluation with the running mean and variance, which in training move towards each batch's by `momentum`; None
    makes them the mean over all batches. Without `track_running_stats` the batch's serve in evaluation too.
    Shapes: x (N, num_features, ...) -> the same; weight, bias, running_mean, running_var (num_features,)
    Source: Ioffe and Szegedy, arXiv 1502.03167
    """

    axes: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)  # that an input may have

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = ag.param(ownt.ones(num_features, dtype=dtype)) if affine else None
        self.bias = ag.param(ownt.zeros(num_features, dtype=dtype)) if affine else None
        self.running_mean = ownt.zeros(num_features, dtype=dtype) if track_running_stats else None
        self.running_var = ownt.ones(num_features, dtype=dtype) if track_running_stats else None
        self.num_batches_tracked = ownt.zeros((), dtype="int64") if track_running_stats else None

    def forward(self, x: Any, residual: Any = None, relu: bool = False) -> Node:
        """batch_norm(x), + residual if there is one, and no less than 0 if relu: fused, and not kept for gradients."""
        if x.ndim not in self.axes:
            expected = " or ".join(map(str, self.axes))
            raise ValueError(f"{where(type(self).__name__)}: expected an input of {expected} axes; got shape {x.shape}")
        running = None if self.running_mean is None else (self.running_mean, self.running_var)
        training = self.training or running is None
        tracks = self.training and running is not None
        momentum = self._momentum() if tracks else 0.0
        y = ag.batch_norm(x, self.weight, self.bias, residual, running, training, momentum, self.eps, relu)
        if tracks and not recomputing():  # only now: where memory ran out, nothing was tracked
            count: Any = self.num_batches_tracked
            count += 1
        return y

    def _momentum(self) -> float:
        """For the batch that comes."""
        count: Any = self.num_batches_tracked
        return 1 / (float(count) + 1) if self.momentum is None else self.momentum

    def extra_repr(self) -> str:
        options = f"eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"
        return f"{self.num_features}, {options}, track_running_stats={self.running_mean is not None}"


class BatchNorm1d(BatchNorm):
    """BatchNorm of x (N, num_features) or (N, num_features, L)."""

    axes = (2, 3)


class BatchNorm2d(BatchNorm):
    """BatchNorm of images (N, num_features, H, W)."""

    axes = (4,)


Norm = LayerNorm | RMSNorm


def norm_linear(norm: Norm, linear: Linear, x: Any) -> Node:
    """linear(norm(x)), fused: the norm's result is not kept."""
    return ag.norm_linear(x, norm.weight, norm.bias, linear.weight, linear.bias, norm.kind, norm.eps)
