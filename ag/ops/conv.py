"""conv2d: convolution of images, as PyTorch's (cross-correlation)."""

from __future__ import annotations

from typing import Any

from ag.op import op, where
from ag.ops.window import Pair, Window, check_images, window
from ag.sample import Sample, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.kernel import Out, kernel


def _by_group(array: Any, groups: int) -> Any:
    """Images (N, C, H, W) as (N, G, C / G, H, W)"""
    n, c, height, width = array.shape
    return array.reshape(n, groups, c // groups, height, width)


@kernel
def conv_kernel(x: Any, w: Any, b: Any, window: Window, groups: int, *, out: Out) -> None:
    """out = x * w + b. Shapes: x (N, C, H, W), w (O, C / G, KH, KW), b (O,) or None, out (N, O, OH, OW)"""
    xp = devices.module(x)
    given, weights = _by_group(x, groups), w.reshape(groups, -1, *w.shape[1:])
    total = xp.zeros_like(_by_group(out.array, groups))
    for i, j in window.taps():
        (rows, columns), (down, across) = window.under((i, j), x.shape[2:])
        total[:, :, :, down, across] += xp.einsum("ngchw,goc->ngohw", given[:, :, :, rows, columns], weights[..., i, j])
    total = total.reshape(out.array.shape)
    out.store(total if b is None else total + b[:, None, None])


@kernel
def conv_input_vjp(g: Any, w: Any, window: Window, groups: int, *, out: Out) -> None:
    """Shapes: g (N, O, OH, OW), w (O, C / G, KH, KW), out (N, C, H, W)"""
    xp = devices.module(g)
    slopes, weights = _by_group(g, groups), w.reshape(groups, -1, *w.shape[1:])
    total = xp.zeros_like(_by_group(out.array, groups))
    for i, j in window.taps():
        (rows, columns), (down, across) = window.under((i, j), out.array.shape[2:])
        total[:, :, :, rows, columns] += xp.einsum(
            "ngohw,goc->ngchw", slopes[:, :, :, down, across], weights[..., i, j]
        )
    out.store(total.reshape(out.array.shape))


@kernel
def conv_weight_vjp(g: Any, x: Any, window: Window, groups: int, *, out: Out) -> None:
    """Shapes: g (N, O, OH, OW), x (N, C, H, W), out (O, C / G, KH, KW)"""
    xp = devices.module(g)
    slopes, given = _by_group(g, groups), _by_group(x, groups)
    for i, j in window.taps():
        (rows, columns), (down, across) = window.under((i, j), x.shape[2:])
        share = xp.einsum("ngohw,ngchw->goc", slopes[:, :, :, down, across], given[:, :, :, rows, columns])
        out[:, :, i, j].store(share.reshape(out.array.shape[:2]))


@kernel
def conv_bias_vjp(g: Any, *, out: Out) -> None:
    """Shapes: g (N, O, OH, OW), out (O,)"""
    out.store(g.sum((0, 2, 3)))


@conv_kernel.operations
def _(x: Any, w: Any, b: Any, window: Window, groups: int) -> int:
    height, width = window.output(*x.shape[2:])
    return 2 * x.shape[0] * height * width * w.size


@conv_input_vjp.operations
def _(g: Any, w: Any, window: Window, groups: int) -> int:
    return 2 * g.size // max(g.shape[1], 1) * w.size


@conv_weight_vjp.operations
def _(g: Any, x: Any, window: Window, groups: int) -> int:
    return 2 * g.size * x.shape[1] // groups * window.size[0] * window.size[1]


def check(x: Tensor, w: Tensor, b: Tensor | None, groups: int) -> None:
    """Raises: ValueError unless the shapes fit."""
    whole = type(groups) is int and groups >= 1 and x.ndim == w.ndim == 4
    if (
        not whole
        or x.shape[1] != groups * w.shape[1]
        or w.shape[0] % groups
        or (b is not None and b.shape != w.shape[:1])
    ):
        got = ", ".join(str(p.shape) for p in (x, w, b) if p is not None)
        raise ValueError(
            f"{where('conv2d')}: expected x (N, C, H, W), w (O, C / groups, KH, KW), O divisible by groups, b (O,); "
            f"got {got} and groups={groups}"
        )


@op
def conv2d(
    x: Tensor, w: Tensor, b: Tensor | None = None,
    stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1, recompute: bool = False,
) -> Any:  # fmt: skip
    """y[n, o] = b[o] + the sum over c, i, j of w[o, c, i, j] x[n, c] shifted by (i, j); zeros around x as padding

    Shapes: x (N, C, H, W), w (O, C / groups, KH, KW), b (O,) -> y (N, O, OH, OW), its channels last in memory
    recompute: whether others' gradients have y made again rather than keep it
    Saves:  x, w
    """
    check(x, w, b, groups)
    slide = window("conv2d", w.shape[2:], stride, padding, dilation)
    y = scratch.images((x.shape[0], w.shape[0], *check_images("conv2d", x, slide)), like=x)
    conv_kernel(x, w, b, slide, groups, out=Out(y))
    return y, (x, w, b, slide, groups, recompute)


@conv2d.vjp
def _(g: Tensor, saved: Any, dx: Any, dw: Any, db: Any) -> None:
    x, w, _, slide, groups, _ = saved
    if db:
        conv_bias_vjp(g, out=db.out())
    if dw:
        conv_weight_vjp(g, x, slide, groups, out=dw.out())
    if dx:
        conv_input_vjp(g, w, slide, groups, out=dx.out())


@conv2d.keeps
def _(saved: Any, dx: Any, dw: Any, db: Any) -> tuple:
    x, w, b, slide, groups, recompute = saved
    if not recompute:
        x, w, b = x if dw else None, w if dx else None, None
    return x, w, b, slide, groups, recompute


@conv2d.remakes
def _(saved: Any, out: Out) -> None:
    conv_kernel(*saved[:-1], out=out)


conv2d.samples = [
    Sample(normal(2, 3, 5, 4), normal(4, 3, 3, 3), normal(4), padding=1),
    Sample(normal(2, 3, 5, 6), normal(4, 3, 3, 2), stride=2),
    Sample(normal(1, 4, 6, 5), normal(6, 2, 3, 1), normal(6), (2, 1), (1, 0), (2, 3), 2),
    Sample(normal(2, 3, 4, 4), normal(5, 3, 1, 1), stride=2),
    Sample(normal(2, 4, 3, 3), normal(4, 1, 3, 3), padding=2, groups=4),
    Sample(normal(1, 2, 2, 2), normal(3, 2, 5, 5), padding=(2, 3)),
]
