"""linear_cross_entropy: the loss of a linear layer's logits, of which few exist at a time."""

from __future__ import annotations

from typing import Any, final

from ag import kernels
from ag.op import Indices, op
from ag.ops import linear
from ag.ops.loss import IGNORE, check_smoothing, check_targets, reduced, row_loss_kernel, row_loss_vjp, shares
from ag.ops.matmul import matmul_kernel, rows, rows_out, vector
from ag.pieces import logits_pieces, pitch
from ag.sample import Sample, integers, normal
from ag.summed import summed
from ownt import Tensor, scratch
from ownt.dtype import HALF, wide
from ownt.kernel import Out


@op(foresees=True)
def linear_cross_entropy(
    x: Tensor,
    w: Tensor,
    targets: Indices,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    wanted: tuple[bool, ...] = (),
) -> Any:
    """y = cross_entropy(x wᵀ, targets) without holding many logits: they are made and used some rows at a time

    As there, y is float32 of x of half precision.
    Shapes: x (..., C), w (V, C), targets (...) -> y () or, with "none", (...)
    Saves:  x, w, targets, two numbers a row; the logits where they are few, since making them again costs time. Of half
            precision, whose gradients are summed in a workspace anyway, these instead, made with the logits at hand
    Raises: IndexError for a target out of range
    Source: Wijmans et al., arXiv 2411.09009, for the idea; Hsu et al., arXiv 2410.10989, for gradients ahead
    """
    linear.check("linear_cross_entropy", x, w, None)
    shape = (*x.shape[:-1], w.shape[0])
    check_targets("linear_cross_entropy", shape, targets, None, ignore_index, reduction)
    check_smoothing("linear_cross_entropy", label_smoothing)
    flat, chosen = rows(x), vector(targets)
    losses = scratch.empty((flat.shape[0],), like=x, dtype=wide(x.dtype), kind="workspace")
    stats = scratch.empty((flat.shape[0], 2), like=x, dtype=wide(x.dtype))
    options = None, ignore_index, label_smoothing
    pieces, kept, ahead = logits_pieces(flat, w.shape[0]), None, None
    if len(pieces) > 1 and reduction != "none" and x.dtype in HALF and any(wanted[:2]):
        ahead = _Ahead(x, w, chosen, wanted, ignore_index, reduction)
    for part in pieces:
        logits = _logits(flat[part], w, "activation" if len(pieces) == 1 else "workspace")
        row_loss_kernel(logits, chosen[part], *options, out=Out(losses[part]), stats=Out(stats[part]))
        if ahead:
            row_loss_vjp(ahead.share[part], logits, chosen[part], None, stats[part], *options[1:], out=Out(logits))
            ahead.add(flat, w, logits, part)
        kept = logits if len(pieces) == 1 else None
        del logits  # before the next piece asks for the same bytes
    y = reduced(losses, targets, None, ignore_index, reduction)
    if ahead:
        return y, (ahead.dx, ahead.dw, ahead.unit)
    return y, (x, w, targets, kept, stats, ignore_index, label_smoothing, reduction)


@linear_cross_entropy.vjp
def _(g: Tensor, saved: Any, dx: Any, dw: Any) -> None:
    if len(saved) == 3:
        _settle(g, saved, (dx, dw))
        return
    x, w, targets, kept, stats, ignore, smoothing, reduction = saved
    flat, chosen = rows(x), vector(targets)
    share, pieces = shares(g, targets, None, ignore, reduction), logits_pieces(flat, w.shape[0])
    with rows_out(dx) as out, summed(dw, len(pieces)) as dw:
        for part in pieces:
            logits = _logits(flat[part], w) if kept is None else kept  # which become their gradient
            row_loss_vjp(share[part], logits, chosen[part], None, stats[part], ignore, smoothing, out=Out(logits))
            if dw:
                matmul_kernel(logits.T, flat[part], out=dw.out())
            if out:
                matmul_kernel(logits, w, out=out[part])
            del logits


@final
class _Ahead:
    """Gradients made together with the value.

    unit:   the g that they are made for; for 1, those of a mean over many rows would be below what float16 can hold
    share:  of each row in it
    dx, dw: like x, and like w but in float32; None if not wanted
    """

    def __init__(
        self, x: Tensor, w: Tensor, targets: Tensor, wanted: tuple[bool, ...], ignore: int, reduction: str
    ) -> None:
        self.unit = 1024.0 if reduction == "mean" else 1.0
        g = scratch.empty((), like=x, dtype=wide(x.dtype), kind="workspace")
        kernels.fill(self.unit, out=Out(g))
        self.share = shares(g, targets, None, ignore, reduction)
        self.dx = scratch.empty(x.shape, like=x) if wanted[0] else None
        self.dw = scratch.empty(w.shape, like=w, dtype=wide(w.dtype)) if wanted[1] else None

    def add(self, x: Tensor, w: Tensor, slope: Tensor, part: slice) -> None:
        """The share of some rows, from the slope of their logits."""
        if self.dw is not None:
            matmul_kernel(slope.T, x[part], out=Out(self.dw, int(part.start > 0)))
        if self.dx is not None:
            matmul_kernel(slope, w, out=Out(rows(self.dx)[part]))


def _settle(g: Tensor, saved: tuple, slots: tuple[Any, Any]) -> None:
    """Give slots what was made ahead, for this g."""
    *made, unit = saved
    factor = scratch.empty((), like=g, kind="workspace")
    kernels.scale(g, 1 / unit, out=Out(factor))
    for gradient, slot in zip(made, slots, strict=True):
        if slot:
            kernels.cast_by(gradient, factor, out=slot.out())


def _logits(x: Tensor, w: Tensor, kind: str = "workspace") -> Tensor:
    whole = scratch.empty((x.shape[0], pitch(x, w.shape[0])), like=x, kind=kind)
    logits = whole[:, : w.shape[0]]
    matmul_kernel(x, w.T, out=Out(logits))
    return logits


linear_cross_entropy.samples = [
    Sample(normal(4, 6), normal(5, 6), integers(5, 4)),
    Sample(normal(2, 3, 6), normal(5, 6), integers(5, 2, 3), reduction="sum"),
    Sample(normal(2, 3, 6), normal(5, 6), integers(5, 2, 3), reduction="none"),
    Sample(normal(150, 3), normal(4, 3), integers(4, 150), ignore_index=2),
    Sample(normal(4, 6), normal(5, 6), integers(5, 4), label_smoothing=0.3),
]
