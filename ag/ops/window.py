"""Windows that slide over images: where they lie, for convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ag.op import where

Pair = int | tuple[int, int]


class Window(NamedTuple):
    """A window's height and width, and how it slides: each a pair (along height, along width)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def output(self, height: int, width: int) -> tuple[int, int]:
        """How many places it takes on an image; none or fewer where it does not fit."""
        places = [
            (n + 2 * padding - dilation * (size - 1) - 1) // stride + 1
            for n, size, stride, padding, dilation in zip((height, width), *self, strict=True)
        ]
        return places[0], places[1]

    def always_meets(self, image: Any) -> bool:
        """Whether at each of its places one of its elements or more lies on the image."""
        for n, count, size, stride, padding, dilation in zip(image, self.output(*image), *self, strict=True):
            for place in range(count):
                first = place * stride - padding
                if not any(0 <= first + i * dilation < n for i in range(size)):
                    return False
        return True

    def taps(self) -> Iterator[tuple[int, int]]:
        """Its elements, row by row."""
        return ((i, j) for i in range(self.size[0]) for j in range(self.size[1]))

    def under(self, tap: tuple[int, int], image: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where one of its elements meets the image, and the places of the window for which it does; two slices each.

        Of an image (height, width) without its padding, so the places are those where it does not meet the padding.
        """
        met, places = [], []
        for axis, (n, count) in enumerate(zip(image, self.output(*image), strict=True)):
            stride = self.stride[axis]
            offset = tap[axis] * self.dilation[axis] - self.padding[axis]
            first = max(0, -(offset // stride))  # the first place p with p * stride + offset >= 0
            last = min(count, (n - 1 - offset) // stride + 1)
            last = max(first, last)
            met.append(slice(first * stride + offset, max((last - 1) * stride + offset + 1, 0), stride))
            places.append(slice(first, last))
        return (met[0], met[1]), (places[0], places[1])


def pair(value: Any, op: str, name: str, least: int) -> tuple[int, int]:
    """A number for both axes, or one for each.

    Raises: ValueError unless they are integers, `least` or more.
    """
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    numbers = tuple([n.__index__() if hasattr(n, "__index__") else n for n in numbers])
    if len(numbers) != 2 or not all(type(n) is int and n >= least for n in numbers):
        raise ValueError(f"{where(op)}: expected {name} to be an integer of {least} or more, or two; got {value!r}")
    return numbers[0], numbers[1]


def window(op: str, size: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
    """Raises: ValueError for what is no window."""
    return Window(
        pair(size, op, "the kernel's size", 1),
        pair(stride, op, "stride", 1),
        pair(padding, op, "padding", 0),
        pair(dilation, op, "dilation", 1),
    )


def check_images(op: str, x: Any, w: Window) -> tuple[int, int]:
    """The output's height and width. Raises: ValueError unless x are images that the window fits on."""
    if x.ndim != 4:
        raise ValueError(f"{where(op)}: expected images (N, C, H, W); got shape {x.shape}")
    height, width = w.output(*x.shape[2:])
    if height < 1 or width < 1:
        padded = tuple(n + 2 * p for n, p in zip(x.shape[2:], w.padding, strict=True))
        reach = tuple(d * (n - 1) + 1 for n, d in zip(w.size, w.dilation, strict=True))
        raise ValueError(
            f"{where(op)}: expected images that a window of {reach[0]}x{reach[1]} fits on; "
            f"got {padded[0]}x{padded[1]} with their padding"
        )
    return height, width
