"""GradSlot, where a node's gradient grows, and Record, what backward needs to know of an op that ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from ag import kernels, plans
from ag.remake import check, reduced, restored
from ownt import Tensor, memory
from ownt import device as devices
from ownt.kernel import Out
from ownt.launch import not_repeatable
from ownt.layout import FROM_LAST, TO_LAST, Layout, channels_last, layout_like
from ownt.thread import state


@final
class Record:
    """One op that ran: its input *slots* (never Nodes, which would keep dead activations alive) and what it saved.

    Tensors among `saved` are remembered with their version: one that was written since is an error. Those that can be
    made again are not held, but made when the op's turn comes.
    """

    __slots__ = ("op", "path", "plan", "recipe", "remakes", "saved", "sequence", "slots", "versions")

    def __init__(
        self,
        op: Any,
        saved: Any,
        slots: Sequence[GradSlot | None],
        sequence: int,
        path: str,
        plan: plans.Plan | None = None,
    ) -> None:
        self.op = op
        self.plan = plan  # that the op followed
        self.saved, self.versions = reduced(saved)
        self.remakes = self.saved is not saved
        self.slots = slots
        self.sequence = sequence
        self.path = path
        self.recipe: Any = None  # of the result, for others that save it

    def run(self, g: Tensor) -> None:
        """Give each input slot its share of the gradient.

        Raises: RuntimeError naming the op if something it saved was changed in place."""
        check(self.op.name, self.saved, self.versions)
        plan = self.plan
        if plan is not None and plans.gradient(plan, self.op, g, restored(self.saved), self.slots):
            return
        if len(self.slots) > 1:
            self._prepare_shared_buffers()
        self.op.rule(g, restored(self.saved), *self.slots)

    def _prepare_shared_buffers(self) -> None:
        """Fill a buffer that two of the slots write to with zeros first: then it does not matter which comes first.

        Two slots share a buffer when an op was given one node twice, or a node and a view of it.
        """
        seen: set[GradSlot] = set()
        for slot in self.slots:
            if slot is not None:
                owner = slot if slot.source is None else slot.owner
                if owner in seen:
                    owner.out(zero=True)
                seen.add(owner)


SPENT: Any = Record(None, (), (), -1, "")  # the record of a slot through which backward has gone


@final
class GradSlot:
    """The one gradient buffer of a node, allocated at its first contribution, at its exact size.

    A leaf's is a heap allocation of its own; an interior node's is scratch and goes when its record has run.
    The slot of a view has no buffer at all: it is a window on its source's, so that gradients of slices,
    transposes and reshapes are written where they belong.
    """

    __slots__ = (
        "_layout", "device", "dtype", "hooks", "last", "leaf", "name", "record", "shape", "source", "tensor", "view"
    )  # fmt: skip

    def __init__(self, like: Tensor, leaf: bool = False, name: str = "") -> None:
        array = like._array
        self.shape = array.shape
        self.last = array.ndim == 4 and channels_last(array)
        self.dtype = array.dtype
        self.device = devices.of(array)
        self.leaf = leaf
        self.name = name
        self.tensor: Tensor | None = None
        self.record: Record | None = None
        self.hooks: dict[int, Callable[[Tensor], Any]] | None = None
        self.source: GradSlot | None = None
        self.view: View | None = None
        self._layout: Any = None  # not asked for yet

    @property
    def layout(self) -> Layout:
        """What there is one of for each shape, dtype and order of a gradient's memory."""
        if self._layout is None:
            self._layout = layout_like(self.shape, self.dtype, self.last)
        return self._layout

    def out(self, zero: bool = False) -> Out:
        """Where to put a contribution: the whole buffer, to be written the first time and added to after.

        zero: the caller covers only a part, so the rest is filled with zeros before the first.
        """
        if self.leaf and state.in_step is not None and self not in state.in_step:
            not_repeatable("a parameter that the optimizer does not have needs a gradient")
        if self.tensor is None:
            if self._is_window:
                return self.view.open(self.source, zero)  # type: ignore[union-attr, arg-type]
            self.allocate()
            if not zero:
                return Out(self.tensor, 0)  # type: ignore[arg-type]
            kernels.fill(0, out=Out(self.tensor))  # type: ignore[arg-type]
        elif self.tensor.block.holders > 1:
            self.make_sole()
        return Out(self.tensor, 1)  # type: ignore[arg-type]

    def lend(self, g: Tensor) -> None:
        """Take a gradient that merely passes through: shared where that is safe, else copied or added."""
        fits = channels_last(g._array) if self.last else g.is_contiguous
        if self.tensor is None and fits and g.dtype == self.dtype:
            if self._is_window:
                if self.view.same_order and g.shape == self.shape:  # type: ignore[union-attr]
                    self.source.lend(g.view(self.source.shape))  # type: ignore[union-attr]
                    return
            elif not self.leaf and g.shape == self.shape:
                self.share(g)
                return
        kernels.copy(g, out=self.out())

    def share(self, g: Tensor) -> None:
        """Take a gradient of this slot's layout as it is, beside whoever else holds it."""
        self.tensor = g
        g.block.holders += 1

    def make_sole(self) -> None:
        """Stop sharing: take a copy if another slot holds the same bytes."""
        shared = self.tensor
        if shared is not None and shared.block.holders > 1:
            shared.block.holders -= 1
            self.allocate()
            kernels.copy(shared, out=Out(self.tensor))  # type: ignore[arg-type]

    def drop(self) -> None:
        """Free the buffer, or let go of the shared one."""
        if self.tensor is not None:
            self.tensor.block.holders -= 1
            self.tensor = None

    @property
    def is_contiguous(self) -> bool:
        """Whether its gradient lies in one run of bytes, in order, so that any reshape of it is a view."""
        slot = self
        while slot.source is not None:
            if not slot.view.same_order:  # type: ignore[union-attr]
                return False
            slot = slot.source
        return not slot.last

    @property
    def owner(self) -> GradSlot:
        """The slot in whose buffer this one's gradient lies: itself, but for windows."""
        slot = self
        while slot.source is not None and slot._is_window:
            slot = slot.source
        return slot

    @property
    def _is_window(self) -> bool:
        return self.source is not None and not self.hooks  # a hook wants this node's own gradient

    def allocate(self) -> None:
        """In the layout of the node's tensor."""
        in_step = self.leaf and state.in_step is not None and self in state.in_step
        if self.leaf and not in_step:
            arena: Any = memory.heap(self.device)
        else:
            arena = state.scratch.get(self.device) or memory.scratch(self.device)
        shape = self.shape if not self.last else tuple([self.shape[axis] for axis in TO_LAST])
        kind = ("gradient", self.name, self.name) if self.leaf else ()
        made = arena.empty(shape, self.dtype, *kind)
        self.tensor = made if not self.last else made.transpose(FROM_LAST)
        self.tensor.block.holders = 1


@final
class View:
    """How a view lies in its source: the same function makes the window on the source's gradient.

    covers:     it shows every element of its source
    same_order: and in the same order, so that a contiguous gradient fits both
    """

    __slots__ = ("_key", "covers", "function", "options", "same_order")

    def __init__(self, function: Callable[..., Any], options: tuple, covers: bool, same_order: bool) -> None:
        self.function = function
        self.options = options
        self.covers = covers
        self.same_order = same_order
        self._key: Any = ...  # not asked for yet

    @property
    def key(self) -> Any:
        """Equal to another's if that shows the same of a source of the same layout; None if that cannot be told."""
        if self._key is ...:
            try:
                self._key = self.function, plans.named(self.options)
            except TypeError:
                self._key = None
        return self._key

    def open(self, source: GradSlot, zero: bool) -> Out:
        whole = source.out(zero or not self.covers)
        return Out(self.function(whole.tensor, *self.options)[0], whole.beta)
