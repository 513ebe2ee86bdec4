"""Losses as modules. Classes are along the last axis everywhere, where PyTorch has them along the second.

reduction: "mean", "sum" or "none"; of KLDivLoss also "batchmean", the sum over the size of the first axis
weight: what each class, or of BCEWithLogitsLoss each element, counts for; a buffer
"""

from __future__ import annotations

from typing import Any

import ag
from ag.node import as_tensor
from nn.one_op import OneOp
from ownt import Tensor


def _buffer(values: Any) -> Tensor | None:
    return None if values is None else as_tensor(values)


class CrossEntropyLoss(OneOp):
    """-log softmax(logits)[target]; targets of `ignore_index` do not count.

    label_smoothing: the part of each target that is spread evenly over all classes
    Shapes: logits (..., V), targets (...), weight (V,) -> () or, with reduction "none", (...)
    """

    op = ag.cross_entropy
    options = ("ignore_index", "reduction", "label_smoothing", "weight")

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        self.weight = _buffer(weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing


class NLLLoss(OneOp):
    """-x[target] of logarithms of probabilities; targets of `ignore_index` do not count.

    Shapes: x (..., V), targets (...), weight (V,) -> () or, with reduction "none", (...)
    """

    op = ag.nll_loss
    options = ("ignore_index", "reduction", "weight")

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        self.weight = _buffer(weight)
        self.ignore_index = ignore_index
        self.reduction = reduction


class BCEWithLogitsLoss(OneOp):
    """The binary cross-entropy of sigmoid(x) and targets from 0 to 1.

    pos_weight: what the part of a target that is 1 counts for; a buffer. Both weights broadcast to x.
    Shapes: x, targets any, the same -> () or, with reduction "none", that of x
    """

    op = ag.binary_cross_entropy_with_logits
    options = ("reduction", "weight", "pos_weight")

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        self.weight = _buffer(weight)
        self.reduction = reduction
        self.pos_weight = _buffer(pos_weight)


class _Distance(OneOp):
    options = ("reduction",)

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = reduction


class MSELoss(_Distance):
    """(x - target)². Shapes: x, targets any, the same -> () or, with reduction "none", that of x"""

    op = ag.mse_loss


class L1Loss(_Distance):
    """|x - target|. Shapes: x, targets any, the same -> () or, with reduction "none", that of x"""

    op = ag.l1_loss


class SmoothL1Loss(OneOp):
    """(x - target)² / (2 beta) where |x - target| is below beta, else |x - target| - beta / 2.

    Shapes: x, targets any, the same -> () or, with reduction "none", that of x
    """

    op = ag.smooth_l1_loss
    options = ("reduction", "beta")

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        self.reduction = reduction
        self.beta = beta


class KLDivLoss(OneOp):
    """target (log(target) - x) for x that are logarithms of probabilities; targets too if `log_target`.

    Shapes: x, targets any, the same -> () or, with reduction "none", that of x
    """

    op = ag.kl_div
    options = ("reduction", "log_target")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        self.reduction = reduction
        self.log_target = log_target
