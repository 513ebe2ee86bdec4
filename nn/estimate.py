"""estimate: the memory of a training step, without its numbers and without its memory.

The step runs on the meta device: the same code asks the same arenas for the same bytes, and launches do nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ag import Node, zero_grad
from nn.known import modules_of
from nn.optim import Optimizer
from nn.step import Step
from ownt import Tensor, memory
from ownt import device as devices
from ownt.heap import Block
from ownt.layout import FROM_LAST, TO_LAST, channels_last
from ownt.ledger import Ledger
from ownt.memory import Report
from ownt.random import generator
from ownt.tensor import wrap
from ownt.thread import state

_TO_REPLAY = 2  # steps before one is replayed: in the first, memory is given its place


def estimate(
    function: Any, *inputs: Any, optimizer: Optimizer | None = None, accumulate: int = 1, title: str = "",
    device: str = "cpu",
) -> Report:  # fmt: skip
    """The report of a training step: what it would hold, at the peak too, and who holds most then.

    function:  an nn.Step, or a function of the inputs that gives the loss; then the step is forward, backward and,
               if there is an optimizer, its update, in a plain loop
    inputs:    arrays or tensors, of which only shapes and dtypes count
    accumulate: batches like this one in a step
    device:    that the step is to run on, "cpu" or "cuda", wherever the model is; none is needed

    Of the second step, in which the optimizer's state is there already. Model, optimizer and random numbers are left
    as they were; a model made under `ownt.device.use("meta")` takes no memory at all.
    Raises: RuntimeError if the step reads a value, for there is none; ValueError for another device.
    """
    place = without_data(device)
    inputs = tuple(place.from_host(value) if isinstance(value, devices.MetaArray) else value for value in inputs)
    step = function if isinstance(function, Step) else None
    optimizer = optimizer if step is None else step.optimizer
    loss_function = function if step is None else step.loss_function
    nodes, tensors = _parts(loss_function, optimizer, inputs)
    unchanged = contextlib.nullcontext() if optimizer is None else optimizer.unchanged()
    with _apart(place), _without_data(place, nodes, tensors), unchanged:
        run: Callable[..., Any] = _plain(loss_function, nodes, optimizer)
        if step is not None:
            again = Step(loss_function, step.optimizer, max_norm=step.max_norm, fuse_optimizer=step.fuse_optimizer)
            run = again.accumulate
        for _ in range(1 if step is None else _TO_REPLAY):
            with memory.record(device=place):
                run([inputs] * accumulate)
        with memory.record(title, place) as timeline:
            run([inputs] * accumulate)
    return timeline.report


def largest_batch(
    function: Any, inputs: Callable[[int], tuple[Any, ...]], budget: int, *, optimizer: Optimizer | None = None,
    accumulate: int = 1, device: str = "cpu",
) -> int:  # fmt: skip
    """The largest batch whose training step stays within a budget at its peak; 0 if not even one example does.

    function, optimizer, accumulate, device: as for `estimate`
    inputs: of a batch of so many examples
    budget: bytes
    """

    def left(size: int) -> int:
        options: dict[str, Any] = {"optimizer": optimizer, "accumulate": accumulate, "device": device}
        return budget - estimate(function, *inputs(size), **options).peak_bytes

    least, rest = 1, left(1)
    if rest < 0:
        return 0
    most, an_example = None, max(1, rest - left(2))  # bytes grow nearly in proportion
    while most is None or most - least > 1:
        guess = max(least + 1, least + rest // an_example)
        size = guess if most is None else min(guess, most - 1)
        found = left(size)
        if found < 0:
            most = size
            an_example = max(1, (rest - found) // (size - least))
        else:
            least, rest = size, found
            if most is None and rest // an_example == 0:
                most = least + 1 if left(least + 1) < 0 else None
                least = least if most else least + 1
    return least


def _plain(function: Callable[..., Node], nodes: list[Node], optimizer: Optimizer | None) -> Callable[..., None]:
    """A step of a plain loop."""

    def run(batches: list[tuple[Any, ...]]) -> None:
        for inputs in batches:
            loss = function(*inputs)
            loss.backward()
            del loss
        if optimizer is not None:
            optimizer.step()
        zero_grad(nodes)

    return run


def _parts(function: Any, optimizer: Optimizer | None, inputs: tuple[Any, ...]) -> tuple[list[Node], list[Tensor]]:
    """Parameters, and all tensors, of a step: what its function knows, the optimizer, and the inputs."""
    modules = {module: None for part in modules_of(function) for module in part.whole().modules()}
    nodes = {node: None for module in modules for _, node in module.own_parameters()}
    states: list[Any] = []
    if optimizer is not None:
        nodes |= dict.fromkeys(optimizer.parameters)
        states = [value for values in optimizer.state.values() for value in values.values()]
    nodes |= {value: None for value in inputs if isinstance(value, Node)}
    tensors = [node.tensor for node in nodes]
    tensors += [buffer for module in modules for _, buffer in module.own_buffers()]
    tensors += [value for value in (*states, *inputs) if isinstance(value, Tensor)]
    return list(nodes), list({id(tensor): tensor for tensor in tensors}.values())


def without_data(device: str) -> devices.Device:
    """The device on which nothing is computed that takes the memory another would. Raises: ValueError."""
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or not (number.isdecimal() or device == "cuda")):
        raise ValueError(f"estimate: expected the device cpu or cuda; got {device!r}")
    return devices.get("meta:cuda" if kind == "cuda" else "meta")


@contextlib.contextmanager
def _apart(meta: devices.Device) -> Iterator[None]:
    """A device without data as if nothing had been made on it yet, for what is made inside."""
    ledger, arena, position = meta.ledger, state.scratch.pop(meta, None), generator.state
    meta.ledger = Ledger()
    try:
        with devices.use(meta):
            yield
    finally:
        meta.ledger, generator.state = ledger, position
        state.scratch.pop(meta, None)
        if arena is not None:
            state.scratch[meta] = arena


@contextlib.contextmanager
def _without_data(meta: devices.Device, nodes: list[Node], tensors: list[Tensor]) -> Iterator[None]:
    """Tensors on a device without data, under their names in the ledger, and without gradients; put back at the end."""
    before = [(tensor, tensor._array, tensor._block) for tensor in tensors]
    slots = [(node.slot, node.slot.device, node.slot.tensor) for node in nodes if node.slot is not None]
    blocks: dict[int, Block] = {}
    try:
        for tensor, array, block in before:
            made = _twin(meta, array, block)
            tensor._array, tensor._block = made._array, blocks.setdefault(id(block), made._block)
            del made
        for slot, _, _ in slots:
            slot.device, slot.tensor = meta, None
        yield
    finally:
        for tensor, array, block in before:
            tensor._array, tensor._block = array, block
        for slot, device, grad in slots:
            slot.device, slot.tensor = device, grad


def _twin(meta: devices.Device, array: Any, block: Block) -> Tensor:
    """A tensor without data like one there is."""
    if block.source is None:
        return wrap(meta.empty(array.shape, array.dtype), memory.external())
    account = block.account
    last = channels_last(array)
    shape = array.transpose(TO_LAST).shape if last else array.shape
    made = memory.heap(meta).empty(shape, array.dtype, account.kind, account.path, block.name)
    return made.transpose(FROM_LAST) if last else made
