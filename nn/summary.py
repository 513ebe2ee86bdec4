"""Summaries of a model as text: its modules and parameters, and what one call of forward computes and keeps.

The bytes that a call keeps are those in the ledger that are live when forward has returned and were not before:
what the gradient needs, the result, and whatever else forward left held, by the module that made it. The inputs are
the caller's and do not count; inside `ag.no_grad` little but the result remains.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ownt
from ag import Node
from ownt import Tensor
from ownt.ledger import ledger
from ownt.random import generator
from ownt.report import human_bytes

if TYPE_CHECKING:
    from nn.module import Module


def of_parameters(model: Module) -> str:
    """The modules that have parameters of their own, in the order of attributes."""
    rows: list[tuple[str, ...]] = [("module", "class", "parameters", "bytes", "gradient bytes")]
    counted: set[int] = set()
    for path, module in model.named_modules():
        own = _own(module, counted)
        if own:
            rows.append((path or "(root)", type(module).__name__, *_sizes(own)))
    rows.append(("total", type(model).__name__, *_sizes(model.parameters())))
    return _aligned(rows, left=2)


def of_call(model: Module, inputs: tuple, dtype: Any) -> str:
    """All modules as a tree, in the order in which forward calls them, with what it computes and keeps."""
    nodes = model.parameters()
    calls, kept = _watch(model, [_input(model, given, dtype) for given in inputs])
    rows = [
        ("module", "class", "output", "parameters", "bytes", "gradient bytes", "kept bytes"),
        *_Tree(calls, kept).rows("(root)", model),
        ("total", type(model).__name__, "", *_sizes(nodes), human_bytes(sum(kept.values()))),
    ]
    trained, frozen = (sum(node.size for node in nodes if node.requires_grad is wanted) for wanted in (True, False))
    return f"{_aligned(rows, left=3)}\nparameters: {trained:,} trained, {frozen:,} frozen"


@dataclass
class _Call:
    """What a module returned at its first call, the number of that call, and how many calls there were."""

    output: str
    number: int
    times: int = 1


def _watch(model: Module, inputs: list[Any]) -> tuple[dict[Module, _Call], dict[str, int]]:
    """Call the model: the calls of its modules, and the bytes it keeps by module path."""
    calls: dict[Module, _Call] = {}

    def note(module: Module, _: tuple, output: Any) -> None:
        if module in calls:
            calls[module].times += 1
        else:
            calls[module] = _Call(_shape(output), len(calls))

    with contextlib.ExitStack() as stack:
        stack.enter_context(_buffers_kept(model))
        stack.enter_context(generator.replaying(generator.state))
        for module in dict.fromkeys(model.modules()):
            stack.callback(module.register_forward_hook(note))
        before = _live()
        result = model(*inputs)
        after = _live()
        del result
    kept = {path: after.get(path, 0) - before.get(path, 0) for path in after | before}
    return calls, {path: size_bytes for path, size_bytes in kept.items() if size_bytes}


def _live() -> dict[str, int]:
    """Bytes by module path, those that only a reference cycle holds left out."""
    gc.collect()
    live: dict[str, int] = {}
    for (_, path), size_bytes in ledger.by_account().items():
        live[path] = live.get(path, 0) + size_bytes
    return live


@contextlib.contextmanager
def _buffers_kept(model: Module) -> Iterator[None]:
    """Give each buffer its value from before, and its place if another was put there."""
    before = [
        (module, name, buffer, buffer.block.version, buffer.clone())
        for module in dict.fromkeys(model.modules())
        for name, buffer in module.own_buffers()
    ]
    try:
        yield
    finally:
        for module, name, buffer, version, values in before:
            if vars(module).get(name) is not buffer:
                setattr(module, name, buffer)
            if buffer.block.version != version:
                buffer.copy_(values)


def _input(model: Module, given: Any, dtype: Any) -> Any:
    """Zeros for a shape; a Node, a Tensor or an array as it is."""
    if hasattr(given, "shape"):
        return given
    if not isinstance(given, tuple):
        raise TypeError(
            f"{type(model).__name__}.summary: expected shapes as tuples, or Tensors or arrays; got {given!r}. "
            "One input of one axis is summary((8,))"
        )
    like = next(iter(model.parameters()), None)
    chosen = like.dtype if dtype is None and like is not None else dtype
    return ownt.zeros(given, dtype=chosen, device=None if like is None else like.device)


class _Tree:
    """Rows of modules, those inside indented; each module and each parameter counts where it first comes."""

    def __init__(self, calls: dict[Module, _Call], kept: dict[str, int]) -> None:
        self.calls = calls
        self.kept = kept
        self.places: dict[Module, str] = {}
        self.counted: set[int] = set()

    def rows(self, name: str, module: Module, path: str = "", depth: int = 0) -> Iterator[tuple[str, ...]]:
        label, kind = "  " * depth + name, type(module).__name__
        if module in self.places:
            yield label, f"{kind}, see {self.places[module]}", "", "", "", "", ""
            return
        self.places[module] = path or name
        call = self.calls.get(module)
        if call is not None and call.times > 1:
            kind += f", {call.times} calls"
        sizes = (*_sizes(_own(module, self.counted)), human_bytes(self.kept.get(module.path or "", 0)))
        yield label, kind, call.output if call else "-", *sizes
        for inner, child in self._in_order_of_calls(module):
            yield from self.rows(inner, child, f"{path}.{inner}" if path else inner, depth + 1)

    def _in_order_of_calls(self, module: Module) -> list[tuple[str, Module]]:
        """What is never called, as what another op reads the weights of, comes after what is before it."""
        numbered, number = [], -1
        for name, child in module.children():
            number = min((self.calls[inner].number for inner in child.modules() if inner in self.calls), default=number)
            numbered.append((number, name, child))
        return [(name, child) for _, name, child in sorted(numbered, key=lambda entry: entry[0])]


def _own(module: Module, counted: set[int]) -> list[Node]:
    """Parameters of a module itself that are not among those counted: a tied weight counts once."""
    own = [node for _, node in module.own_parameters() if id(node) not in counted]
    counted |= set(map(id, own))
    return own


def _sizes(nodes: list[Node]) -> tuple[str, str, str]:
    trained = sum(node.nbytes for node in nodes if node.requires_grad)
    return (
        f"{sum(node.size for node in nodes):,}",
        human_bytes(sum(node.nbytes for node in nodes)),
        human_bytes(trained),
    )


def _shape(output: Any) -> str:
    if isinstance(output, (tuple, list)):
        return ", ".join(map(_shape, output))
    return str(output.shape) if isinstance(output, (Node, Tensor)) else type(output).__name__


def _aligned(rows: list[tuple[str, ...]], left: int) -> str:
    """Columns as wide as their widest cell, the first `left` of them flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
