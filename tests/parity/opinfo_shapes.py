"""Rows of views, of joins and of choices by index; see `opinfo_rows`."""

from __future__ import annotations

from typing import Any

from opinfo import AXIS_OF_NUMBER, LeftOut, Row, axes

import ag
from ownt import indexing

KEPT_AXIS = "an axis of another size than 1, which torch keeps"
EMPTY_VECTOR = "an empty vector among tensors of more axes, which torch ignores"
EMPTY_INDEX = "an empty index of any axes"
ARRAYS, NO_ARRAYS = "arrays in the key", "no arrays in the key"


def squeeze(x: Any, dim: Any = None) -> Any:
    if dim is None:
        return ag.squeeze(x)
    named = axes(x, dim, none=())
    if any(x.shape[axis] != 1 for axis in ([named] if isinstance(named, int) else named)):
        raise LeftOut(KEPT_AXIS)
    return ag.squeeze(x, named)


def expand(x: Any, shape: Any) -> Any:
    """-1 stands for the size that is there."""
    sizes = (1,) * (len(shape) - x.ndim) + x.shape
    return ag.broadcast_to(x, tuple(size if wanted == -1 else wanted for size, wanted in zip(sizes, shape)))


def cat(tensors: Any, dim: int = 0) -> Any:
    shapes = [getattr(part, "shape", ()) for part in tensors]
    if (0,) in shapes and max(map(len, shapes)) > 1:
        raise LeftOut(EMPTY_VECTOR)
    return ag.concat(tensors, axis=dim)


def gather(x: Any, dim: int, index: Any) -> Any:
    if not index.size and index.ndim != x.ndim:
        raise LeftOut(EMPTY_INDEX)
    return ag.gather(x, axes(x, dim), index)


def at(dim: int, part: Any) -> tuple[Any, ...]:
    """The key of `part` along an axis."""
    return (..., part, *(slice(None),) * (-1 - dim)) if dim < 0 else (*(slice(None),) * dim, part)


def getitem(x: Any, key: Any) -> Any:
    if not indexing.is_basic(indexing.index_key(key)):
        raise LeftOut(ARRAYS)
    return x[key]


def index(x: Any, key: Any) -> Any:
    if indexing.is_basic(indexing.index_key(key)):
        raise LeftOut(NO_ARRAYS)
    return x[key]


ROWS = [
    Row("reshape", "reshape", lambda x, shape: x.reshape(shape)),
    Row("reshape", "view", lambda x, shape: x.reshape(shape)),
    Row("transpose", "permute", lambda x, dims: x.transpose(dims)),
    Row("transpose", "T", lambda x: x.T),
    Row("transpose", "t", lambda x: x.T, legal={"t() expects": "it reverses any number of axes"}),
    Row("swapaxes", "transpose", lambda x, a, b: ag.swapaxes(x, axes(x, a), axes(x, b)), left_out=(AXIS_OF_NUMBER,)),
    Row("swapaxes", "mT", lambda x: ag.swapaxes(x, -1, -2)),
    Row("squeeze", "squeeze", squeeze, left_out=(AXIS_OF_NUMBER, KEPT_AXIS)),
    Row("squeeze", "squeeze.multiple", squeeze, left_out=(AXIS_OF_NUMBER, KEPT_AXIS)),
    Row("unsqueeze", "unsqueeze"),
    Row("flip", "flip", lambda x, dims: ag.flip(x, axes(x, dims, none=()))),
    Row("flip", "fliplr", lambda x: ag.flip(x, 1)),
    Row("flip", "flipud", lambda x: ag.flip(x, 0)),
    Row("broadcast_to", "broadcast_to", lambda x, shape: ag.broadcast_to(x, tuple(shape))),
    Row("broadcast_to", "expand", expand),
    Row("repeat", "repeat", lambda x, repeats: ag.repeat(x, tuple(repeats))),
    Row("concat", "cat", cat, left_out=(EMPTY_VECTOR,)),
    Row("stack", "stack", lambda tensors, dim=0: ag.stack(tensors, axis=dim)),
    Row("split", "split", lambda x, size, dim=0: ag.split(x, size, dim)),
    Row("split", "split.list_args", lambda x, sizes, dim=0: ag.split(x, sizes, dim)),
    Row("split", "split_with_sizes", lambda x, sizes, dim=0: ag.split(x, sizes, dim)),
    Row("chunk", "chunk", lambda x, chunks, dim=0: ag.chunk(x, chunks, dim)),
    Row("constant_pad", "constant_pad_nd", lambda x, widths, value=0.0: ag.pad(x, widths, value=value)),
    *(
        Row("pad", f"nn.functional.pad.{mode}", lambda x, pad, mode="constant", value=0.0: ag.pad(x, pad, mode, value))
        for mode in ("constant", "reflect", "replicate", "replicate_negative", "circular")
    ),
    Row("getitem", "__getitem__", getitem, left_out=(ARRAYS,)),
    Row("getitem", "select", lambda x, dim, place: x[at(dim, place)]),
    Row("getitem", "slice", lambda x, dim=0, start=None, end=None, step=1: x[at(dim, slice(start, end, step))]),
    Row("index", "__getitem__", index, left_out=(NO_ARRAYS,)),
    Row("index", "index_select", lambda x, dim, places: x[at(axes(x, dim), places)], left_out=(AXIS_OF_NUMBER,)),
    Row("gather", "gather", gather, left_out=(AXIS_OF_NUMBER, EMPTY_INDEX)),
    Row(
        "topk", "topk", lambda x, k, dim=-1, largest=True, sorted=True: ag.topk(x, k, axes(x, dim), largest),
        left_out=(AXIS_OF_NUMBER,),
    ),
    Row("tril", "tril"),
    Row("triu", "triu"),
]  # fmt: skip
