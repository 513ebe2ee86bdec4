"""attention: of queries to keys and values given apart, with masks and with heads that share keys and values.

As in causal_attention, scores are worked through in tiles and one number a row stays for the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ag.op import Mask, op
from ag.ops import arithmetic
from ag.ops.attention import product, tiles
from ag.sample import Sample, integers, normal
from ownt import Tensor, scratch
from ownt import device as devices
from ownt.dtype import is_float, wide
from ownt.kernel import Out, kernel


def _grouped(q: Any, k: Any) -> Any:
    """q (B, H, T, D) as (B, G, H / G, T, D), beside k (B, G, S, D), whose heads serve H / G of q's each."""
    b, heads, t, width = q.shape
    groups = k.shape[1]
    return q.reshape(b, groups, heads // groups, t, width)


def _part(mask: Any, batch: slice, queries: slice) -> Any:
    """What of a mask, of four axes that may have size 1, a tile needs."""
    return mask[batch if mask.shape[0] > 1 else slice(None), :, queries if mask.shape[2] > 1 else slice(None)]


def _scores(q: Any, k: Any, mask: Any, causal: bool, scale: float, batch: slice, queries: slice) -> Any:
    """Scaled scores (b, H, t, S) of a tile, -inf where a key may not be seen."""
    xp = devices.module(q)
    part = _grouped(q[batch, :, queries] * scale, k)
    scores = product(part, k[batch, :, None].swapaxes(-1, -2))
    scores = scores.reshape(part.shape[0], q.shape[1], *scores.shape[-2:])
    if causal:
        scores[..., xp.arange(k.shape[2]) > xp.arange(queries.start, queries.stop)[:, None]] = -xp.inf
    if mask is not None and is_float(mask.dtype):
        scores += _part(mask, batch, queries)
    elif mask is not None:
        scores = xp.where(_part(mask, batch, queries) != 0, scores, -xp.inf).astype(q.dtype, copy=False)
    return scores


@kernel
def attend_kernel(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float, *, out: Out, lse: Out) -> None:
    """Shapes: q (B, H, T, D), k (B, G, S, D), v (B, G, S, E), mask of four axes or None -> out (B, H, T, E),
    lse (B, H, T), the logarithm of each row's sum of exponentials; of a row that sees nothing 0 and -inf"""
    xp = devices.module(q)
    if not k.size:  # nothing to see
        out.store(0)
        lse.store(-xp.inf)
    for batch, queries in _tiles(q, k):
        p = _scores(q, k, mask, causal, scale, batch, queries)
        top = p.max(-1, keepdims=True)
        top = xp.where(top == -xp.inf, 0, top).astype(q.dtype, copy=False)
        p -= top
        xp.exp(p, out=p)
        total = p.sum(-1, keepdims=True)
        lse[batch, :, queries].store((top + xp.log(total))[..., 0])
        p /= xp.where(total == 0, 1, total).astype(q.dtype, copy=False)
        y = product(_grouped(p, v), v[batch, :, None])
        out[batch, :, queries].store(y.reshape(*p.shape[:3], v.shape[-1]))


@kernel
def attend_vjp(
    g: Any, q: Any, k: Any, v: Any, mask: Any, y: Any, lse: Any, causal: bool, scale: float,
    *, dq: Out | None, dk: Out | None, dv: Out | None, dmask: Out | None,
) -> None:  # fmt: skip
    """Shapes: as of attend_kernel, g like y. Adds, always."""
    xp = devices.module(q)
    inner = (g * y).sum(-1, keepdims=True)
    for batch, queries in _tiles(q, k):
        p = _scores(q, k, mask, causal, scale, batch, queries)
        row = lse[batch, :, queries, None]
        p -= xp.where(row == -xp.inf, 0, row).astype(q.dtype, copy=False)
        xp.exp(p, out=p)
        weights, gradient = _grouped(p, k), _grouped(g[batch, :, queries], k)
        if dv:
            dv.array[batch] += product(weights.swapaxes(-1, -2), gradient).sum(2)
        if not (dq or dk or dmask):
            continue
        dp = product(gradient, v[batch, :, None].swapaxes(-1, -2)).reshape(p.shape)
        dp -= inner[batch, :, queries]
        dp *= p
        if dmask:
            _add_over_broadcast(dp, _part(dmask.array, batch, queries))
        dp *= scale
        slope = _grouped(dp, k)
        if dq:
            dq.array[batch, :, queries] += product(slope, k[batch, :, None]).reshape(*p.shape[:3], -1)
        if dk:
            dk.array[batch] += product(slope.swapaxes(-1, -2), _grouped(q[batch, :, queries], k)).sum(2)


def _add_over_broadcast(values: Any, target: Any) -> None:
    """target += values, summed over the axes along which target has size 1."""
    axes = tuple(a for a, (few, many) in enumerate(zip(target.shape, values.shape, strict=True)) if few < many)
    target += values.sum(axes, keepdims=True)


def _tiles(q: Any, k: Any) -> Iterator[tuple[slice, slice]]:
    """(batch, query) tiles of the scores; none where there are none."""
    return tiles(q.shape[0], q.shape[1], q.shape[2], k.shape[2]) if q.size and k.size else iter(())


def four_axes(x: Tensor) -> Tensor:
    """x with axes of size 1 put before its own, to make four."""
    return x.view((1,) * (4 - x.ndim) + x.shape)


def check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    """Raises: ValueError for shapes that do not fit, TypeError for a mask of other numbers."""
    shapes = q.shape, k.shape, v.shape
    fits = q.ndim == k.ndim == v.ndim and 2 <= q.ndim <= 4 and k.shape[:-1] == v.shape[:-1]
    fits = fits and q.shape[-1] == k.shape[-1] and q.shape[:-3] == k.shape[:-3]
    if not fits or (q.ndim > 2 and (not k.shape[-3] or q.shape[-3] % k.shape[-3])):
        raise ValueError(
            "attention: expected q (B, H, T, D), k (B, G, S, D) and v (B, G, S, E), H divisible by G; "
            f"got {', '.join(map(str, shapes))}. Reshape and transpose: heads come before positions"
        )
    if mask is None:
        return
    scores = (*q.shape[:-1], k.shape[-2])
    if mask.ndim > q.ndim or arithmetic.broadcast_shape("attention", mask.shape, scores) != scores:
        raise ValueError(f"attention: expected a mask that broadcasts to the scores {scores}; got {mask.shape}")
    if is_float(mask.dtype) and mask.dtype != q.dtype:
        raise TypeError(f"attention: expected a mask of truth values or of {q.dtype}; got {mask.dtype}. Use astype")


@op
def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask | None = None, causal: bool = False, scale: float | None = None
) -> Any:
    """y = softmax(scale q kᵀ + mask) v for each head; heads of q share those of k and v evenly, the first the first

    mask: numbers to add, or truth values (or integers) of which what is false may not be seen. causal: query i sees
    keys 0 to i. scale: 1 / sqrt(D) by default. A query that sees nothing gives 0.
    Shapes: q (B, H, T, D), k (B, G, S, D), v (B, G, S, E), G dividing H, all maybe without B or B and H;
            mask broadcasts to (B, H, T, S) -> y (B, H, T, E)
    Saves:  q, k, v, mask, y, one number a row and head
    Source: Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245, for the shared heads
    """
    check(q, k, v, mask)
    scale = q.shape[-1] ** -0.5 if scale is None and q.shape[-1] else scale or 0.0
    y = scratch.empty((*q.shape[:-1], v.shape[-1]), like=q)
    q, k, v, mask = (x if x is None else four_axes(x) for x in (q, k, v, mask))  # type: ignore[assignment]
    lse = scratch.empty(q.shape[:3], like=q, dtype=wide(q.dtype))
    attend_kernel(q, k, v, mask, causal, scale, out=Out(four_axes(y)), lse=Out(lse))
    return y, (q, k, v, mask, four_axes(y), lse, causal, scale)


@attention.vjp
def _(g: Tensor, saved: Any, dq: Any, dk: Any, dv: Any, dmask: Any) -> None:
    slots = {"dq": dq, "dk": dk, "dv": dv, "dmask": dmask}
    outs = {
        name: slot and slot.out(zero=True).view((1,) * (4 - len(slot.shape)) + slot.shape)
        for name, slot in slots.items()
    }
    attend_vjp(four_axes(g), *saved, **outs)


attention.samples = [
    Sample(normal(2, 2, 5, 3), normal(2, 2, 4, 3), normal(2, 2, 4, 6)),
    Sample(normal(2, 4, 5, 3), normal(2, 2, 5, 3), normal(2, 2, 5, 3), causal=True),
    Sample(normal(1, 6, 3, 2), normal(1, 1, 7, 2), normal(1, 1, 7, 2), integers(2, 3, 7), scale=0.5),
    Sample(normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4), normal(2, 1, 3, 5)),
    Sample(normal(3, 4, 2), normal(3, 5, 2), normal(3, 5, 2), normal(5)),
    Sample(normal(4, 2), normal(5, 2), normal(5, 3)),
    Sample(normal(1, 2, 70, 2), normal(1, 1, 70, 2), normal(1, 1, 70, 2), causal=True),
    Sample(normal(2, 2, 3, 2), normal(2, 2, 0, 2), normal(2, 2, 0, 4)),
]
