"""Node: a tensor in a computation, and the owner of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Any, final

import ag
from ag.slot import GradSlot
from ownt import Tensor, capture, indexing, tensor
from ownt.dtype import is_float
from ownt.heap import Heap

_hook_ids = count()


@final
class Node:
    """A tensor in a computation. Made by ops, or by `param`, `constant`, `make_tensor`.

    Every op of the registry is also a method: `x.relu()`, `x.sum(axis=0)`. Python numbers are weak: they
    take the dtype of the tensor they meet; tensors of two dtypes do not mix.
    """

    __slots__ = ("__weakref__", "_name", "slot", "tensor")
    __array_ufunc__ = None  # numpy_array + node is Node.__radd__'s to compute

    def __init__(self, tensor: Tensor, slot: GradSlot | None = None, name: str = "") -> None:
        self.tensor = tensor
        self.slot = slot
        self._name = name

    # what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> Any:
        return self.tensor.dtype

    @property
    def device(self) -> str:
        return self.tensor.device

    @property
    def ndim(self) -> int:
        return self.tensor.ndim

    @property
    def size(self) -> int:
        return self.tensor.size

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    @property
    def name(self) -> str:
        """What it is called; a parameter's name is also its path in the memory report."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        if self.slot is not None and self.slot.leaf:
            self.slot.name = name
            book_as_parameter(self)

    def item(self) -> Any:
        return self.tensor.item()

    def numpy(self) -> Any:
        return self.tensor.numpy()

    def detach(self) -> Node:
        """The same tensor, cut off from the graph."""
        return Node(self.tensor)

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        """A leaf with a copy of the tensor and no gradient; `copy.deepcopy` of a model comes here."""
        if not self.is_leaf:
            raise RuntimeError("deepcopy: expected a leaf; got a computed node. Use detach() to cut it off")
        return make_tensor(self.tensor.clone(), self.requires_grad, self._name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise RuntimeError("array of a Node: expected one that needs no gradient. Use node.detach().numpy()")
        return self.tensor.__array__(dtype, copy)

    def __len__(self) -> int:
        return len(self.tensor)

    def __float__(self) -> float:
        return float(self.tensor)

    def __int__(self) -> int:
        return int(self.tensor)

    def __bool__(self) -> bool:
        return bool(self.tensor)

    def __repr__(self) -> str:
        kind = "parameter" if self.slot and self.slot.leaf else "computed" if self.slot else "constant"
        name = f", name={self._name!r}" if self._name else ""
        return f"Node({self.tensor!r}, {kind}{name})"

    # gradient

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by hand, and not computed from a parameter."""
        return self.slot is None or self.slot.leaf

    @property
    def requires_grad(self) -> bool:
        return self.slot is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        """Freeze or unfreeze a leaf. Freezing frees its gradient."""
        if not self.is_leaf:
            raise RuntimeError("requires_grad: expected a leaf; got a computed node. Use detach() to cut it off")
        capture.changed()
        self._require_grad(wanted)

    def _require_grad(self, wanted: bool) -> None:
        if wanted and self.slot is None:
            if not is_float(self.tensor.dtype):
                raise TypeError(
                    f"requires_grad: expected a float tensor; got {self.tensor.dtype}. Use tensor.astype('float32')"
                )
            if not isinstance(self.tensor.block.source, Heap):  # a parameter is nobody else's memory, and no scratch
                self.tensor = self.tensor.clone()
            self.slot = GradSlot(self.tensor, leaf=True, name=self._name)
            book_as_parameter(self)
        elif not wanted:
            self.slot = None

    @property
    def grad(self) -> Tensor | None:
        """The gradient of a leaf, or None before there is one. Interior gradients are freed during backward."""
        return self.slot.tensor if self.slot is not None and self.slot.leaf else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        slot = self.slot
        if slot is None or not slot.leaf:
            raise RuntimeError("grad: expected a leaf that requires a gradient. Use ag.param or requires_grad = True")
        if value is not None and type(value) is not Tensor:
            raise TypeError(f"grad: expected an ownt.Tensor or None; got {type(value).__name__}. Use ownt.asarray")
        if value is not None and (value.shape, value.dtype) != (slot.shape, slot.dtype):
            raise ValueError(f"grad: expected {slot.shape} of {slot.dtype}; got {value.shape} of {value.dtype}")
        if value is not slot.tensor:
            slot.drop()
            if value is not None:
                slot.lend(value)

    def backward(self, grad: Tensor | None = None) -> None:
        """Compute the gradients of everything this scalar was made from; see `ag.backward`."""
        ag.backward(self, grad)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Have `hook` called with this node's gradient, complete; what it returns, if anything, replaces it.

        Leaf hooks run when backward ends and see its gradient alone, apart from what was there before; interior
        hooks run before the gradient goes on. Returns a function that removes the hook.
        """
        slot = self.slot
        if slot is None:
            raise RuntimeError("register_hook: expected a node that requires a gradient; got a constant")
        capture.changed()
        key = next(_hook_ids)
        slot.hooks = {**(slot.hooks or {}), key: hook}

        def remove() -> None:
            capture.changed()
            slot.hooks.pop(key, None)  # type: ignore[union-attr]

        return remove

    # operators

    def __add__(self, other: Any) -> Node:
        return ag.add(self, other)

    def __radd__(self, other: Any) -> Node:
        return ag.add(other, self)

    def __sub__(self, other: Any) -> Node:
        return ag.sub(self, other)

    def __rsub__(self, other: Any) -> Node:
        return ag.sub(other, self)

    def __mul__(self, other: Any) -> Node:
        return ag.mul(self, other)

    def __rmul__(self, other: Any) -> Node:
        return ag.mul(other, self)

    def __truediv__(self, other: Any) -> Node:
        return ag.div(self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return ag.div(other, self)

    def __pow__(self, other: Any) -> Node:
        return ag.pow(self, other)

    def __rpow__(self, other: Any) -> Node:
        return ag.pow(other, self)

    def __matmul__(self, other: Any) -> Node:
        return ag.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Node:
        return ag.matmul(other, self)

    def __neg__(self) -> Node:
        return ag.neg(self)

    def __getitem__(self, key: Any) -> Node:
        key = indexing.index_key(key)
        return ag.getitem(self, key) if indexing.is_basic(key) else ag.index(self, key)

    @property
    def T(self) -> Node:
        return ag.transpose(self)

    def reshape(self, *shape: Any) -> Node:
        return ag.reshape(self, indexing.shape_of(shape))

    def transpose(self, *axes: Any) -> Node:
        return ag.transpose(self, indexing.shape_of(axes) if axes else None)

    def __getattr__(self, name: str) -> Any:
        function = ag.methods.get(name)
        if function is None:
            raise AttributeError(f"Node has no attribute {name!r}, and ag no op of that name")
        return partial(function, self)


def param(values: Any, name: str = "") -> Node:
    """A leaf that requires a gradient: a parameter of a model. See `make_tensor`."""
    return make_tensor(values, requires_grad=True, name=name)


def constant(values: Any, name: str = "") -> Node:
    """A node that requires no gradient."""
    return make_tensor(values, name=name)


def make_tensor(values: Any, requires_grad: bool = False, name: str = "") -> Node:
    """A leaf node of a Tensor, an array, nested lists or a number. Nothing is allocated for its gradient.

    A Tensor is taken as it is; an array is shared for a constant and copied for a parameter; a Node that is a
    parameter already stays the same Node, so that two layers may share it.

    Raises: TypeError if a gradient is wanted of integers.
    """
    if requires_grad and type(values) is Node and values.slot is not None and values.slot.leaf:
        return values
    data = as_tensor(values)
    if not requires_grad:
        return Node(data, name=name)
    made = Node(data, name=name)
    made._require_grad(True)
    return made


def book_as_parameter(node: Node) -> None:
    """Book a node's bytes under kind "parameter" and its name; a view's stay with what it is a part of."""
    if node.tensor.nbytes == node.tensor.block.nbytes:
        node.tensor.block.rebook("parameter", node.name)


def as_tensor(values: Any) -> Tensor:
    """The tensor of a Node, an array, nested lists or a number."""
    return values.tensor if type(values) is Node else tensor.asarray(values)


def zero_grad(nodes: Iterable[Node], set_to_none: bool = True) -> None:
    """Free the gradients of leaves or, with `set_to_none` False, fill them with zeros and keep their memory."""
    for node in nodes:
        if node.slot is not None and node.slot.tensor is not None:
            if set_to_none:
                node.slot.drop()
            else:
                node.slot.tensor.fill_(0)
