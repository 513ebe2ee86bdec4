"""Optimizers that update in place, clipping of gradients, and the scaler of losses for float16."""

from nn.optim.adam import Adam, AdamW
from nn.optim.base import Optimizer
from nn.optim.clip import clip_grad_norm_, clip_grad_value_
from nn.optim.groups import decay_groups
from nn.optim.lion import Lion
from nn.optim.rmsprop import RMSprop
from nn.optim.scaler import GradScaler
from nn.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "GradScaler", "Lion", "Optimizer", "RMSprop", "clip_grad_norm_", "clip_grad_value_",
    "decay_groups",
]  # fmt: skip
