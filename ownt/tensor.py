"""Tensor: an array and the Block that owns its bytes. No gradient, no graph: those are ag.Node's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

from ownt import device as devices
from ownt import dtype as dtypes
from ownt import indexing, launch, memory


@final
class Tensor:
    """A pure data container: an n-dimensional array on a device.

    `Tensor(values)` takes an array (shared, not copied, unless it is read-only), nested lists or a number. Views made
    by slicing, `reshape`, `transpose` share the bytes; writing in place (`t[...] = v`, `t += v`, `t.copy_(v)`)
    bumps a version that backward checks.
    """

    __slots__ = ("_array", "_block", "_layout")
    _array: Any
    _block: Any
    _layout: Any  # set when it is asked for; see ownt.layout

    def __init__(self, values: Any, dtype: Any = None, device: str | None = None) -> None:
        made = asarray(values, dtype, device)
        self._array, self._block = made._array, made._block

    # what it is

    @property
    def array(self) -> Any:
        """The raw array, for kernels: it does not keep the memory alive. Users want `numpy()`.

        Raises: RuntimeError if its scratch memory was reclaimed.
        """
        if self._block.dead:
            raise RuntimeError(
                f"tensor read after its scratch memory was reclaimed: {self._block!r}. "
                "Keep a copy from before the end: tensor.clone()"
            )
        return self._array

    @property
    def block(self) -> Any:
        return self._block

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> dtypes.DType:
        return self._array.dtype

    @property
    def device(self) -> str:
        return devices.of(self._array).name

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis, as NumPy counts them."""
        return self._array.strides

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def nbytes(self) -> int:
        """Bytes of its elements; a view's are part of its Block's."""
        return self._array.nbytes

    @property
    def is_contiguous(self) -> bool:
        return self._array.flags.c_contiguous

    @property
    def grad(self) -> Any:
        raise AttributeError(
            "ownt.Tensor holds data only; gradients belong to ag.Node: "
            "w = ag.make_tensor(t, requires_grad=True); ...; w.grad"
        )

    # views

    @property
    def T(self) -> Tensor:
        return wrap(self._array.T, self._block)

    def view(self, shape: tuple[int, ...]) -> Tensor:
        """The same bytes in another shape, one size may be -1.

        Raises: ValueError if the strides or the size forbid it; `reshape` copies where need be.
        """
        if not (self._array.flags.c_contiguous or _viewable(self._array, shape)):
            raise ValueError(
                f"view: expected a shape that strides {self.strides} of shape {self.shape} allow without a copy; "
                f"got {shape}. Use reshape, which copies"
            )
        return wrap(_reshaped(self._array, shape), self._block)

    def reshape(self, *shape: Any) -> Tensor:
        """Another shape, given as integers or a tuple; a view where the strides allow it, else a copy."""
        wanted = indexing.shape_of(shape)
        source = self if self.is_contiguous or _viewable(self._array, wanted) else self.clone()
        return wrap(_reshaped(source._array, wanted), source._block)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order, reversed by default; a view."""
        return wrap(self._array.transpose(*axes), self._block)

    def __getitem__(self, key: Any) -> Tensor:
        """Slices and integers give views; integer and boolean arrays give copies."""
        if type(key) is slice and indexing.is_all(key, self._array.shape):
            return self  # where an op works in pieces, and there is but one
        key = indexing.index_key(key)
        if indexing.is_basic(key):
            return wrap(self._array[key], self._block)
        launch.not_repeatable("a tensor was indexed by an array")
        place = devices.of(self._array)
        with place.working():
            return _copied(self.array[tuple([place.bring(indexing.raw(part)) for part in key])])

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self._array)

    # writes in place

    def __setitem__(self, key: Any, value: Any) -> None:
        key = tuple(map(indexing.raw, indexing.index_key(key)))
        launch.run("write", _write, (self.array, key, indexing.raw(value)), [self])
        self._block.version += 1

    def copy_(self, values: Any) -> Tensor:
        """Write `values`, broadcast and cast, over this tensor."""
        self[...] = values
        return self

    def fill_(self, value: float) -> Tensor:
        self[...] = value
        return self

    def __iadd__(self, other: Any) -> Tensor:
        return self._in_place("add", other)

    def __isub__(self, other: Any) -> Tensor:
        return self._in_place("subtract", other)

    def __imul__(self, other: Any) -> Tensor:
        return self._in_place("multiply", other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._in_place("divide", other)

    def _in_place(self, operation: str, other: Any) -> Tensor:
        launch.run(operation, _apply, (self.array, operation, indexing.raw(other)), [self])
        self._block.version += 1
        return self

    # copies and other libraries

    def clone(self) -> Tensor:
        """A copy in memory of its own."""
        return _copied(self.array)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.clone()

    def astype(self, dtype: Any) -> Tensor:
        """The same values in another dtype; itself where that is its dtype."""
        wanted = dtypes.get(dtype)
        return self if wanted == self.dtype else _copied(self.array, wanted)

    def to(self, device: str | devices.Device) -> Tensor:
        """The same values on another device; itself where it is there."""
        place = devices.get(device)
        if place is devices.of(self._array):
            return self
        return _copied(devices.host(self.array), None, place)

    def numpy(self) -> Any:
        """A NumPy array of the same memory (a copy only from another device) that keeps it alive."""
        launch.not_repeatable("a tensor was read")
        place = devices.of(self._array)
        return place.export(self.array, self._block) if place is devices.cpu else place.to_host(self.array)

    def item(self) -> Any:
        """Its one element as a Python number."""
        launch.not_repeatable("a tensor was read")
        return dtypes.as_python(devices.of(self._array).to_host(self.array)).item()

    def tolist(self) -> Any:
        return dtypes.as_python(self.numpy()).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        host = self.numpy()
        cast = host if dtype is None else host.astype(dtype, copy=False)
        return cast.copy() if copy and cast is host else cast

    def __dlpack__(self, **options: Any) -> Any:
        place = devices.of(self._array)
        with place.working():
            return place.export(self.array, self._block).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __repr__(self) -> str:
        if self._block.dead:
            return f"Tensor(reclaimed, shape={self.shape}, dtype={self.dtype})"
        place = "" if self.device == "cpu" else f", device={self.device}"
        if not devices.of(self._array).runs():
            return f"Tensor(no data, shape={self.shape}, dtype={self.dtype}{place})"
        launch.not_repeatable("a tensor was shown")
        shown = devices.host(self._array)
        values = devices.cpu.xp.array2string(shown, separator=", ", prefix="Tensor(")
        return f"Tensor({values}, dtype={self.dtype}{place})"


def wrap(array: Any, block: Any) -> Tensor:
    """A Tensor of a raw array whose bytes belong to `block`."""
    made = Tensor.__new__(Tensor)
    made._array = array
    made._block = block
    return made


def asarray(values: Any, dtype: Any = None, device: str | devices.Device | None = None) -> Tensor:
    """A tensor of `values`: a Tensor or an array is shared where dtype and device allow it.

    Python floats become float32, the default; arrays keep their dtype. One that is read-only is copied.
    Shapes: those of `values`. Bytes shared with an array of the caller's are the caller's in the ledger.
    """
    if type(values) is Tensor:
        moved = values if device is None else values.to(device)
        return moved if dtype is None else moved.astype(dtype)
    place = devices.place_for(values, device)
    array = place.from_host(values)
    if dtype is None and dtypes.is_float(array.dtype) and not hasattr(values, "dtype"):
        dtype = dtypes.default
    wanted = dtypes.get(array.dtype if dtype is None else dtype)
    shared = array is values and devices.of(array) is place and getattr(array.flags, "writeable", True)
    shared = shared or (not place.runs() and devices.is_array(values))
    if shared and array.dtype == wanted:
        return wrap(array, memory.external())
    return _copied(array, wanted, place)


def _copied(array: Any, dtype: Any = None, place: devices.Device | None = None) -> Tensor:
    made = memory.heap(place or devices.of(array)).empty(array.shape, dtype or array.dtype, "buffer")
    launch.run("copy", _write, (made._array, ..., array), [made])
    return made


def _write(array: Any, key: Any, value: Any) -> None:
    devices.of(array).write(array, key, value)


def _apply(array: Any, operation: str, other: Any) -> None:
    place = devices.of(array)
    with place.working():
        getattr(place.xp, operation)(array, place.bring(other), array)


def _viewable(array: Any, shape: tuple[int, ...]) -> bool:
    """Whether the strides allow the shape; found without the copy that `reshape` would make."""
    try:
        array.reshape(shape, copy=False)
    except ValueError:
        return False
    return True


def _reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    try:
        return array.reshape(shape)
    except ValueError:
        raise ValueError(
            f"reshape: expected a shape of {array.size} elements; got {shape} for a tensor of shape {array.shape}"
        ) from None
