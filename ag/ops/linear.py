"""linear: the affine map of a layer."""

from __future__ import annotations

from typing import Any

from ag import kernels
from ag.op import op
from ag.ops.matmul import affine_kernel, matmul_kernel, rows, rows_out
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt.kernel import Out


def check(name: str, x: Tensor, w: Tensor, b: Tensor | None) -> None:
    """Raises: ValueError naming the op unless x (..., I), w (O, I) and b (O,)."""
    shape = w._array.shape
    if len(shape) != 2 or x._array.shape[-1:] != shape[1:] or (b is not None and b._array.shape != shape[:1]):
        got = f"x {x.shape}, w {w.shape}" + (f", b {b.shape}" if b is not None else "")
        raise ValueError(
            f"{name}: expected x (..., I), w (O, I), b (O,); got {got}. w is (out, in): maybe transpose it"
        )


def check_residual(name: str, residual: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises: ValueError naming the op unless the residual has the shape of the result."""
    if residual is not None and residual._array.shape != shape:
        raise ValueError(f"{name}: expected a residual of the result's shape {shape}; got {residual.shape}")


@op
def linear(x: Tensor, w: Tensor, b: Tensor | None = None, residual: Tensor | None = None) -> Any:
    """y = x wᵀ + b + residual, rounded once

    Shapes: x (..., I), w (O, I), b (O,), residual (..., O) -> y (..., O)
    Saves:  x, w, as far as a gradient needs them
    """
    check("linear", x, w, b)
    y = scratch.empty((*x.shape[:-1], w.shape[0]), like=x)
    check_residual("linear", residual, y._array.shape)
    affine_kernel(rows(x), w, b, None if residual is None else rows(residual), out=Out(rows(y)))
    return y, (x, w)


@linear.keeps
def _(saved: Any, dx: Any, dw: Any, db: Any, dresidual: Any) -> tuple:
    x, w = saved
    return (x if dw else None, w if dx else None)


@linear.vjp
def _(g: Tensor, saved: Any, dx: Any, dw: Any, db: Any, dresidual: Any) -> None:
    x, w = saved
    flat = rows(g)
    if dx:
        with rows_out(dx) as out:
            matmul_kernel(flat, w, out=out)
    if dw:
        matmul_kernel(flat.T, rows(x), out=dw.out())
    if db:
        kernels.sum_to(flat, out=db.out())
    if dresidual:
        dresidual.lend(g)


linear.samples = [
    Sample(normal(3, 4), normal(5, 4), normal(5)),
    Sample(normal(2, 3, 4), normal(5, 4), normal(5)),
    Sample(normal(3, 4), normal(5, 4)),
    Sample(normal(4), normal(5, 4), normal(5)),
    Sample(normal(0, 4), normal(5, 4), normal(5)),
    Sample(normal(2, 3, 4), normal(5, 4), normal(5), normal(2, 3, 5)),
    Sample(normal(4), normal(5, 4), None, normal(5)),
]
