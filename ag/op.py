"""Ops: forward, gradient and samples of one function, declared together and found through the registry.

```
@op
def mul(a: Tensor | float, b: Tensor | float):   # the annotations say which arguments are tensors
    ...
    return y, (a, b)                             # the result, and all that the gradient may see

@mul.vjp
def _(g, saved, da, db):                         # a slot dX for each argument X with a gradient, None if not wanted
    ...

mul.samples = [...]                              # what the tests of every op run on it
```
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from itertools import count
from typing import Any, final

from ag import node as nodes
from ag import plans
from ag.recording import recording
from ag.remake import recipe
from ag.sample import Sample
from ag.slot import GradSlot, Record, View
from ownt import Tensor
from ownt import device as devices
from ownt.dtype import REAL, is_integer
from ownt.kernel import Kernel
from ownt.thread import state

Indices = Tensor  # annotates an argument of integers, which has no gradient and may differ in dtype
Mask = Tensor  # likewise of truth values, or of numbers of which 0 is false

registry: dict[str, Op] = {}
methods: dict[str, Callable[..., Any]] = {}  # what a Node has beside its own: the ops, and functions made of them
next_sequence = count(1).__next__


_SHARED, _INDICES, _MASK = 1, 2, 3  # roles of tensors among arguments: those that must agree in dtype, and others


def _role(kind: str) -> int:
    """The role of an argument by its annotation; 0 of one that is no tensor."""
    for role, name in ((_SHARED, "Tensor"), (_INDICES, "Indices"), (_MASK, "Mask")):
        if kind.startswith(name):
            return role
    return 0


@final
class Op:
    """A function of tensors with a gradient. Call it with Nodes, Tensors, arrays or, where it says so, numbers."""

    leaves = ()  # whose gradients its rule adds to beside those of its arguments

    def __init__(
        self,
        forward: Callable[..., Any],
        integers: bool = False,
        view: dict[str, bool] | None = None,
        foresees: bool = False,
    ) -> None:
        self.name = forward.__name__
        self.forward = forward
        self.rule: Callable[..., None] | None = None
        self.trim: Callable[..., tuple] | None = None
        self.remake: Callable[..., None] | None = None
        self.samples: list[Sample] = []
        self.kernels: tuple[Kernel, ...] = ()  # those that only a row declares; see ag.ops.unary
        self.integers = integers
        self.view = view
        self.foresees = foresees
        self.has_plans = view is None and forward.__module__.startswith("ag.ops.")  # see ag.plans
        self.__doc__ = forward.__doc__
        self.__name__ = self.name
        self.signature = inspect.signature(forward)
        parameters = list(self.signature.parameters.values())
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self._kinds = [str(p.annotation).split("[")[0] for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self._roles = [_role(kind) for kind in self._kinds]
        self._tensors = [(i, role) for i, role in enumerate(self._roles) if role]
        self._names = {self._positional[i] for i, _ in self._tensors}
        self._slots: list[int] = []  # the positions of arguments that have gradients
        self._all = -1  # how many arguments there are, if all have one
        registry[self.name] = methods[self.name] = self

    def vjp(self, rule: Callable[..., None]) -> Callable[..., None]:
        """Register the gradient: `rule(g, saved, *slots)`, its slots named d<argument>."""
        self.rule = rule
        names = [name.removeprefix("d") for name in list(inspect.signature(rule).parameters)[2:]]
        if not self.variadic:
            self._slots = [self._positional.index(name) for name in names]
            if self._slots == [*range(len(names))]:
                self._all = len(names)
        return rule

    def keeps(self, trim: Callable[..., tuple]) -> Callable[..., tuple]:
        """Register what to keep of what forward saved: `trim(saved, *slots)`, the slots as the gradient gets them."""
        self.trim = trim
        return trim

    def remakes(self, remake: Callable[..., None]) -> Callable[..., None]:
        """Register how to make the result again: `remake(saved, out)`, for which a `keeps` has to keep what it takes.

        Gradients that need the result then do not keep it; see ag.remake. An op of which that is wanted now and then
        saves whether it is, as its last.
        """
        self.remake = remake
        return remake

    def __call__(self, *args: Any, **options: Any) -> nodes.Node:
        if self.variadic or (options and (self.view is not None or not self._names.isdisjoint(options))):
            args, options = self._arrange(args, options)
        if self.foresees:
            options = {**options, "wanted": tuple([recording.enabled and _has_slot(arg) for arg in args])}
        mine = state.__dict__
        outer, mine["op"] = mine["op"], self.name
        try:
            followed = plans.follow(self, args, options) if self.has_plans else None
            if followed is not None:
                (y, saved, plan), slots = followed
            else:
                values, slots = self._values(args)
                y, saved, plan = plans.forward(self, values, options)
        finally:
            mine["op"] = outer
        if not (any(slots) and recording.enabled and y._array.dtype.kind in REAL):
            return nodes.Node(y)
        if self.rule is None:
            raise RuntimeError(f"{self.name} has no gradient: use it inside ag.no_grad(), or on detached inputs")
        return self._record(y, saved, args, slots, plan)

    def _values(self, args: tuple) -> tuple[list[Any], list[GradSlot | None]]:
        """The arguments as forward takes them, tensors for Nodes and arrays, and their slots.

        Raises: TypeError or ValueError unless tensors have one dtype, and it is one for this op, and one device.
        """
        values = list(args)
        slots: list[GradSlot | None] = [None] * len(args)
        apart = False
        kind: type | None = None
        first: Tensor | None = None
        for i, role in self._tensors if not self.variadic else [(i, _SHARED) for i in range(len(args))]:
            if i >= len(args):
                break
            value = args[i]
            if type(value) is nodes.Node:
                slots[i], value = value.slot, value.tensor
                values[i] = value
            elif type(value) is not Tensor and not (value is None and self._is_optional(i)):
                value = values[i] = self._constant(value, i)
            if type(value) is not Tensor:
                continue
            if type(value._array) is not kind:
                kind, apart = type(value._array), kind is not None
            if role == _SHARED and first is not None:
                if first._array.dtype is not value._array.dtype:
                    self._check_alike(first, value)
            elif role == _SHARED:
                first = value
                if not self.integers and value._array.dtype.kind not in REAL:
                    raise TypeError(f"{self.name}: expected a float tensor; got {value.dtype}. Use astype('float32')")
            elif role == _INDICES and not is_integer(value.dtype):
                raise TypeError(
                    f"{self.name}: expected integers for {self._positional[i]}; got {value.dtype}. Use astype('int64')"
                )
        if apart or devices.several:
            self._bring_together(values, args)
        return values, slots

    def _record(self, y: Tensor, saved: Any, args: tuple, slots: Any, plan: plans.Plan | None) -> nodes.Node:
        """The result as a Node that is recorded; `slots` are those of all arguments."""
        if len(slots) != self._all and not self.variadic:
            slots = [slots[i] if i < len(slots) else None for i in self._slots]
        if self.trim is not None:
            saved = self.trim(saved, *slots)
        slot = GradSlot(y)
        slot.record = Record(self, saved, slots, next_sequence(), state.path, plan)
        if self.remake is not None and saved[-1] is not False:
            slot.record.recipe = recipe(self, slot.record.saved, y)
        source = slots[0] if self.view else None
        if source is not None and (source.is_contiguous or not self.view["same_order"]):  # type: ignore[index]
            slot.source = source
            slot.view = View(self.forward, args[1:], **self.view)  # type: ignore[arg-type]
        return nodes.Node(y, slot)

    def _arrange(self, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Tensors given by keyword go among the positional arguments; a list of tensors is spread."""
        if self.variadic:
            if len(args) and isinstance(args[0], (list, tuple)):
                keywords = [p.name for p in self.signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
                options = dict(zip(keywords, args[1:], strict=False)) | options
                args = tuple(args[0])
            return args, options
        bound = self.signature.bind(*args, **options)
        if any(self._roles[self._positional.index(name)] for name in options if name in self._positional):
            bound.apply_defaults()
        return bound.args, bound.kwargs

    def _constant(self, value: Any, i: int) -> Any:
        """A number stays a number where the op takes numbers; anything else becomes a tensor."""
        if getattr(value, "shape", None) == () and not devices.is_array(value):
            value = value.item()  # NumPy's scalars are as weak as Python's
        kind = self._kinds[0] if self.variadic else self._kinds[i]
        if isinstance(value, (bool, int, float)) and "float" in kind:
            return value
        try:
            return nodes.as_tensor(value)
        except TypeError:
            raise TypeError(f"{self.name}: expected a tensor, an array or numbers; got {value!r}") from None

    def _is_optional(self, i: int) -> bool:
        return not self.variadic and "None" in self._kinds[i]

    def _check_alike(self, first: Tensor, other: Tensor) -> None:
        if other.dtype != first.dtype:
            raise TypeError(
                f"{self.name}: expected tensors of one dtype; got {first.dtype} and {other.dtype}. "
                f"Convert one: tensor.astype('{first.dtype}')"
            )

    def _bring_together(self, values: list[Any], args: tuple) -> None:
        """Copy tensors that lie on the CPU and need no gradient, such as a batch, to the GPU where the others are.

        Raises: ValueError for other tensors on two devices.
        """
        tensors = [(i, value, devices.of(value._array)) for i, value in enumerate(values) if type(value) is Tensor]
        place = next((found for _, _, found in tensors if found is not devices.cpu), devices.cpu)
        for i, value, found in tensors:
            if found is place:
                continue
            if found is not devices.cpu or not place.runs() or getattr(args[i], "slot", None) is not None:
                raise ValueError(
                    f"{self.name}: expected tensors on one device; got {place} and {found}. "
                    f"Move one: tensor.to('{place}')"
                )
            values[i] = value.to(place)

    def __repr__(self) -> str:
        return f"<op {self.name}{self.signature}>"


def _has_slot(value: Any) -> bool:
    return type(value) is nodes.Node and value.slot is not None


def where(name: str) -> str:
    """An op or a module as errors name it: with the path of the module that is running."""
    return f"{name} in {state.path}" if state.path else name


def recomputing() -> bool:
    """Whether a checkpoint computes again what it computed before: nothing is to be counted twice."""
    return state.replay is not None


def op(forward: Callable[..., Any] | None = None, *, integers: bool = False, foresees: bool = False) -> Any:
    """Declare an op by its forward function, which returns its result and what it saves for the gradient.

    integers: it takes tensors of integers as well as of floats.
    foresees: forward is told by `wanted`, truth values, of which positional arguments gradients will be wanted.
    """
    if forward is None:
        return lambda function: Op(function, integers, foresees=foresees)
    return Op(forward, integers, foresees=foresees)


def composed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a function made of ops, whose first argument is made a Node; it becomes a method of Node too."""

    @functools.wraps(function)
    def call(x: Any, *args: Any, **options: Any) -> Any:
        return function(x if type(x) is nodes.Node else nodes.constant(x), *args, **options)

    methods[function.__name__] = call
    return call


def view_op(covers: bool, same_order: bool = False) -> Callable[[Callable[..., Any]], Op]:
    """Declare an op whose result is a view of its first argument; its gradient is written through the same view.

    covers: every element of the argument is in the view; same_order: and in the same order.
    """
    return lambda forward: Op(forward, integers=True, view={"covers": covers, "same_order": same_order})
