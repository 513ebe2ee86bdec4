"""Optimizers that update in place: SGD, Adam, AdamW; and clipping by the gradients' norm.

Their kernels read what they write: destinations have beta 1, which says that what is there counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import ag
from ag import Node
from ownt import Tensor, factories
from ownt import device as devices
from ownt.kernel import Out, kernel, pieces


@kernel(elementwise=True)
def sgd_kernel(g: Any, lr: float, momentum: float, decay: float, *, out: Out, velocity: Out | None) -> None:
    """out -= lr v, v = momentum v + g + decay out"""
    if decay:
        g = g + decay * out.array
    if velocity is not None:
        velocity.array *= momentum
        velocity.array += g
        g = velocity.array
    out.array -= lr * g


@kernel(elementwise=True)
def adam_kernel(
    g: Any, lr: float, betas: tuple[float, float], eps: float, decay: float, decoupled: bool, step: int,
    *, out: Out, mean: Out, square: Out,
) -> None:  # fmt: skip
    """One step of Adam; with `decoupled` the decay shrinks the weights themselves, as AdamW does."""
    beta1, beta2 = betas
    if decay and decoupled:
        out.array *= 1 - lr * decay
    elif decay:
        g = g + decay * out.array
    mean.array *= beta1
    mean.array += (1 - beta1) * g
    square.array *= beta2
    square.array += (1 - beta2) * (g * g)
    root = devices.module(g).sqrt(square.array / (1 - beta2**step))
    out.array -= lr * (mean.array / (1 - beta1**step)) / (root + eps)


@kernel(elementwise=True)
def scale_kernel(factor: float, *, out: Out) -> None:
    """out *= factor"""
    out.array *= factor


class Optimizer:
    """Updates parameters from their gradients, in place; its state is allocated once, at the first step.

    `lr` may be set before each step, for instance from `nn.schedule`.
    """

    states: tuple[str, ...] = ()  # names of the tensors kept for each parameter

    def __init__(self, parameters: Iterable[Node], lr: float) -> None:
        self.parameters = list({id(node): node for node in parameters}.values())
        if not self.parameters:
            raise ValueError(f"{type(self).__name__}: expected one parameter or more; got none")
        if not lr >= 0:
            raise ValueError(f"{type(self).__name__}: expected a learning rate of 0 or more; got {lr}")
        self.lr = lr
        self._state: dict[Node, tuple[Tensor, ...]] = {}
        self._updates: dict[Node, int] = {}  # of each parameter: one that was frozen at first starts from its own first

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for node in self.parameters:
            if node.grad is not None:
                self._updates[node] = self._updates.get(node, 0) + 1
                self._update(node, node.grad, *self._state_of(node))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Free the gradients, or fill them with zeros."""
        ag.zero_grad(self.parameters, set_to_none)

    def _update(self, node: Node, grad: Tensor, *state: Tensor) -> None:
        raise TypeError(f"{type(self).__name__} defines no update")

    def _state_of(self, node: Node) -> tuple[Tensor, ...]:
        found = self._state.get(node)
        if found is None:
            make = factories.zeros
            found = tuple(
                make(node.shape, dtype=node.dtype, device=node.device, kind="optimizer", path=node.name)
                for _ in self.states
            )
            self._state[node] = found
        elif found and found[0].dtype != node.dtype:  # the model was converted meanwhile
            found = self._state[node] = tuple(tensor.astype(node.dtype) for tensor in found)
            for tensor in found:
                tensor.block.rebook("optimizer", node.name)
        return found


class SGD(Optimizer):
    """v = momentum v + gradient + weight_decay p;  p -= lr v"""

    def __init__(self, parameters: Iterable[Node], lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.states = ("velocity",) if momentum else ()

    def _update(self, node: Node, grad: Tensor, *state: Tensor) -> None:
        velocity = Out(state[0], 1) if state else None
        sgd_kernel(grad, self.lr, self.momentum, self.weight_decay, out=Out(node.tensor, 1), velocity=velocity)


class Adam(Optimizer):
    """p -= lr m / (sqrt(v) + eps), m and v the bias-corrected running means of the gradient and of its square

    Source: Kingma and Ba, arXiv 1412.6980
    """

    states = ("mean", "square")
    decoupled = False

    def __init__(
        self,
        parameters: Iterable[Node],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{type(self).__name__}: expected betas from 0 up to, without, 1; got {betas}")
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay

    def _update(self, node: Node, grad: Tensor, *state: Tensor) -> None:
        mean, square = state
        settings = (self.lr, self.betas, self.eps, self.weight_decay, self.decoupled, self._updates[node])
        adam_kernel(grad, *settings, out=Out(node.tensor, 1), mean=Out(mean, 1), square=Out(square, 1))


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights themselves and not the gradient

    Source: Loshchilov and Hutter, arXiv 1711.05101
    """

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Node],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)


def clip_grad_norm_(parameters: Iterable[Node], max_norm: float) -> float:
    """Scale all gradients in place so that their common norm is at most `max_norm`; returns the norm from before."""
    unique = {id(node): node for node in parameters}.values()
    grads = [node.grad for node in unique if node.grad is not None]
    norm = math.sqrt(math.fsum(_sum_of_squares(grad.array) for grad in grads))
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # a norm of NaN makes all gradients NaN, rather than pass for a small one
        for grad in grads:
            scale_kernel(factor, out=Out(grad, 1))
    return norm


def _sum_of_squares(array: Any) -> float:
    """In float64, a piece at a time: squares of float32 overflow, and a whole copy would take memory."""
    parts = (array[key].astype("float64") for key, _ in pieces(array.shape))
    return math.fsum(float((part * part).sum()) for part in parts)
