"""nll_loss: the negative of each row's logarithm of a probability at its target."""

from __future__ import annotations

from typing import Any

from ag.op import Indices, op
from ag.ops import loss
from ag.ops.gather import grid
from ag.ops.loss import IGNORE
from ag.sample import Sample, between, fixed, integers, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel


def _chosen(targets: Any, ignore: int) -> tuple[Any, tuple[Any, ...]]:
    """The class to look up in each row, 0 for ignored ones; and the key of it in x."""
    chosen = devices.module(targets).where(targets != ignore, targets, 0)
    return chosen, grid(chosen[..., None], targets.ndim)


@kernel
def nll_kernel(x: Any, targets: Any, weight: Any, ignore: int, *, out: Out) -> None:
    """out = -weight[target] x[target], 0 for ignored rows

    Shapes: x (..., V), targets (...), weight (V,) or None -> (...)
    """
    if not x.size:
        out.store(0)
        return
    chosen, key = _chosen(targets, ignore)
    values = -x[key][..., 0]
    out.store(devices.module(x).where(targets != ignore, values if weight is None else values * weight[chosen], 0))


@kernel
def nll_vjp(share: Any, targets: Any, weight: Any, ignore: int, *, out: Out) -> None:
    """out[target] -= weight[target] share, row by row. Adds, always. Shapes: share, targets (...) -> out (..., V)"""
    if out.array.size:
        chosen, key = _chosen(targets, ignore)
        out.array[key] -= (share if weight is None else share * weight[chosen])[..., None]


@op
def nll_loss(
    x: Tensor, targets: Indices, ignore_index: int = IGNORE, reduction: str = "mean", weight: Tensor | None = None
) -> Any:
    """y = -x[target], averaged over the targets that are not `ignore_index`; x are logarithms of probabilities

    NaN if there is no such target. reduction: "mean", "sum" or "none". weight: what each class counts for, also in
    the mean.
    Shapes: x (..., V), targets (...), weight (V,) -> y () or, with "none", (...)
    Saves:  targets, weight
    Raises: IndexError for a target out of range
    """
    loss.check_targets("nll_loss", x.shape, targets, weight, ignore_index, reduction)
    losses = scratch.empty((targets.size,), like=x, kind="workspace")
    nll_kernel(x, targets, weight, ignore_index, out=Out(losses).view(targets.shape))
    y = loss.reduced(losses, targets, weight, ignore_index, reduction)
    return y, (targets, weight, ignore_index, reduction)


@nll_loss.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    targets, weight, ignore, reduction = saved
    share = loss.shares(g, targets, weight, ignore, reduction).view(targets.shape)
    nll_vjp(share, targets, weight, ignore, out=dx.out(zero=True))


nll_loss.samples = [
    Sample(between(-3, -0.1, 4, 5), integers(5, 4)),
    Sample(normal(2, 3, 5), integers(5, 2, 3), reduction="sum"),
    Sample(normal(2, 3, 5), integers(5, 2, 3), reduction="none"),
    Sample(normal(6, 3), integers(3, 6), 1, "mean", fixed(0.5, 2, 3)),
    Sample(normal(6, 3), integers(3, 6), 0, "none", fixed(0.5, 2, 3)),
    Sample(normal(5), integers(5)),
]
