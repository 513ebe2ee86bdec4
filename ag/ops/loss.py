"""cross_entropy over integer targets, and linear_cross_entropy, which never holds the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ag import kernels
from ag.op import Indices, op
from ag.ops import embedding, linear
from ag.ops.matmul import matmul_kernel, rows, rows_out, vector
from ag.sample import Sample, integers, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import PIECE, Out, kernel, stretches

IGNORE = -100
REDUCTIONS = ("mean", "sum", "none")
_LOGITS_BYTES = 16_000_000  # of logits at a time in linear_cross_entropy
_LEAST_ROWS = 64  # but at least so many rows, for the sake of the matrix product


@kernel
def row_loss_kernel(logits: Any, targets: Any, ignore: int, *, out: Out, stats: Out) -> None:
    """out = -log softmax(logits)[target], 0 for ignored rows; stats = (top, log(sum(e^(logits - top)))).

    The two are not added: of large logits the sum would lose the digits that count.
    Shapes: logits (N, V), targets (N,) -> out (N,), stats (N, 2)
    """
    xp = devices.module(logits)
    for part in _row_pieces(logits):
        z, t = logits[part], targets[part]
        top = z.max(1)
        rest = xp.log(xp.exp(z - top[:, None]).sum(1))
        stats[part, 0].store(top)
        stats[part, 1].store(rest)
        chosen = z[xp.arange(len(t)), xp.where(t != ignore, t, 0)]
        out[part].store(xp.where(t != ignore, (top - chosen) + rest, 0))


@kernel
def mean_loss_kernel(losses: Any, targets: Any, ignore: int, *, out: Out) -> None:
    """out = the sum of the losses over the number of rows kept; NaN if there are none. Shapes: (N,), (N,) -> ()"""
    out.store(losses.sum() / _count(losses, targets, ignore))


@kernel
def row_weight_kernel(g: Any, targets: Any, ignore: int, mean: bool, *, out: Out) -> None:
    """out = what a row's loss counts for: g, over the number of rows kept if `mean`; 0 for ignored rows."""
    share = g / _count(g, targets, ignore) if mean else g
    out.store(devices.module(g).where(targets != ignore, share, 0))


def _count(like: Any, targets: Any, ignore: int) -> Any:
    """How many rows are kept, as a number of the dtype of `like`."""
    return (targets != ignore).sum(dtype=like.dtype)


@kernel
def row_loss_vjp(weight: Any, logits: Any, targets: Any, stats: Any, ignore: int, *, out: Out) -> None:
    """out = weight (softmax(logits) - one at the target). `out` may be the logits themselves."""
    xp = devices.module(logits)
    for part in _row_pieces(logits):
        t = targets[part]
        slope = logits[part] - stats[part, :1]
        slope -= stats[part, 1:]
        xp.exp(slope, out=slope)
        slope[xp.arange(len(t)), xp.where(t != ignore, t, 0)] -= 1
        slope *= weight[part, None]
        out[part].store(slope)


def _row_pieces(logits: Any) -> Iterator[slice]:
    """Rows in pieces whose temporaries stay in cache; none where there are no logits."""
    return stretches(logits.shape[0], max(1, PIECE // logits.shape[1])) if logits.size else iter(())


def check_targets(name: str, logits_shape: tuple[int, ...], targets: Tensor, ignore: int, reduction: str) -> None:
    """Raises: ValueError for shapes or an unknown reduction, IndexError for a target out of range."""
    if len(logits_shape) < 1 or targets.shape != logits_shape[:-1]:
        raise ValueError(f"{name}: expected logits (..., V) and targets (...); got {logits_shape} and {targets.shape}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: expected reduction to be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    embedding.check_range(name, f"targets (or {ignore}, ignored)", targets, logits_shape[-1], ignore)


def reduced(losses: Tensor, targets: Tensor, ignore: int, reduction: str) -> Tensor:
    """The losses of rows as one number: their sum, or the mean over rows that count."""
    if reduction == "none":
        return losses.view(targets.shape)
    y = scratch.empty((), like=losses)
    if reduction == "mean":
        mean_loss_kernel(losses, vector(targets), ignore, out=Out(y))
    else:
        kernels.sum_to(losses, out=Out(y))
    return y


def weights(g: Tensor, targets: Tensor, ignore: int, reduction: str) -> Tensor:
    """What each row's loss counts for in the loss, times its gradient. Shapes: g () or that of targets -> (N,)"""
    weight = scratch.empty((targets.size,), like=g, kind="workspace")
    flat = g if g.ndim == 0 else g.view((targets.size,))
    row_weight_kernel(flat, vector(targets), ignore, reduction == "mean", out=Out(weight))
    return weight


@op
def cross_entropy(logits: Tensor, targets: Indices, ignore_index: int = IGNORE, reduction: str = "mean") -> Any:
    """y = -log softmax(logits)[target], averaged over the targets that are not `ignore_index`

    NaN if there is no such target. reduction: "mean", "sum" or "none".
    Shapes: logits (..., V), targets (...) -> y () or, with "none", (...)
    Saves:  logits, targets, two numbers a row
    Raises: IndexError for a target out of range
    """
    check_targets("cross_entropy", logits.shape, targets, ignore_index, reduction)
    flat = rows(logits)
    losses = scratch.empty((flat.shape[0],), like=logits, kind="workspace")
    stats = scratch.empty((flat.shape[0], 2), like=logits)
    row_loss_kernel(flat, vector(targets), ignore_index, out=Out(losses), stats=Out(stats))
    return reduced(losses, targets, ignore_index, reduction), (logits, targets, stats, ignore_index, reduction)


@cross_entropy.vjp
def _(g: Tensor, saved: Any, dlogits: Any) -> None:
    logits, targets, stats, ignore, reduction = saved
    weight = weights(g, targets, ignore, reduction)
    with rows_out(dlogits) as out:
        row_loss_vjp(weight, rows(logits), vector(targets), stats, ignore, out=out)


def _pieces(count: int, w: Tensor) -> Iterator[slice]:
    return stretches(count, max(_LEAST_ROWS, _LOGITS_BYTES // max(w.shape[0] * w.dtype.itemsize, 1)))


@op
def linear_cross_entropy(
    x: Tensor, w: Tensor, targets: Indices, ignore_index: int = IGNORE, reduction: str = "mean"
) -> Any:
    """y = cross_entropy(x wᵀ, targets) without the logits: they are made and used a few rows at a time

    Shapes: x (..., C), w (V, C), targets (...) -> y () or, with "none", (...)
    Saves:  x, w, targets, two numbers a row
    Raises: IndexError for a target out of range
    Source: Wijmans et al., arXiv 2411.09009, for the idea
    """
    linear.check("linear_cross_entropy", x, w, None)
    check_targets("linear_cross_entropy", (*x.shape[:-1], w.shape[0]), targets, ignore_index, reduction)
    flat, chosen = rows(x), vector(targets)
    losses = scratch.empty((flat.shape[0],), like=x, kind="workspace")
    stats = scratch.empty((flat.shape[0], 2), like=x)
    for part in _pieces(flat.shape[0], w):
        logits = _logits(flat[part], w)
        row_loss_kernel(logits, chosen[part], ignore_index, out=Out(losses[part]), stats=Out(stats[part]))
        del logits  # before the next piece asks for the same bytes
    return reduced(losses, targets, ignore_index, reduction), (x, w, targets, stats, ignore_index, reduction)


@linear_cross_entropy.vjp
def _(g: Tensor, saved: Any, dx: Any, dw: Any) -> None:
    x, w, targets, stats, ignore, reduction = saved
    flat, chosen = rows(x), vector(targets)
    weight = weights(g, targets, ignore, reduction)
    with rows_out(dx) as out:
        for part in _pieces(flat.shape[0], w):
            logits = _logits(flat[part], w)
            row_loss_vjp(weight[part], logits, chosen[part], stats[part], ignore, out=Out(logits))
            if dw:
                matmul_kernel(logits.T, flat[part], out=dw.out())
            if out:
                matmul_kernel(logits, w, out=out[part])
            del logits


def _logits(x: Tensor, w: Tensor) -> Tensor:
    logits = scratch.empty((x.shape[0], w.shape[0]), like=x, kind="workspace")
    matmul_kernel(x, w.T, out=Out(logits))
    return logits


cross_entropy.samples = [
    Sample(normal(4, 5), integers(5, 4)),
    Sample(normal(2, 3, 5), integers(5, 2, 3)),
    Sample(normal(2, 3, 5), integers(5, 2, 3), reduction="sum"),
    Sample(normal(2, 3, 5), integers(5, 2, 3), reduction="none"),
    Sample(normal(6, 3), integers(3, 6), ignore_index=1),
    Sample(normal(5), integers(5)),
]
linear_cross_entropy.samples = [
    Sample(normal(4, 6), normal(5, 6), integers(5, 4)),
    Sample(normal(2, 3, 6), normal(5, 6), integers(5, 2, 3), reduction="sum"),
    Sample(normal(2, 3, 6), normal(5, 6), integers(5, 2, 3), reduction="none"),
    Sample(normal(150, 3), normal(4, 3), integers(4, 150), ignore_index=2),
]
