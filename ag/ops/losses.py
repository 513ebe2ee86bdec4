"""Losses element by element: mse_loss, l1_loss, smooth_l1_loss, binary_cross_entropy_with_logits, kl_div.

Each is a function of a prediction and a target with a slope by either; sums are made a piece at a time, so that the
single losses never exist as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

from ag import kernels
from ag.op import op
from ag.ops import arithmetic
from ag.ops.activation import logistic
from ag.ops.loss import REDUCTIONS
from ag.ops.math import signs
from ag.ops.unary import pointwise
from ag.sample import Sample, between, fixed, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Kernel, Out, pieces

Rule = Callable[..., Any]  # (array module, [g,] x, targets, *options) -> array


@final
class ElementLoss:
    """A loss of each element: its value and its slopes by x and by the targets, as array functions.

    The kernels are called after it: <name>, <name>_sum, <name>_vjp_x, <name>_vjp_targets.
    """

    def __init__(
        self, name: str, value: Rule, slope_x: Rule, slope_targets: Rule, reductions: tuple[str, ...] = REDUCTIONS
    ) -> None:
        self.name = name
        self.reductions = reductions
        self.value = pointwise(name, value)
        self.sum = _summing(name, value)
        self.slope_x = pointwise(f"{name}_vjp_x", lambda xp, g, *inputs: g * slope_x(xp, *inputs))
        self.slope_targets = pointwise(f"{name}_vjp_targets", lambda xp, g, *inputs: g * slope_targets(xp, *inputs))

    def forward(self, reduction: str, x: Tensor, targets: Tensor, *options: Any) -> tuple[Tensor, tuple]:
        """The result, and what backward needs.

        Raises: ValueError for shapes that do not broadcast, or an unknown reduction.
        """
        if reduction not in self.reductions:
            known = ", ".join(self.reductions)
            raise ValueError(f"{self.name}: expected reduction to be one of {known}; got {reduction!r}")
        given = (x, targets, *(part for part in options if type(part) is Tensor))
        shape = arithmetic.broadcast_shape(self.name, *(part.shape for part in given))
        inputs = (x, targets, *options)
        if reduction == "none":
            y = scratch.empty(shape, like=x)
            self.value(*inputs, out=Out(y))
            return y, (shape, 1.0, *inputs)
        count = {"sum": 1, "mean": math.prod(shape), "batchmean": shape[0] if shape else 1}[reduction]
        factor = 1 / count if count else math.nan
        y = scratch.empty((), like=x)
        self.sum(shape, factor, *inputs, out=Out(y))
        return y, (shape, factor, *inputs)

    def backward(self, g: Tensor, saved: tuple, dx: Any, dtargets: Any) -> None:
        """Both gradients."""
        shape, factor, *inputs = saved
        if factor != 1:
            scaled = scratch.empty(g.shape, like=g, kind="workspace")
            kernels.scale(g, factor, out=Out(scaled))
            g = scaled
        arithmetic.contribute(dx, self.slope_x, g, *inputs, shape=shape)
        arithmetic.contribute(dtargets, self.slope_targets, g, *inputs, shape=shape)


def _summing(name: str, value: Rule) -> Kernel:
    """The kernel out = factor times the sum of value(xp, *inputs), inputs broadcast to a shape."""

    def reference(shape: tuple[int, ...], factor: float, *inputs: Any, out: Out) -> None:
        xp = devices.module(out.array)
        whole = [xp.broadcast_to(a, shape) if devices.is_array(a) else a for a in inputs]
        total = xp.zeros((), out.array.dtype)
        for key, _ in pieces(shape):
            total = total + value(xp, *(a[key] if devices.is_array(a) else a for a in whole)).sum()
        out.store(total * factor)

    reference.__name__ = f"{name}_sum"
    reference.__module__ = value.__module__
    return Kernel(reference, elementwise=False)


def _smooth_l1(xp: Any, x: Any, t: Any, beta: float) -> Any:
    d = xp.abs(x - t)
    return xp.where(d < beta, 0.5 * d * d / (beta or 1), d - 0.5 * beta)


def _smooth_l1_slope(xp: Any, x: Any, t: Any, beta: float) -> Any:
    d = x - t
    return xp.where(xp.abs(d) >= beta, signs(xp, d), d / (beta or 1))


def _log_one_plus_exp_minus(xp: Any, x: Any) -> Any:
    """ln(1 + e^-x), which overflows for no x"""
    return xp.maximum(-x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def _bce(xp: Any, x: Any, t: Any, weight: Any, positive: Any) -> Any:
    rest = _log_one_plus_exp_minus(xp, x)
    loss = (1 - t) * x + (rest if positive is None else (1 + (positive - 1) * t) * rest)
    return loss if weight is None else loss * weight


def _bce_slope_x(xp: Any, x: Any, t: Any, weight: Any, positive: Any) -> Any:
    rest = logistic(xp, -x)
    slope = (1 - t) - (rest if positive is None else (1 + (positive - 1) * t) * rest)
    return slope if weight is None else slope * weight


def _bce_slope_targets(xp: Any, x: Any, t: Any, weight: Any, positive: Any) -> Any:
    slope = -x if positive is None else (positive - 1) * _log_one_plus_exp_minus(xp, x) - x
    return slope if weight is None else slope * weight


def _kl(xp: Any, x: Any, t: Any, logs: bool) -> Any:
    return xp.exp(t) * (t - x) if logs else t * xp.log(xp.where(t == 0, 1, t)) - t * x


def _kl_slope_x(xp: Any, x: Any, t: Any, logs: bool) -> Any:
    return -xp.exp(t) if logs else -t


def _kl_slope_targets(xp: Any, x: Any, t: Any, logs: bool) -> Any:
    return xp.exp(t) * (t - x + 1) if logs else xp.log(t) + 1 - x


MSE = ElementLoss("mse_loss", lambda xp, x, t: (x - t) ** 2, lambda xp, x, t: 2 * (x - t), lambda xp, x, t: 2 * (t - x))
L1 = ElementLoss(
    "l1_loss", lambda xp, x, t: xp.abs(x - t), lambda xp, x, t: signs(xp, x - t), lambda xp, x, t: signs(xp, t - x)
)
SMOOTH_L1 = ElementLoss(
    "smooth_l1_loss", _smooth_l1, _smooth_l1_slope, lambda xp, x, t, beta: _smooth_l1_slope(xp, t, x, beta)
)
BCE = ElementLoss("binary_cross_entropy_with_logits", _bce, _bce_slope_x, _bce_slope_targets)
KL = ElementLoss("kl_div", _kl, _kl_slope_x, _kl_slope_targets, (*REDUCTIONS, "batchmean"))


@op
def mse_loss(x: Tensor, targets: Tensor, reduction: str = "mean") -> Any:
    """y = (x - targets)², averaged; reduction: "mean", "sum" or "none"

    Shapes: x, targets broadcast -> y () or, with "none", their shape
    Saves:  x, targets
    """
    return MSE.forward(reduction, x, targets)


@op
def l1_loss(x: Tensor, targets: Tensor, reduction: str = "mean") -> Any:
    """y = |x - targets|, averaged; reduction: "mean", "sum" or "none"

    Shapes: x, targets broadcast -> y () or, with "none", their shape
    Saves:  x, targets
    """
    return L1.forward(reduction, x, targets)


@op
def smooth_l1_loss(x: Tensor, targets: Tensor, reduction: str = "mean", beta: float = 1.0) -> Any:
    """y = d² / (2 beta) where d = |x - targets| is below beta, else d - beta / 2; averaged as by mse_loss

    Shapes: x, targets broadcast -> y () or, with "none", their shape
    Saves:  x, targets
    Source: Girshick, arXiv 1504.08083
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: expected beta of 0 or more; got {beta}")
    return SMOOTH_L1.forward(reduction, x, targets, beta)


@op
def binary_cross_entropy_with_logits(
    x: Tensor,
    targets: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
) -> Any:
    """y = -weight (pos_weight targets log sigmoid(x) + (1 - targets) log(1 - sigmoid(x))), averaged as by mse_loss

    Shapes: x, targets the same, weight and pos_weight broadcast to it -> y () or, with "none", the same
    Saves:  x, targets, the weights
    """
    if x.shape != targets.shape:
        raise ValueError(
            f"binary_cross_entropy_with_logits: expected x and targets of one shape; got {x.shape} and {targets.shape}"
        )
    return BCE.forward(reduction, x, targets, weight, pos_weight)


@op
def kl_div(x: Tensor, targets: Tensor, reduction: str = "mean", log_target: bool = False) -> Any:
    """y = targets (log targets - x), x being logarithms, and the targets too if log_target; averaged as by mse_loss

    reduction: also "batchmean", the sum over the size of the first axis, which is the divergence of rows.
    Shapes: x, targets broadcast -> y () or, with "none", their shape
    Saves:  x, targets
    """
    return KL.forward(reduction, x, targets, log_target)


mse_loss.vjp(MSE.backward)
l1_loss.vjp(L1.backward)
smooth_l1_loss.vjp(SMOOTH_L1.backward)
binary_cross_entropy_with_logits.vjp(BCE.backward)
kl_div.vjp(KL.backward)

_pairs = [
    Sample(normal(3, 4), normal(3, 4)),
    Sample(normal(3, 4), normal(3, 4), reduction="sum"),
    Sample(normal(3, 4), normal(3, 4), "none"),
    Sample(normal(3, 1), normal(4)),
    Sample(normal(), normal(2), "none"),
    Sample(normal(), normal()),
]
mse_loss.samples = l1_loss.samples = _pairs
smooth_l1_loss.samples = [*_pairs, Sample(normal(9), normal(9), beta=0.3), Sample(normal(9), normal(9), "none", 0.0)]
binary_cross_entropy_with_logits.samples = [
    Sample(normal(3, 4), between(0, 1, 3, 4)),
    Sample(normal(3, 4), between(0, 1, 3, 4), "none", fixed(0.5, 2, 3, 1), fixed(0.5, 2, 4)),
    Sample(between(-40, 40, 9), between(0, 1, 9), reduction="sum"),
    Sample(normal(), between(0, 1), "mean", None, fixed(0.5, 2)),
]
kl_div.samples = [
    Sample(normal(3, 4), between(0.1, 1, 3, 4)),
    Sample(normal(3, 4), between(0.1, 1, 3, 4), "batchmean"),
    Sample(normal(3, 4), normal(3, 4), "none", True),
    Sample(normal(3, 1), between(0.1, 1, 4), reduction="sum"),
    Sample(normal(), normal(), log_target=True),
]
