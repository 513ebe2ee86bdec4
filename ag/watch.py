"""Watch: a program is run and looked at, so that there is a plan of it."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Sequence
from typing import Any, final

from ag.plan import Plan, Request
from ownt import Tensor, memory
from ownt import device as devices
from ownt.arena import Arena
from ownt.calls import Call, parts_of
from ownt.heap import Block
from ownt.launch import Launch
from ownt.layout import layout_of
from ownt.thread import state


@final
class Watch:
    """`with Watch(given) as watched: ...` runs a program on tensors, of which there is a plan then.

    It stands where a recording and who watches launches would, and is told by the scratch arena of this thread.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        self.why_not = ""  # why there can be no plan
        self.called: set[Any] = set()  # where modules put down that they were; ops call none
        self._given = list(given)
        self._extents = [_extent(tensor.array) for tensor in given]  # then of tensors that are made
        self._shapes = [tensor.shape for tensor in given]
        self._numbers = {id(tensor.block): number for number, tensor in enumerate(given)}  # by blocks
        self._requests: list[Any] = []
        self._blocks: list[weakref.ref[Block]] = []
        self._calls: list[tuple[Call, list[Any]]] = []
        self._written: set[int] = set()
        self._may_fail = False
        self._chains = importlib.import_module("ownt.open_chain_cpu")
        if any(stride < 0 for tensor in given for stride in tensor.strides):
            self.spoil("a tensor does not begin where its memory does")

    def __enter__(self) -> Watch:
        state.recording = state.launch = memory.scratch(devices.cpu).told = self
        return self

    def __exit__(self, *_: object) -> None:
        state.recording = state.launch = memory.scratch(devices.cpu).told = None
        self._blocks.clear()  # from here on nothing more is told

    # what it is told

    def spoil(self, what: str) -> None:
        """The program does what no plan can."""
        self.why_not = self.why_not or what

    def draw(self, position: Any, offset: int) -> None:
        """Random numbers are drawn."""
        self.spoil("random numbers are drawn")

    def keep(self, made: Tensor) -> None:
        """Memory was taken: scratch memory, or of the heap for the gradient of a leaf."""
        block = made.block
        key = id(block)
        self._numbers[key] = len(self._extents)
        self._extents.append(_extent(made.array))
        self._shapes.append(made.shape)
        plain = isinstance(block.source, Arena) and block.account.path == state.path and not block.name
        kind = block.account.kind if plain else ""
        self._requests.append(Request(made.shape, made.dtype, block.nbytes, kind, layout_of(made)))
        self._blocks.append(weakref.ref(block, lambda _: self._requests.append(self._numbers.pop(key))))

    def __call__(self, launch: Launch) -> None:
        """A kernel is launched."""
        launch.run()
        numbers = [self._numbers.get(id(tensor.block), -1) for tensor in launch.written]
        if -1 in numbers:
            self.spoil("it writes to what was not given")
        self._written.update(numbers)
        chains = self._chains
        for call in parts_of((launch.function, tuple(launch.bound))):
            self._may_fail = self._may_fail or hasattr(call[0], "in_chain")
            compiled = chains.compiled_for(call)
            if not chains.takes(compiled[0]):
                self.spoil(f"{launch.name} is not compiled")
            if not self.why_not:
                self._calls.append((compiled, [self._place(array) for array in chains.arrays_of(compiled)]))

    def _place(self, array: Any) -> tuple[int, int] | None:
        """(the number of the tensor in which an array begins, bytes into it); None if what is in it never changes.

        Memory may have been given back and taken again: of tensors that were made the last counts.
        """
        if not array.size or self._chains.is_constant(array):
            return None
        address = devices.cpu.pointer(array)
        found = [number for number, (start, end) in enumerate(self._extents) if start <= address < end]
        if not found or (found[0] < len(self._given) and len(found) > 1):
            self.spoil("it works on what was not given, or on tensors that share memory")
            return None
        return found[-1], address - self._extents[found[-1]][0]

    # what comes of it

    def returned(self, values: Sequence[Any]) -> Plan | None:
        """The plan of a program that returned values; None if it can have none."""
        parts = [self._part(value) for value in values]
        if self._may_fail and min(self._written, default=0) < len(self._given):
            self.spoil("a kernel may fail when an argument has been written to")
        plan = self._plan({})
        if plan is not None:
            plan.parts = parts
        return plan

    def _part(self, value: Any) -> tuple[int, Any]:
        """Of what is returned: (number of a tensor, its shape if that is another), or (-1, what is no tensor)."""
        if type(value) is not Tensor:
            if not _is_constant(value):
                self.spoil(f"it saves a {type(value).__name__}")
            return -1, value
        number = next((n for n, tensor in enumerate(self._given) if tensor is value), -1)
        if number >= 0:
            return number, None
        number = self._numbers.get(id(value.block), -1)
        if not self._is_whole(value, number):
            self.spoil("it returns or saves a part of a tensor")
        return number, None if value.shape == self._shapes[number] else value.shape

    def _is_whole(self, tensor: Tensor, number: int) -> bool:
        """Whether it is all of the tensor of that number, in the same order; -1 is none."""
        in_order = number >= len(self._given) or (number >= 0 and self._given[number].is_contiguous)
        return in_order and tensor.is_contiguous and _extent(tensor.array) == self._extents[number]

    def shared_out(self, slots: Sequence[Any], before: Sequence[Tensor | None]) -> Plan | None:
        """The plan of a program that gave slots their share of the first tensor; `before` is what they held."""
        if self._may_fail:
            self.spoil("a kernel may fail when slots have been written to")
        lent: list[tuple[int, Any]] = []
        own: dict[int, int] = {}
        for i, slot in enumerate(slots):
            if slot is None or slot.tensor is before[i]:
                continue
            number = self._numbers.get(id(slot.tensor.block), -1)
            if before[i] is not None:
                self.spoil("a slot holds other memory than before")
            elif number >= len(self._given) and number not in own and self._is_whole(slot.tensor, number):
                own[number] = i
            elif number == 0 and slot.tensor is self._given[0]:
                lent.append((i, None))
            elif number == 0 and self._is_whole(slot.tensor, 0):
                lent.append((i, slot.tensor.shape))
            else:
                self.spoil("a slot holds memory that it did not take for itself")
        plan = self._plan(own)
        if plan is not None:
            plan.lent = lent
        return plan

    def _plan(self, slots: dict[int, int]) -> Plan | None:
        """The plan; `slots` are those whose gradients are among the tensors that were made, by their numbers."""
        numbers = iter(range(len(self._given), len(self._extents)))
        requests = [
            request if type(request) is int else request._replace(slot=slots.get(next(numbers), -1))
            for request in self._requests
        ]
        if any(type(request) is Request and request.slot < 0 and not request.kind for request in requests):
            self.spoil("it takes memory that is none of its own")
        if len(self._calls) > self._chains.LONGEST:
            self.spoil("it launches too much")
        if self._calls and not any(place for _, places in self._calls for place in places):
            self.spoil("it launches what has no elements")
        if self.why_not:
            return None
        written = [number for number in sorted(self._written) if number < len(self._given) or number in slots]
        chain = self._chains.OpenChain(self._chains.Parts.of(self._calls)) if self._calls else None
        return Plan(len(self._extents), requests, chain, written)


def _is_constant(value: Any) -> bool:
    """Whether it is what it was for ever: then a plan may return it too."""
    if type(value) is tuple:
        return all(map(_is_constant, value))
    return value is None or type(value) in (str, int, float, bool)


def _extent(array: Any) -> tuple[int, int]:
    """The addresses of an array's first byte, and of that after its last."""
    start = devices.cpu.pointer(array)
    if not array.size:
        return start, start
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    return start + min(0, *steps, 0), start + sum(max(step, 0) for step in steps) + array.itemsize
