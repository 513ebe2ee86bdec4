"""cross_entropy over integer targets, and the kernels of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ag import kernels
from ag.op import Indices, op
from ag.ops import embedding
from ag.ops.matmul import rows, rows_out, vector
from ag.sample import Sample, fixed, integers, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import wide
from ownt.kernel import PIECE, Out, kernel, stretches

IGNORE = -100
REDUCTIONS = ("mean", "sum", "none")


@kernel
def row_loss_kernel(
    logits: Any, targets: Any, weight: Any, ignore: int, smoothing: float, *, out: Out, stats: Out
) -> None:
    """out = -log softmax(logits), weighted and smoothed (see cross_entropy), 0 for ignored rows;
    stats = (top, log(sum(e^(logits - top)))).

    The two are not added: of large logits the sum would lose the digits that count.
    Shapes: logits (N, V), targets (N,), weight (V,) or None -> out (N,), stats (N, 2)
    """
    xp = devices.module(logits)
    for part in _row_pieces(logits):
        z, t = logits[part], targets[part]
        top = z.max(1)
        rest = xp.log(xp.exp(z - top[:, None]).sum(1))
        stats[part, 0].store(top)
        stats[part, 1].store(rest)
        chosen = xp.where(t != ignore, t, 0)
        value = (top - z[xp.arange(len(t)), chosen]) + rest
        if weight is not None:
            value *= weight[chosen]
        if smoothing:
            each = (top - z.T).T + rest[:, None]
            spread = each.mean(1) if weight is None else each @ weight / len(weight)
            value = (1 - smoothing) * value + smoothing * spread
        out[part].store(xp.where(t != ignore, value, 0))


@kernel
def mean_loss_kernel(losses: Any, targets: Any, weight: Any, ignore: int, *, out: Out) -> None:
    """out = the sum of the losses over what the rows kept count for; NaN if there are none. Shapes: (N,), (N,) -> ()"""
    out.store(losses.sum() / _count(losses, targets, weight, ignore))


@kernel
def row_share_kernel(g: Any, targets: Any, weight: Any, ignore: int, mean: bool, *, out: Out) -> None:
    """out = a row's share of the gradient: g, over what the rows kept count for if `mean`; 0 for ignored rows."""
    share = g / _count(g, targets, weight, ignore) if mean else g
    out.store(devices.module(g).where(targets != ignore, share, 0))


def _count(like: Any, targets: Any, weight: Any, ignore: int) -> Any:
    """How many rows are kept, or the sum of the weights of their targets, as a number of the dtype of `like`."""
    kept = targets != ignore
    return kept.sum(dtype=like.dtype) if weight is None else weight[targets[kept]].sum(dtype=like.dtype)


@kernel
def row_loss_vjp(
    share: Any, logits: Any, targets: Any, weight: Any, stats: Any, ignore: int, smoothing: float, *, out: Out
) -> None:
    """out = share (softmax(logits) - one at the target), weighted and smoothed. `out` may be the logits themselves."""
    xp = devices.module(logits)
    for part in _row_pieces(logits):
        t = targets[part]
        slope = logits[part] - stats[part, :1]
        slope -= stats[part, 1:]
        xp.exp(slope, out=slope)
        chosen = xp.where(t != ignore, t, 0)
        at_target = 1 - smoothing if weight is None else (1 - smoothing) * weight[chosen]
        if weight is not None:
            slope *= (at_target + smoothing * weight.mean())[:, None]
        slope[xp.arange(len(t)), chosen] -= at_target
        if smoothing:
            slope -= smoothing / slope.shape[1] * (1 if weight is None else weight)
        slope *= share[part, None]
        out[part].store(slope)


def _row_pieces(logits: Any) -> Iterator[slice]:
    """Rows in pieces whose temporaries stay in cache; none where there are no logits."""
    return stretches(logits.shape[0], max(1, PIECE // logits.shape[1])) if logits.size else iter(())


def check_targets(
    name: str, logits_shape: tuple[int, ...], targets: Tensor, weight: Tensor | None, ignore: int, reduction: str
) -> None:
    """Raises: ValueError for shapes or an unknown reduction, IndexError for a target out of range."""
    if len(logits_shape) < 1 or targets.shape != logits_shape[:-1]:
        raise ValueError(f"{name}: expected logits (..., V) and targets (...); got {logits_shape} and {targets.shape}")
    if weight is not None and weight.shape != logits_shape[-1:]:
        raise ValueError(f"{name}: expected a weight for each of {logits_shape[-1]} classes; got {weight.shape}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: expected reduction to be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    embedding.check_range(name, f"targets (or {ignore}, ignored)", targets, logits_shape[-1], ignore)


def check_smoothing(name: str, smoothing: float) -> None:
    """Raises: ValueError for a label smoothing that is no share."""
    if not 0 <= smoothing <= 1:
        raise ValueError(f"{name}: expected label_smoothing from 0 to 1; got {smoothing}")


def reduced(losses: Tensor, targets: Tensor, weight: Tensor | None, ignore: int, reduction: str) -> Tensor:
    """The losses of rows as one number: their sum, or the mean over rows that count."""
    if reduction == "none":
        return losses.view(targets.shape)
    y = scratch.empty((), like=losses)
    if reduction == "mean":
        mean_loss_kernel(losses, vector(targets), weight, ignore, out=Out(y))
    else:
        kernels.sum_to(losses, out=Out(y))
    return y


def shares(g: Tensor, targets: Tensor, weight: Tensor | None, ignore: int, reduction: str) -> Tensor:
    """Each row's share of the gradient. Shapes: g () or that of targets -> (N,)"""
    share = scratch.empty((targets.size,), like=g, kind="workspace")
    flat = g if g.ndim == 0 else g.view((targets.size,))
    row_share_kernel(flat, vector(targets), weight, ignore, reduction == "mean", out=Out(share))
    return share


@op
def cross_entropy(
    logits: Tensor,
    targets: Indices,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    weight: Tensor | None = None,
) -> Any:
    """y = -log softmax(logits)[target], averaged over the targets that are not `ignore_index`

    NaN if there is no such target. reduction: "mean", "sum" or "none". label_smoothing: the share of the target that
    all classes get evenly. weight: what each class counts for, also in the mean. Of logits of half precision y is
    float32: a loss of two or three digits would not show that it falls.
    Shapes: logits (..., V), targets (...), weight (V,) -> y () or, with "none", (...)
    Saves:  logits, targets, weight, two numbers a row
    Raises: IndexError for a target out of range
    Source: Szegedy et al., arXiv 1512.00567, for the smoothing
    """
    check_targets("cross_entropy", logits.shape, targets, weight, ignore_index, reduction)
    check_smoothing("cross_entropy", label_smoothing)
    flat = rows(logits)
    losses = scratch.empty((flat.shape[0],), like=logits, dtype=wide(logits.dtype), kind="workspace")
    stats = scratch.empty((flat.shape[0], 2), like=logits, dtype=wide(logits.dtype))
    options = weight, ignore_index, label_smoothing
    row_loss_kernel(flat, vector(targets), *options, out=Out(losses), stats=Out(stats))
    y = reduced(losses, targets, weight, ignore_index, reduction)
    return y, (logits, targets, weight, stats, ignore_index, label_smoothing, reduction)


@cross_entropy.vjp
def _(g: Tensor, saved: Any, dlogits: Any) -> None:
    logits, targets, weight, stats, ignore, smoothing, reduction = saved
    share = shares(g, targets, weight, ignore, reduction)
    with rows_out(dlogits) as out:
        row_loss_vjp(share, rows(logits), vector(targets), weight, stats, ignore, smoothing, out=out)


cross_entropy.samples = [
    Sample(normal(4, 5), integers(5, 4)),
    Sample(normal(2, 3, 5), integers(5, 2, 3)),
    Sample(normal(2, 3, 5), integers(5, 2, 3), reduction="sum"),
    Sample(normal(2, 3, 5), integers(5, 2, 3), reduction="none"),
    Sample(normal(6, 3), integers(3, 6), ignore_index=1),
    Sample(normal(5), integers(5)),
    Sample(normal(4, 5), integers(5, 4), label_smoothing=0.1),
    Sample(normal(6, 3), integers(3, 6), 1, "mean", 0.2, fixed(0.5, 2, 3)),
    Sample(normal(6, 3), integers(3, 6), 0, "none", 0.0, fixed(0.5, 2, 3)),
]
