"""ScaledStep: a training step whose losses are scaled up, so that small gradients of float16 do not vanish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

from ag import Node
from nn.optim import GradScaler, Optimizer, clip
from ownt import Tensor, factories


@final
class ScaledStep:
    """One step of training, as `nn.Step` has it, with a GradScaler between loss and optimizer.

    Whether to update and how to go on scaling depends on the gradients' values: each step looks at them, so it cannot
    be replayed, and runs as a plain loop does.

    loss_function: of a batch's inputs; gives a scalar Node
    max_norm:      to clip the gradients' common norm to, unscaled; `grad_norm` is then the norm from before
    """

    def __init__(
        self,
        loss_function: Callable[..., Node],
        optimizer: Optimizer,
        *,
        max_norm: float | None = None,
        scaler: GradScaler | None = None,
    ) -> None:
        self.loss_function = loss_function
        self.optimizer = optimizer
        self.max_norm = max_norm
        self.scaler = scaler or GradScaler()
        self.grad_norm: Tensor | None = None

    def __call__(self, *inputs: Any) -> Tensor:
        """The loss of a batch, not scaled, after which the parameters are updated, if all gradients are finite."""
        return self.accumulate([inputs])

    def accumulate(self, batches: Iterable[tuple[Any, ...]]) -> Tensor:
        """The sum of the losses of several batches, after which the parameters are updated once.

        Raises: ValueError for no batches.
        """
        place = self.optimizer.parameters[0].device
        total: Tensor | None = None
        for batch in batches:
            loss = self.loss_function(*(value.to(place) if type(value) is Tensor else value for value in batch))
            self.scaler.scale(loss).backward()
            if total is None:
                total = factories.zeros(loss.shape, dtype=loss.dtype, device=loss.device)
            total += loss.tensor
            del loss
        if total is None:
            raise ValueError("ScaledStep.accumulate: expected one batch or more; got none")
        if self.max_norm is not None:  # in units of the scaled gradients: unscaled in place, float16 loses small ones
            scale = self.scaler.get_scale()
            norm = clip.clip_grad_norm_(self.optimizer.parameters, self.max_norm * scale)
            self.grad_norm = factories.full((), norm / scale, dtype="float64", device="cpu")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return total
