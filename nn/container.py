"""Modules made of modules: Sequential, ModuleList and ModuleDict."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from operator import index as as_index
from typing import Any, TypeVar

from nn.module import Module

L = TypeVar("L", bound="ModuleList")


class ModuleList(Module):
    """Modules in a list, named by their numbers: `insert`, `pop` and `del` number all of them anew.

    A slice is a ModuleList of its own with the same modules, which are still named by their places in this one.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self: L, module: Module) -> L:
        number = len(self)
        while str(number) in vars(self):  # a slice keeps its names, which need not begin at 0
            number += 1
        _put(self, str(number), module)
        return self

    def extend(self: L, modules: Iterable[Module]) -> L:
        for module in list(modules):  # they may be its own
            self.append(module)
        return self

    def insert(self: L, index: int, module: Module) -> L:
        """Put a module before the one at `index`, as in a list."""
        modules = list(self)
        modules.insert(index, _checked(self, module))
        self._number(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take a module out; those after it move up."""
        module = vars(self)[self._name(index)]
        del self[index]
        return module

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.children())

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return vars(self)[self._name(index)]
        part = self._part(index)
        self._rename()  # the modules keep their names in this one
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name(index), _checked(self, module))

    def __delitem__(self, index: Any) -> None:
        modules = list(self)
        removed = modules[index] if isinstance(index, slice) else [self[index]]
        del modules[index]
        self._number(modules, *removed)

    def _part(self, part: slice) -> ModuleList:
        return ModuleList(list(self)[part])

    def _name(self, index: int) -> str:
        names = [name for name, _ in self.children()]
        if not -len(names) <= as_index(index) < len(names):
            raise IndexError(f"{type(self).__name__}: expected an index below its length, {len(names)}; got {index}")
        return names[index]

    def _number(self, modules: list[Module], *removed: Module) -> None:
        """Hold these modules, named 0, 1 and so on, in place of what it held; their paths change once, at the end."""
        for name, _ in list(self.children()):
            object.__delattr__(self, name)
        for number, module in enumerate(modules):
            object.__setattr__(self, str(number), module)
        self._rename(*removed)


class Sequential(ModuleList):
    """Modules called one after the other, each on the result of the one before.

    Given as arguments, or by name in one dict. A slice is a Sequential with their names here.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                _put(self, name, module)
        else:
            self.extend(modules)  # type: ignore[arg-type]

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

    def _part(self, part: slice) -> Sequential:
        return Sequential(dict(list(self.children())[part]))


class ModuleDict(Module):
    """Modules in a dict, in the order in which they were put there; their names are its keys."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Put modules in, each in place of one of the same name."""
        for name, module in dict(modules).items():
            self[name] = module

    def keys(self) -> KeysView[str]:
        return dict(self.children()).keys()

    def values(self) -> ValuesView[Module]:
        return dict(self.children()).values()

    def items(self) -> ItemsView[str, Module]:
        return dict(self.children()).items()

    def pop(self, name: str) -> Module:
        """Take a module out."""
        module = self[name]
        delattr(self, name)
        return module

    def clear(self) -> None:
        """Take all modules out."""
        for name in self:
            self.pop(name)

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(f"{type(self).__name__}: expected one of {', '.join(self) or 'none'}; got {name!r}")
        return vars(self)[name]

    def __setitem__(self, name: str, module: Module) -> None:
        _put(self, name, module)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


def _put(container: Module, name: str, module: Module) -> None:
    """Hold a module under a name that is no attribute of another kind, and that a path can contain."""
    kind = type(container).__name__
    if not isinstance(name, str) or not name or "." in name:
        raise KeyError(f"{kind}: expected a name without a dot that is not empty; got {name!r}")
    if hasattr(container, name) and not isinstance(vars(container).get(name), Module):
        raise KeyError(f"{kind}: expected a name that is no attribute of it; got {name!r}")
    setattr(container, name, _checked(container, module))


def _checked(container: Module, module: Any) -> Module:
    if not isinstance(module, Module):
        raise TypeError(f"{type(container).__name__}: expected modules; got {type(module).__name__}")
    return module
