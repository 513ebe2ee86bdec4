"""Module: parameters and modules held as attributes, in order, with names, hooks, state and a summary."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import ag
from ag import Node
from ag.node import book_as_parameter
from nn import hooks, loading, summary
from ownt import Tensor, capture
from ownt.dtype import is_float
from ownt.launch import not_repeatable
from ownt.thread import state

M = TypeVar("M", bound="Module")


class _Named(type):
    """Names the parameters of a module when it is made, the outermost last: 'blocks.0.mlp.up.weight'."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        made = super().__call__(*args, **options)
        made._adopt()
        return made


class Module(metaclass=_Named):
    """A part of a model. Subclasses set Nodes, Tensors and Modules as attributes and define `forward`.

    Nodes are parameters, Tensors buffers; attribute order is their order everywhere.
    """

    training: bool = True
    path: str | None = None  # where it is in the outermost module; None while it is being made
    outermost: weakref.ref[Module] | None = None  # so that a part set later is named by its place in the whole
    _hooks: tuple[hooks.Hook, ...] = ()  # see nn.hooks

    def forward(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward: define it, or call one of its methods")

    def __call__(self, *args: Any, **options: Any) -> Any:
        outer = state.path
        state.path = self.path or ""
        if state.recording is not None:
            state.recording.called.add(self)
        try:
            if self._hooks:
                return hooks.call(self, args, options)
            return self.forward(*args, **options)
        finally:
            state.path = outer

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        object.__setattr__(self, name, value)
        if self.path is None or value is before:  # while it is being made, or += on a tensor
            return
        if isinstance(value, (Module, Node, Tensor)) or isinstance(before, (Module, Node)):
            not_repeatable(f"the attribute {name!r} of a {type(self).__name__} was set")
            self._rename(before)
        elif name != "training" and state.recording is None:  # recordings note modes by themselves
            capture.changed()

    def __delattr__(self, name: str) -> None:
        before = vars(self).get(name)
        object.__delattr__(self, name)
        self._rename(before)

    def _rename(self, *removed: Any) -> None:
        """Name everything again, from the outermost module on: a tied weight is called after its first place.

        A module that was removed is the outermost of its own, unless it has another place.
        """
        if self.path is None:
            return
        capture.changed()
        root = self.whole()
        for module in removed:
            if isinstance(module, Module) and module.whole() is root:
                module._adopt()
        root._adopt()

    def whole(self) -> Module:
        """The outermost module that it is a part of; itself if it is none."""
        found = self.outermost() if self.outermost is not None else None
        return self if found is None else found

    def _adopt(self) -> None:
        reference = weakref.ref(self)
        for name, module in self.named_modules():
            object.__setattr__(module, "path", name)
            object.__setattr__(module, "outermost", reference)
        for name, node in self.named_parameters():
            node.name = name
            book_as_parameter(node)
        for name, buffer in self.named_buffers():
            if buffer.nbytes == buffer.block.nbytes:  # a view stays with what it is a part of
                buffer.block.rebook("buffer", name)

    def __deepcopy__(self: M, memo: dict[int, Any]) -> M:
        """A model of its own: parameters copied, ties kept, gradients and hooks left behind."""
        made = memo[id(self)] = type(self).__new__(type(self))
        for name, value in vars(self).items():
            if name not in ("outermost", "_hooks"):
                object.__setattr__(made, name, copy.deepcopy(value, memo))
        made._adopt()
        return made

    # hooks

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], Any]) -> Callable[[], None]:
        """Have `hook(module, args)` called before forward; what it returns, if anything, are the arguments instead.

        One argument needs no tuple around it; those given by name go past hooks. Returns a function that removes it.
        """
        return hooks.register(self, "before", hook)

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> Callable[[], None]:
        """Have `hook(module, args, output)` called after forward; what it returns, if anything, replaces the output.

        Returns a function that removes it.
        """
        return hooks.register(self, "after", hook)

    # what it holds

    def children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules directly in it."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def modules(self) -> Iterator[Module]:
        """Itself and all modules in it."""
        return (module for _, module in self.named_modules())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of itself and all modules in it."""
        yield prefix, self
        for name, module in self.children():
            yield from module.named_modules(_join(prefix, name))

    def parameters(self) -> list[Node]:
        """All parameters, each once."""
        return [node for _, node in self.named_parameters()]

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Node]]:
        """(path, parameter), each parameter once, under its first path."""
        seen: set[int] = set()
        for path, node in self._all_parameters(prefix):
            if id(node) not in seen:
                seen.add(id(node))
                yield path, node

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(path, tensor) of what is state but not trained."""
        for path, module in self.named_modules(prefix):
            for name, buffer in module.own_buffers():
                yield _join(path, name), buffer

    def _all_parameters(self, prefix: str = "") -> Iterator[tuple[str, Node]]:
        for path, module in self.named_modules(prefix):
            for name, node in module.own_parameters():
                yield _join(path, name), node

    def own_parameters(self) -> Iterator[tuple[str, Node]]:
        """(name, node) of those that are attributes of itself."""
        return ((name, node) for name, node in vars(self).items() if isinstance(node, Node) and node.is_leaf)

    def own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of those that are attributes of itself."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Tensor))

    def get_submodule(self, path: str) -> Module:
        """The module at a path such as "blocks.0.mlp"; itself at "".

        Raises: AttributeError naming the first part of the path that is not there.
        """
        found = self
        for name in path.split(".") if path else ():
            found = _named(found, dict(found.children()), name, "submodule", path)
        return found

    def get_parameter(self, path: str) -> Node:
        """The parameter at a path such as "blocks.0.mlp.up.weight".

        Raises: AttributeError naming the first part of the path that is not there.
        """
        place, _, name = path.rpartition(".")
        module = self.get_submodule(place)
        return _named(module, dict(module.own_parameters()), name, "parameter", path)

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call `function` with each module in it, those inside first, and with itself last."""
        for _, module in self.children():
            module.apply(function)
        function(self)
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Have all parameters trained, or with False frozen, which frees their gradients."""
        for node in self.parameters():
            node.requires_grad = requires_grad
        return self

    # state

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors of all parameters and buffers by path: the very tensors, not copies."""
        return {path: node.tensor for path, node in self.named_parameters()} | dict(self.named_buffers())

    def load_state_dict(self, tensors: Mapping[str, Any], strict: bool = True) -> loading.IncompatibleKeys:
        """Copy values into the parameters and buffers; with `strict` False only those that both sides have.

        Returns the missing and the unexpected keys: none if strict.
        Raises: KeyError or ValueError listing every missing, unexpected and mis-shaped key, TypeError or ValueError
                for what are no numbers; nothing has changed then.
        """
        aliases = {path for path, _ in self._all_parameters()}  # a tied weight's other names too
        return loading.load(type(self).__name__, self.state_dict(), aliases, tensors, strict)

    def train(self: M, training: bool = True) -> M:
        """Switch all modules to training, or with False to evaluation."""
        for module in self.modules():
            object.__setattr__(module, "training", training)
        return self

    def eval(self: M) -> M:
        """Switch all modules to evaluation: no dropout."""
        return self.train(False)

    def to(self: M, device: str | None = None, dtype: Any = None) -> M:
        """Move parameters and buffers to a device, or convert their floats; what changes loses its gradient."""
        for node in self.parameters():
            converted = _converted(node.tensor, device, dtype)
            if converted is not node.tensor:
                trained, node.requires_grad = node.requires_grad, False
                node.tensor = converted
                node.requires_grad = trained
        for module in self.modules():
            for name, buffer in list(module.own_buffers()):
                setattr(module, name, _converted(buffer, device, dtype))
        self._rename()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Free the gradients of all parameters; see `ag.zero_grad`."""
        ag.zero_grad(self.parameters(), set_to_none)

    # for people

    def summary(self, *inputs: Any, dtype: Any = None) -> str:
        """A table of the modules: class, parameters, bytes, bytes of gradient to come; see `nn.summary`.

        Given shapes of inputs as tuples, or inputs, forward runs once, and the table shows the modules in the order
        in which it calls them, with the shapes of what they return and the bytes that forward leaves held.
        dtype: of inputs given as shapes; that of the parameters unless given, "int64" for tokens.
        """
        return summary.of_call(self, inputs, dtype) if inputs else summary.of_parameters(self)

    def extra_repr(self) -> str:
        """What to show between the brackets, before the modules in it."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}" for name, child in self.children()]
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        body = "\n".join([extra] * bool(extra) + children).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _converted(tensor: Tensor, device: str | None, dtype: Any) -> Tensor:
    moved = tensor if device is None else tensor.to(device)
    return moved.astype(dtype) if dtype is not None and is_float(tensor.dtype) else moved


def _named(module: Module, held: dict[str, Any], name: str, kind: str, path: str) -> Any:
    if name not in held:
        raise AttributeError(
            f"get_{kind}: expected in {type(module).__name__} one of {', '.join(held) or 'none'}; "
            f"got {name!r} in {path!r}"
        )
    return held[name]
