"""Step: a whole training step, recorded when it first runs and replayed from then on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any, final

import ag
from ag import Node, kernels
from ag.slot import GradSlot
from nn.known import modules_of
from nn.module import Module
from nn.optim import Optimizer, clip
from nn.optim.update import Update
from ownt import Tensor, asarray, factories, indexing, memory, threads, timeline
from ownt import device as devices
from ownt.arena import Arena
from ownt.capture import Recording
from ownt.kernel import Out
from ownt.launch import not_repeatable
from ownt.thread import state

_MOST = 64  # recordings kept: those used last
_DATA = Tensor, devices.cpu.array  # inputs that are copied: what is recorded depends on their layout alone
_TRIES = 2  # to record the same: what a model makes at its first call spoils that alone


@final
class _Recorded:
    """A recording of a step, what each replay has to fill in, and what must not have changed meanwhile."""

    def __init__(self, arena: Arena, inputs: list[Any], signature: Hashable) -> None:
        self.recording = Recording(arena)
        self.inputs = inputs
        self.signature = signature
        self.loss: Any = None
        self.norm: Tensor | None = None
        self.updates: list[Update] = []
        self._tensors: list[list[Any]] = []
        self._modes: dict[Module, bool] = {}

    def finish(self, optimizer: Optimizer, modules: Iterable[Module]) -> None:
        """Take note of what a replay depends on; `modules` are some that the loss function may use without a call."""
        self._tensors = [update.tensors(optimizer) for update in self.updates]
        called = {*self.recording.called, *modules}
        self._modes = {module: module.training for part in called for module in part.whole().modules()}

    def obstacle(self, optimizer: Optimizer) -> str:
        """Why it may not be replayed now; "" if it may."""
        modes = [module.training for module in self._modes] == list(self._modes.values())
        tensors = [update.tensors(optimizer) for update in self.updates]
        if not (modes and self.recording.is_valid and tensors == self._tensors):
            return "the model, its mode or its optimizer has changed"
        found = self.recording.in_the_way()
        return f"in the way of a replay: {found}" if found else ""


@final
class Step:
    """One step of training: loss, gradients and update. `loss = step(*inputs)`, a tensor of its own.

    ```
    step = nn.Step(lambda x, y: ag.cross_entropy(model(x), y), optimizer, max_norm=1.0)
    for i, (x, y) in enumerate(batches):
        optimizer.lr = schedule(i)
        loss = step(x, y)
    ```

    The first call runs and records what `loss_function` launches; later calls of inputs of the same shapes run the
    launches again, without the Python code in it, bit for bit as if it had been run. New shapes, another mode
    (`train`, `eval`) or a changed model are recorded anew. A loss function that reads values or draws random numbers
    by no op cannot be recorded: a warning says so, and it is called at each step. What it does besides (counts,
    prints, appends) happens only when it is called; raw arrays that it reads behind the framework's back, and Python's
    random numbers, stay what they were.

    Gradients are scratch memory and gone when the step ends; parameters' gradients from before are added to.

    loss_function: of the inputs; gives a scalar Node
    inputs:        arrays and tensors, copied; numbers and other hashable values are part of what is recorded
    max_norm:      to clip the gradients' common norm to; `grad_norm` is then the norm from before
    fuse_optimizer: update each parameter as soon as its gradient is complete, and free that: the same numbers with
                   few gradients at a time. Not with clipping, nor for several batches, which need all of them. A step
                   that fails half-way has updated some parameters. Source: LOMO, Lv et al., arXiv 2306.09782
    """

    def __init__(
        self,
        loss_function: Callable[..., Node],
        optimizer: Optimizer,
        *,
        max_norm: float | None = None,
        fuse_optimizer: bool = False,
    ) -> None:
        if max_norm is not None and not max_norm >= 0:
            raise ValueError(f"Step: expected max_norm of 0 or more; got {max_norm}")
        if fuse_optimizer and max_norm is not None:
            raise ValueError(
                f"Step: expected no max_norm with fuse_optimizer, which frees gradients before their common norm is "
                f"known; got {max_norm}. Leave one of them out"
            )
        if fuse_optimizer and type(optimizer).step is not Optimizer.step:
            name = type(optimizer).__name__
            raise TypeError(f"Step: expected an optimizer without a step of its own for fuse_optimizer; got {name}")
        self.loss_function = loss_function
        self.optimizer = optimizer
        self.max_norm = max_norm
        self.fuse_optimizer = fuse_optimizer
        self.grad_norm: Tensor | None = None
        self.why_not = ""  # why the last call was no replay
        self._made: list[_Recorded] = []  # those used last at the end
        self._spoiled: dict[Hashable, tuple[str, ...]] = {}  # what could not be recorded, and why each time

    def __call__(self, *inputs: Any) -> Tensor:
        """The loss of a batch, after which the parameters are updated."""
        return self.accumulate([inputs])

    def accumulate(self, batches: Iterable[tuple[Any, ...]]) -> Tensor:
        """The sum of the losses of several batches, after which the parameters are updated once, by the sum's gradient.

        Each batch is a tuple of inputs; scale the loss in `loss_function` to have a mean.
        """
        not_repeatable("a step was run inside")
        given = [tuple(_input(value) for value in batch) for batch in batches]
        if not given:
            raise ValueError("Step.accumulate: expected one batch or more; got none")
        if self.fuse_optimizer:
            self._check_fused(len(given))
        signature = self._signature(given)
        recorded, self.why_not = self._find(signature)
        if recorded is not None:
            self._replay(recorded, given)
        else:
            recorded = self._run(given, signature)
        self.grad_norm = None if recorded.norm is None else recorded.norm.clone()
        return recorded.loss.clone()

    def _signature(self, given: list[tuple[Any, ...]]) -> Hashable:
        """What a recording is for."""
        shapes = tuple([tuple([_signature(value) for value in batch]) for batch in given])
        fresh = not any(node.slot is not None and node.slot.tensor is not None for node in self.optimizer.parameters)
        functions = self.loss_function, id(self.optimizer), self.optimizer.signature()
        return shapes, self.max_norm, self.fuse_optimizer, fresh, threads.get_num_threads(), functions

    def _find(self, signature: Hashable) -> tuple[_Recorded | None, str]:
        """A recording that may be replayed now, or why there is none."""
        self._made = [made for made in self._made if not made.recording.is_untold]
        why = self._spoiled.get(signature, ("",))[-1] or "the first step of these shapes"
        for recorded in reversed(self._made):
            if recorded.signature == signature:
                why = recorded.obstacle(self.optimizer)
                if not why:
                    self._made.remove(recorded)
                    self._made.append(recorded)
                    return recorded, ""
        return None, why

    def _replay(self, recorded: _Recorded, given: list[tuple[Any, ...]]) -> None:
        for ours, theirs in zip(recorded.inputs, given, strict=True):
            for target, value in zip(ours, theirs, strict=True):
                if type(value) in _DATA:
                    devices.of(target.array).write(target.array, ..., indexing.raw(value))

        def count() -> None:
            for update in recorded.updates:
                update.count(self.optimizer, 1.0)

        recorded.recording.replay(count)

    def _run(self, given: list[tuple[Any, ...]], signature: Hashable) -> _Recorded:
        """Run the step; keep the recording of it if it can be replayed."""
        place = devices.get(self.optimizer.parameters[0].device)
        inputs = [tuple([_copied(value, place) for value in batch]) for batch in given]
        arena = memory.scratch(place)
        self._made = [made for made in self._made if made.recording.is_valid][1 - _MOST :]
        recorded = _Recorded(arena, inputs, signature)
        before = self._spoiled.get(signature, ())
        outer, state.in_step = state.in_step, {node.slot for node in self.optimizer.parameters}
        try:
            with recorded.recording.during(), arena.mark():
                if len(before) >= _TRIES:
                    recorded.recording.spoil(before[-1])
                if any(node.grad is not None for node in self.optimizer.parameters):
                    recorded.recording.spoil("there are gradients from before")
                self._compute(recorded)
        finally:
            state.in_step = outer
            self.optimizer.zero_grad()
        why = recorded.recording.spoiled
        if not why and arena.settle():  # the next step is recorded in memory without gaps
            return recorded
        if not why:
            recorded.finish(self.optimizer, modules_of(self.loss_function))
            self._made.append(recorded)
        elif len(before) < _TRIES:
            self._spoiled[signature] = (*before, why)
            if not before:
                text = f"nn.Step: {why}: this step cannot be replayed and runs as it is"
                warnings.warn(text, RuntimeWarning, stacklevel=4)
        return recorded

    def _compute(self, recorded: _Recorded) -> None:
        for batch in recorded.inputs:
            loss = self.loss_function(*batch)
            if type(loss) is not Node or loss.size != 1:
                raise TypeError(f"Step: expected loss_function to return a scalar Node; got {loss!r}")
            ag.backward(loss, complete=self._updater(recorded) if self.fuse_optimizer else None)
            first = recorded.loss is None
            if first:
                with recorded.recording.paused():
                    recorded.loss = factories.empty(loss.shape, dtype=loss.dtype, device=loss.device)
            kernels.copy(loss.tensor, out=Out(recorded.loss, 0 if first else 1))
            del loss
        if self.fuse_optimizer:
            return
        grads = [node.grad for node in self.optimizer.parameters if node.grad is not None]
        if self.max_norm is not None:
            norm = clip.norm_of(grads)
            clip.limit_norm(grads, norm, self.max_norm)
            with recorded.recording.paused():
                recorded.norm = factories.empty((), dtype=norm.dtype, device=norm.device)
            kernels.copy(norm, out=Out(recorded.norm))
        grads.clear()
        if type(self.optimizer).step is not Optimizer.step:
            recorded.recording.spoil("the optimizer has a step of its own")
            self.optimizer.step()
            return
        with timeline.phase("update"):
            with recorded.recording.paused():
                recorded.updates = self.optimizer.prepared(1.0)
            recorded.recording.split = len(recorded.recording.launches)
            for update in recorded.updates:
                update.launch(self.optimizer)
            self.optimizer.zero_grad()

    def _check_fused(self, batches: int) -> None:
        """Raises: ValueError where gradients are needed together."""
        if batches > 1:
            raise ValueError(
                f"Step.accumulate: expected one batch with fuse_optimizer, which updates after each; got {batches}. "
                "Leave fuse_optimizer out"
            )
        for node in self.optimizer.parameters:
            if node.slot is not None and (node.slot.hooks or node.slot.tensor is not None):
                what = "a hook" if node.slot.hooks else "a gradient from before"
                raise ValueError(
                    f"Step: expected parameters without hooks and without gradients for fuse_optimizer; "
                    f"got {what} on {node.name or node!r}"
                )

    def _updater(self, recorded: _Recorded) -> Callable[[GradSlot], None]:
        """What updates a parameter when its gradient is complete."""
        groups = self.optimizer.param_groups
        places = {node.slot: (node, group) for group in groups for node in group["params"]}

        def complete(slot: GradSlot) -> None:
            if slot in places and slot.tensor is not None:
                node, group = places[slot]
                update = Update(group, [node])
                with recorded.recording.paused():
                    update.prepare(self.optimizer, 1.0)
                if not recorded.updates:
                    recorded.recording.split = len(recorded.recording.launches)
                update.launch(self.optimizer)
                recorded.updates.append(update)
                slot.drop()

        return complete


def _input(value: Any) -> Any:
    """NumPy's arrays, and what is no array, as they are; other arrays as tensors.

    Raises: TypeError for what can be neither copied nor told from another.
    """
    if type(value) is devices.cpu.array:
        return value
    if type(value) is Node:
        value = value.tensor
    if hasattr(value, "dtype") or isinstance(value, list):
        return asarray(value)
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, Hashable) and not hasattr(part, "dtype") for part in parts):
        raise TypeError(f"Step: expected arrays, tensors and hashable values as inputs; got {type(value).__name__}")
    return value


def _copied(value: Any, place: devices.Device) -> Any:
    """A copy where the parameters are; of what is no data itself."""
    if type(value) not in _DATA:
        return value
    given = asarray(value)
    return given.clone() if devices.of(given.array) is place else given.to(place)


def _signature(value: Any) -> Hashable:
    """Shape, dtype and device of a tensor; of another value itself, its type, and what sets -0.0 apart."""
    if type(value) in _DATA:
        return value.shape, value.dtype, value.device
    return type(value), value, str(value) if isinstance(value, float) else ""
