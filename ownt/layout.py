"""Layouts: of images, logically (N, C, H, W), in memory with the channels first or last; of matrices; and of any
array, to tell whether two are alike."""

from __future__ import annotations

from typing import Any, final

TO_LAST, FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


def channels_last(array: Any) -> bool:
    """Whether it is an array of images whose channels lie last, and not first too."""
    return array.ndim == 4 and not array.flags.c_contiguous and array.transpose(TO_LAST).flags.c_contiguous


def by_strides(array: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(the axes from the farthest apart to the nearest in memory, the order that undoes it)"""
    order = tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
    return order, tuple(sorted(range(array.ndim), key=order.__getitem__))


def stored(array: Any) -> tuple[bool, int] | None:
    """How the matrices of the last two axes lie, as BLAS sees it; None where it cannot take them.

    Whether they are stored by columns, and the leading dimension: elements from one row, or column, to the next.
    """
    (count, width), (down, across), size = array.shape[-2:], array.strides[-2:], array.itemsize
    if (across == size or width == 1) and (down >= width * size or count == 1):
        return False, max(down // size if count > 1 else width, 1)
    if (down == size or count == 1) and (across >= count * size or width == 1):
        return True, max(across // size if width > 1 else count, 1)
    return None


@final
class Layout:
    """Shape, strides and dtype of an array, and whether it may be written to.

    There is one of each, so that two are compared by identity.
    """

    __slots__ = ()


_layouts: dict[tuple[Any, ...], Layout] = {}
_MOST = 1 << 14  # of them; beyond that all are forgotten, and found to differ from those that follow


def layout_like(*properties: Any) -> Layout:
    """The one of such properties."""
    if len(_layouts) > _MOST:
        _layouts.clear()
    return _layouts.setdefault(properties, Layout())


def layout_of(tensor: Any) -> Layout:
    """The layout of a Tensor, which keeps it unless its array is somebody else's, who may change it."""
    array = tensor._array
    found = layout_like(array.shape, array.strides, array.dtype, array.flags.writeable)
    if tensor._block.source is not None:
        tensor._layout = found
    return found
