"""Fused savers: a linear layer after a norm or a GELU that keeps that function's input, not its result.

The result is made again in the gradient, a piece of rows at a time, so that it never exists as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ag import kernels
from ag.op import op
from ag.ops import linear
from ag.ops.activation import GELU, gelu_and_vjp, gelu_kernels
from ag.ops.matmul import affine_kernel, matmul_kernel, rows, rows_out
from ag.ops.norm import EPS, check, norm_kernel, norm_vjp
from ag.pieces import hidden_pieces
from ag.sample import Sample, normal
from ag.summed import summed
from ownt import Tensor, scratch
from ownt.calls import Calls
from ownt.kernel import Out, kernel

FLOATS = "float64", "float32", "float16", "bfloat16"
CENTRED = {"layer": True, "rms": False}


def _linear_in_pieces(
    name: str, x: Tensor, w: Tensor, b: Tensor | None, residual: Tensor | None, make: Callable[[slice, Out], None]
) -> Tensor:
    """linear(h, w, b, residual), where `make` writes the rows of h that a slice names."""
    y = scratch.empty(x.shape[:-1] + w.shape[:1], like=x)
    linear.check_residual(name, residual, y._array.shape)
    result, added = rows(y), None if residual is None else rows(residual)
    for part in hidden_pieces(x):
        h = _workspace(part, w.shape[1], x)
        make(part, Out(h))
        affine_kernel(h, w, b, None if added is None else added[part], out=Out(result[part]))
        del h  # before the next piece asks for the same bytes
    return y


def _workspace(part: slice, width: int, like: Tensor) -> Tensor:
    return scratch.empty((part.stop - part.start, width), like=like, kind="workspace")


@op
def norm_linear(
    x: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    norm: str = "layer",
    eps: float = EPS,
) -> Any:
    """y = linear(layer_norm(x, gain, shift), w, b), or with norm="rms" of rms_norm(x, gain)

    Shapes: x (..., I), gain, shift (I,), w (O, I), b (O,) -> y (..., O)
    Saves:  x, gain, shift, w
    """
    if norm not in CENTRED or (norm == "rms" and shift is not None):
        got = f"{norm!r} {'without' if shift is None else 'with'} shift"
        raise ValueError(f'norm_linear: expected norm "layer", or "rms" without shift; got {got}')
    check("norm_linear", x, gain, shift)
    linear.check("norm_linear", x, w, b)
    flat, centred = rows(x), CENTRED[norm]

    def make(part: slice, out: Out) -> None:
        norm_kernel(flat[part], gain, shift, eps, centred, out=out)

    y = _linear_in_pieces("norm_linear", x, w, b, None, make)
    return y, (x, gain, shift, w, eps, centred)


@norm_linear.vjp
def _(g: Tensor, saved: Any, dx: Any, dgain: Any, dshift: Any, dw: Any, db: Any) -> None:
    x, gain, shift, w, eps, centred = saved
    flat, g = rows(x), rows(g)
    if db:
        kernels.sum_to(g, out=db.out())
    parts = hidden_pieces(x)
    dw, dgain, dshift = (summed(slot, len(parts)) for slot in (dw, dgain, dshift))
    with rows_out(dx) as out, dw as dw, dgain as dgain, dshift as dshift:
        for part in parts:
            h = _workspace(part, x.shape[-1], x)
            if dw:
                norm_kernel(flat[part], gain, shift, eps, centred, out=Out(h))
                matmul_kernel(g[part].T, h, out=dw.out())
            if dx or dgain or dshift:
                matmul_kernel(g[part], w, out=Out(h))  # from here on h is the gradient of the norm's result
                outs = {"dx": out and out[part], "dgain": dgain and dgain.out(), "dshift": dshift and dshift.out()}
                norm_vjp(h, flat[part], gain, eps, centred, **outs)
            del h


@op
def gelu_linear(
    x: Tensor, w: Tensor, b: Tensor | None = None, approximate: str = "none", residual: Tensor | None = None
) -> Any:
    """y = linear(gelu(x), w, b, residual)

    Shapes: x (..., I), w (O, I), b (O,), residual (..., O) -> y (..., O)
    Saves:  x, w
    """
    forward, _ = gelu_kernels("gelu_linear", approximate)
    linear.check("gelu_linear", x, w, b)
    flat = rows(x)
    y = _linear_in_pieces("gelu_linear", x, w, b, residual, lambda part, out: forward(flat[part], out=out))
    return y, (x, w, approximate)


@kernel
def matmul_gelu_vjp(g: Any, w: Any, x: Any, approximate: str, *, out: Out, hidden: Out | None) -> None:
    """out = (g w) gelu'(x) and, if wanted, hidden = gelu(x). Shapes: g (N, O), w (O, I), x (N, I) -> (N, I)"""
    if hidden:
        gelu_and_vjp.reference(g @ w, x, approximate, out=out, hidden=hidden)
    else:
        GELU[approximate][1].reference(g @ w, x, out=out)


def in_two_steps(
    g: Any, w: Any, x: Any, approximate: str, *, out: Out, hidden: Out | None
) -> tuple[Callable[..., None], tuple]:
    """What an override of matmul_gelu_vjp returns that has no kernel for the whole."""
    steps = Calls(out.tensor)
    h = steps.workspace(x.shape)
    steps.launch(matmul_kernel, g, w, out=Out(h))
    if hidden:
        steps.launch(gelu_and_vjp, h.array, x, approximate, out=out, hidden=hidden)
    else:
        steps.launch(GELU[approximate][1], h.array, x, out=out)
    return steps.bound()


matmul_gelu_vjp.on("cpu", "float64", "float32")(in_two_steps)


@matmul_gelu_vjp.operations
def _(g: Any, w: Any, x: Any, approximate: str) -> int:
    return 2 * g.shape[0] * w.size


@gelu_linear.vjp
def _(g: Tensor, saved: Any, dx: Any, dw: Any, db: Any, dresidual: Any) -> None:
    x, w, approximate = saved
    forward, _ = GELU[approximate]
    flat, whole, g = rows(x), g, rows(g)
    if db:
        kernels.sum_to(g, out=db.out())
    parts = hidden_pieces(x)
    with rows_out(dx) as out, summed(dw, len(parts)) as dw:
        for part in parts:
            h = _workspace(part, x.shape[-1], x) if dw else None
            hidden = None if h is None else Out(h)
            if out:
                matmul_gelu_vjp(g[part], w, flat[part], approximate, out=out[part], hidden=hidden)
            elif hidden:
                forward(flat[part], out=hidden)
            if dw:
                matmul_kernel(g[part].T, h, out=dw.out())
            del h, hidden
    if dresidual:
        dresidual.lend(whole)


norm_linear.samples = [
    Sample(normal(3, 8), normal(8), normal(8), normal(5, 8), normal(5)),
    Sample(normal(2, 3, 8), normal(8), None, normal(5, 8), norm="rms"),
    Sample(normal(3, 8), None, None, normal(5, 8), normal(5)),
    Sample(normal(300, 4), normal(4), normal(4), normal(2, 4), normal(2)),
]
gelu_linear.samples = [
    Sample(normal(3, 8), normal(5, 8), normal(5)),
    Sample(normal(2, 3, 8), normal(5, 8), approximate="tanh"),
    Sample(normal(300, 4), normal(2, 4), normal(2)),
    Sample(normal(2, 3, 8), normal(5, 8), normal(5), "tanh", normal(2, 3, 5)),
    Sample(normal(300, 4), normal(2, 4), None, "none", normal(300, 2)),
]
