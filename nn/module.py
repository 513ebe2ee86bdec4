"""Module: parameters and modules held as attributes, in order, with names, state and a summary."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import ag
import ownt
from ag import Node
from ag.node import book_as_parameter
from ownt import Tensor
from ownt.report import human_bytes
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

    def forward(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward: define it, or call one of its methods")

    def __call__(self, *args: Any, **options: Any) -> Any:
        outer = state.path
        state.path = self.path or ""
        try:
            return self.forward(*args, **options)
        finally:
            state.path = outer

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if self.path is not None and isinstance(value, (Module, Node, Tensor)):
            self._rename()

    def _rename(self) -> None:
        """Name everything again, from the outermost module on: a tied weight is called after its first place."""
        root = self.outermost() if self.outermost is not None else None
        (root or self)._adopt()

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
        """A model of its own: parameters copied, ties kept, gradients left behind."""
        made = memo[id(self)] = type(self).__new__(type(self))
        for name, value in vars(self).items():
            if name != "outermost":
                object.__setattr__(made, name, copy.deepcopy(value, memo))
        made._adopt()
        return made

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
            for name, buffer in module._own_buffers():
                yield _join(path, name), buffer

    def _all_parameters(self, prefix: str = "") -> Iterator[tuple[str, Node]]:
        for path, module in self.named_modules(prefix):
            for name, node in module._own_parameters():
                yield _join(path, name), node

    def _own_parameters(self) -> Iterator[tuple[str, Node]]:
        return ((name, node) for name, node in vars(self).items() if isinstance(node, Node) and node.is_leaf)

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Tensor))

    # state

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors of all parameters and buffers by path: the very tensors, not copies."""
        return {path: node.tensor for path, node in self.named_parameters()} | dict(self.named_buffers())

    def load_state_dict(self, tensors: Mapping[str, Any]) -> None:
        """Copy values into the parameters and buffers.

        Raises: KeyError or ValueError listing every missing, unexpected and mis-shaped key, TypeError or ValueError
                for what are no numbers; nothing has changed then.
        """
        tensors = {path: ownt.asarray(values) for path, values in tensors.items()}
        own = self.state_dict()
        aliases = {path: node.tensor for path, node in self._all_parameters()}  # a tied weight's other names
        missing = [path for path in own if path not in tensors]
        unexpected = [path for path in tensors if path not in own and path not in aliases]
        misshaped = [
            f"{path} (expected {own[path].shape}, got {tensors[path].shape})"
            for path in own
            if path in tensors and tensors[path].shape != own[path].shape
        ]
        named = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        problems = [f"{what}: {', '.join(paths)}" for what, paths in named if paths]
        if problems:
            error = KeyError if missing or unexpected else ValueError
            raise error(f"{type(self).__name__}.load_state_dict: nothing was loaded; {'; '.join(problems)}")
        values = {path: tensors[path].astype(tensor.dtype) for path, tensor in own.items()}
        for path, tensor in own.items():
            tensor.copy_(values[path])

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
            for name, buffer in list(module._own_buffers()):
                setattr(module, name, _converted(buffer, device, dtype))
        self._rename()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Free the gradients of all parameters; see `ag.zero_grad`."""
        ag.zero_grad(self.parameters(), set_to_none)

    # for people

    def summary(self) -> str:
        """A table of the modules with parameters: class, how many numbers, bytes, bytes of gradient to come."""
        rows = [("module", "class", "parameters", "bytes", "gradient bytes")]
        seen: set[int] = set()  # a tied weight counts once, in the first module that has it
        for path, module in self.named_modules():
            own = [node for _, node in module._own_parameters() if id(node) not in seen]
            seen |= set(map(id, own))
            if own:
                rows.append((path or "(root)", type(module).__name__, *_totals(own)))
        rows.append(("total", type(self).__name__, *_totals(self.parameters())))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )

    def extra_repr(self) -> str:
        """What to show between the brackets of a module without children."""
        return ""

    def __repr__(self) -> str:
        inner = [f"({name}): {child!r}" for name, child in self.children()]
        if not inner:
            return f"{type(self).__name__}({self.extra_repr()})"
        body = "\n".join(inner).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _converted(tensor: Tensor, device: str | None, dtype: Any) -> Tensor:
    moved = tensor if device is None else tensor.to(device)
    return moved.astype(dtype) if dtype is not None and tensor.dtype.kind == "f" else moved


def _totals(nodes: list[Node]) -> tuple[str, str, str]:
    trained = sum(node.nbytes for node in nodes if node.requires_grad)
    total = sum(node.nbytes for node in nodes)
    return f"{sum(node.size for node in nodes):,}", human_bytes(total), human_bytes(trained)
