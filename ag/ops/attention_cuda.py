"""Attention on CUDA, of heads (B, H, T, D) however they lie: a graph of cuDNN's, or kernels of our own.

Heads of the packed (B, T, 3C) are views, of which both take the strides: nothing is transposed or copied.

cuDNN serves half types without a mask. (A mask may leave a query nothing to see, for which the result here is 0 and
cuDNN promises nothing.) Its gradient is not asked to be deterministic, which on Hopper takes a workspace of
(B, H, T, T) numbers: who needs the same bits in each run sets `ownt.cudnn.enabled` to False.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

from ag import kernels
from ag.ops import cached_attention_cuda  # noqa: F401  its override is of this file, too
from ag.ops.attention import attention_kernel, attention_vjp
from ownt import Tensor, cudnn
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.calls import Call, Calls
from ownt.cuda_source import FLOATS, Source
from ownt.kernel import Out

_source = Source(__file__)
_attend, _inner = _source.kernel("attend"), _source.kernel("attend_inner")
_queries_vjp, _keys_vjp, _mask_vjp = (_source.kernel(f"attend_{of}_vjp") for of in ("queries", "keys", "mask"))

_TILE, _THREADS, _WARP = 32, 64, 32  # as in attention_tiles.cuh
_CHUNK_BYTES = 256  # of a row of a result, in the type that is computed in, that are a block's
_WIDEST = 256  # columns of a head that cuDNN serves
_UNIT = cudnn.ALIGN // 2  # half-precision numbers that it reads at a time


@final
class Heads(NamedTuple):
    """Attention's inputs: q (B, H, T, D), k (B, G, S, D), v (B, G, S, E), a mask of four axes or None."""

    q: Any
    k: Any
    v: Any
    mask: Any
    causal: bool
    scale: float

    @property
    def sizes(self) -> tuple[Any, ...]:
        """heads, groups, queries, keys, depth, width, causal, scale: as kernels take them."""
        (_, heads, queries, depth), (_, groups, keys, width) = self.q.shape, self.v.shape
        return heads, groups, queries, keys, depth, width, int(self.causal), self.scale

    def grid(self, of: Any, columns: int) -> tuple[int, int, int]:
        """Blocks for a result of rows (B, heads, rows, ...), and as many columns."""
        chunk = _CHUNK_BYTES // dtypes.wide(self.q.dtype).itemsize
        return of.shape[0] * of.shape[1], -(-of.shape[2] // _TILE), -(-columns // chunk)

    def with_rows(self, calls: Calls) -> Heads:
        """The same with columns side by side."""
        return self._replace(**{name: _rows(calls, getattr(self, name)) for name in "qkv"})

    def masks(self, calls: Calls) -> tuple[Any, Any]:
        """The mask as (numbers to add, truth values), one or both of which are None."""
        if self.mask is None or dtypes.is_float(self.mask.dtype):
            return self.mask, None
        if self.mask.dtype == dtypes.bool_:
            return None, self.mask
        seen = calls.workspace(self.mask.shape, "bool").array
        calls.add(_differ, self.mask, seen)
        return None, seen

    def suit_cudnn(self, *arrays: Any) -> bool:
        """Whether cuDNN may serve it, its result and gradient, which lie as `arrays` do."""
        if self.mask is not None or self.q.dtype.itemsize != 2 or min(self.q.shape[2], self.k.shape[2]) < 2:
            return False
        layouts = [cudnn.layout(array) for array in (self.q, self.k, self.v, *arrays)]
        return cudnn.serves(devices.of(self.q)) and all(
            like.strides[3] == 1
            and like.shape[3] <= _WIDEST
            and not any(n % _UNIT for n in (like.shape[3], *like.strides[:3]))
            for like in layouts
        )

    def ends_suit_cudnn(self) -> bool:
        """Whether cuDNN's gradient is right: it reads beyond keys that end in the middle of a tile of 128, which makes
        NaN, unless causality hides them. Source: NVIDIA/cudnn-frontend, issue 628
        """
        queries, keys = self.q.shape[2], self.k.shape[2]
        return keys % 128 != 64 or (self.causal and queries <= keys)


def _differ(mask: Any, seen: Any) -> None:
    with devices.of(mask).quiet():
        devices.module(mask).not_equal(mask, 0, out=seen)


def _has_rows(array: Any) -> bool:
    return array.strides[-1] == array.itemsize


def _rows(calls: Calls, array: Any) -> Any:
    """The array, or a copy of it, with its columns side by side."""
    if _has_rows(array):
        return array
    copy = calls.workspace(array.shape)
    calls.launch(kernels.copy, array, out=Out(copy))
    return copy.array


def _strides(*arrays: Any) -> list[int]:
    """From sequence to sequence, head to head and row to row of each."""
    return [stride for array in arrays for stride in cudnn.layout(array).strides[:3]]


def _mask_strides(*masks: Any) -> list[int]:
    """Of the mask that there is, 0 along what it is broadcast over."""
    for mask in masks:
        if mask is not None:
            like = cudnn.layout(mask)
            return [stride if size > 1 else 0 for size, stride in zip(like.shape, like.strides, strict=True)]
    return [0] * 4


def _column(lse: Any) -> Any:
    """(B, H, T) as cuDNN takes it, (B, H, T, 1)"""
    return lse.reshape(*lse.shape, 1)


def sdpa(graph: cudnn.Graph, *arrays: cudnn.Layout, causal: bool, scale: float) -> None:
    """The graph of q, k, v -> y, lse"""
    q, k, v = (graph.input(like) for like in arrays[:3])
    results = graph.operations.sdpa(q=q, k=k, v=v, attn_scale=scale, generate_stats=True, **_band(causal))
    for result, like in zip(results, arrays[3:], strict=True):
        graph.output(result, like)


def sdpa_backward(graph: cudnn.Graph, *arrays: cudnn.Layout, causal: bool, scale: float) -> None:
    """The graph of q, k, v, y, g, lse -> dq, dk, dv"""
    q, k, v, y, g, lse = (graph.input(like) for like in arrays[:6])
    results = graph.operations.sdpa_backward(
        q=q, k=k, v=v, o=y, dO=g, stats=lse, attn_scale=scale, use_deterministic_algorithm=False, **_band(causal)
    )
    for result, like in zip(results, arrays[6:], strict=True):
        graph.output(result, like)


def _band(causal: bool) -> dict[str, int]:
    """Query i sees keys up to i + 0."""
    return {"diagonal_band_right_bound": 0} if causal else {}


def attend(calls: Calls, heads: Heads, y: Out, lse: Out) -> None:
    """y (B, H, T, E) and lse (B, H, T), which is contiguous, of heads that have columns"""
    options = {"causal": heads.causal, "scale": heads.scale}
    if heads.suit_cudnn(y.array) and cudnn.add(calls, sdpa, (*heads[:3], y.array, _column(lse.array)), **options):
        return
    q, k, v, *_ = heads = heads.with_rows(calls)
    bias, seen = heads.masks(calls)
    place = _place(calls, y)
    launch = _attend.launch(devices.of(q), q.dtype, heads.grid(q, v.shape[3]), _THREADS)
    strides = *_strides(q, k, v), *_mask_strides(bias, seen), *_strides(place.array)
    calls.add(launch, q, k, v, bias, seen, place.array, lse.array, *heads.sizes, *strides)
    _settle(calls, y, place)


def attend_back(
    calls: Calls, heads: Heads, g: Any, y: Any, lse: Any,
    *, dq: Out | None, dk: Out | None, dv: Out | None, dmask: Out | None = None,
) -> None:  # fmt: skip
    """The gradients of heads that have columns. Shapes: g and y (B, H, T, E), lse (B, H, T), contiguous"""
    suits = dmask is None and heads.suit_cudnn(g, y) and heads.ends_suit_cudnn()
    if suits and _back_by_cudnn(calls, heads, g, y, lse, (dq, dk, dv)):
        return
    heads = heads.with_rows(calls)
    g, y = _rows(calls, g), _rows(calls, y)
    inner = calls.workspace(lse.shape, lse.dtype).array
    sizes = heads.q.shape[1], heads.q.shape[2], heads.v.shape[3]
    blocks = (lse.shape[0] * lse.shape[1], -(-lse.shape[2] // _THREADS))
    launch = _inner.launch(devices.of(g), g.dtype, blocks, _THREADS)
    calls.add(launch, g, y, inner, *sizes, *_strides(g, y))
    _rest_of_back(calls, heads, g, (lse, inner), dq, dk, dv, dmask)


def _rest_of_back(
    calls: Calls, heads: Heads, g: Any, rows: tuple[Any, Any],
    dq: Out | None, dk: Out | None, dv: Out | None, dmask: Out | None,
) -> None:  # fmt: skip
    """From two numbers a row, lse and inner."""
    q, k, v, *_ = heads
    bias, seen = heads.masks(calls)
    device, dtype = devices.of(q), q.dtype
    given = g, q, k, v, bias, seen, *rows
    strides = *_strides(g, q, k, v), *_mask_strides(bias, seen)
    if dq is not None:
        to = _place(calls, dq)
        launch = _queries_vjp.launch(device, dtype, heads.grid(q, q.shape[3]), _THREADS)
        calls.add(launch, *given, to.array, to.beta, *heads.sizes, *strides, *_strides(to.array))
        _settle(calls, dq, to)
    if dk is not None or dv is not None:
        places = [out and _place(calls, out) for out in (dk, dv)]
        launch = _keys_vjp.launch(device, dtype, heads.grid(k, max(k.shape[3], v.shape[3])), _THREADS)
        arrays, betas = [place and place.array for place in places], [place.beta if place else 0 for place in places]
        of_each = _strides(*(like if array is None else array for array, like in zip(arrays, (k, v), strict=True)))
        calls.add(launch, *given, *arrays, *betas, *heads.sizes, *strides, *of_each)
        for out, place in zip((dk, dv), places, strict=True):
            _settle(calls, out, place)
    if dmask is not None:
        array = dmask.array
        launch = _mask_vjp.launch(device, dtype, array.size, _WARP)
        calls.add(
            launch, g, q, k, v, bias, *rows, array, dmask.beta, q.shape[0], *heads.sizes, *array.shape, *strides,
            *cudnn.layout(array).strides,
        )  # fmt: skip


def _back_by_cudnn(calls: Calls, heads: Heads, g: Any, y: Any, lse: Any, outs: Sequence[Out | None]) -> bool:
    """Whether it does. What adds, or is not wanted, is written to a workspace."""
    places = [
        out if out is not None and not out.beta and heads.suit_cudnn(out.array) else Out(calls.workspace(like.shape))
        for out, like in zip(outs, heads[:3], strict=True)
    ]
    arrays = *heads[:3], y, g, _column(lse), *(place.array for place in places)
    if not cudnn.add(calls, sdpa_backward, arrays, causal=heads.causal, scale=heads.scale):
        return False
    for out, place in zip(outs, places, strict=True):
        _settle(calls, out, place)
    return True


def _place(calls: Calls, out: Out) -> Out:
    """Where a kernel writes: to the destination if its columns lie side by side, else to a workspace."""
    return out if _has_rows(out.array) else Out(calls.workspace(out.array.shape))


def _settle(calls: Calls, out: Out | None, place: Out | None) -> None:
    """Bring from a workspace what belongs elsewhere."""
    if out is not None and place is not None and place is not out:
        calls.launch(kernels.copy, place.array, out=out)


def _apart(packed: Any, parts: int, heads: int) -> list[Any]:
    """(B, T, parts H D), a Tensor or an array, as views (B, H, T, D)."""
    b, t, width = packed.shape
    shape = (b, t, parts, heads, width // parts // heads)
    split = (packed.view(shape) if type(packed) is Tensor else packed.reshape(shape)).transpose(2, 0, 3, 1, 4)
    return [split[part] for part in range(parts)]


def _problem(qkv: Any, heads: int) -> Heads:
    q, k, v = _apart(qkv, 3, heads)
    return Heads(q, k, v, None, True, q.shape[-1] ** -0.5)


@attention_kernel.on("cuda", *FLOATS)
def _(qkv: Any, heads: int, *, out: Out, lse: Out) -> Call | None:
    if out.beta or not qkv.shape[-1]:
        return None
    calls = Calls(out.tensor)
    attend(calls, _problem(qkv, heads), Out(_apart(out.tensor, 1, heads)[0]), lse)
    return calls.bound()


@attention_vjp.on("cuda", *FLOATS)
def _(g: Any, qkv: Any, y: Any, lse: Any, heads: int, *, out: Out) -> Call | None:
    if not qkv.shape[-1]:
        return None
    calls = Calls(out.tensor)
    dq, dk, dv = (Out(part, out.beta) for part in _apart(out.tensor, 3, heads))
    (g,), (y,) = _apart(g, 1, heads), _apart(y, 1, heads)
    attend_back(calls, _problem(qkv, heads), g, y, lse, dq=dq, dk=dk, dv=dv)
    return calls.bound()
