"""Models and training: modules, a GPT, optimizers, schedules, saving, and the command line."""

from nn import data, generate, init, schedule
from nn.container import ModuleList, Sequential
from nn.errors import InputError
from nn.gpt import GPT, GPTConfig
from nn.layers import GELU, Dropout, Embedding, LayerNorm, Linear, ReLU, RMSNorm, Tanh
from nn.mlp import MLP
from nn.module import Module
from nn.optim import SGD, Adam, AdamW, Optimizer, clip_grad_norm_
from nn.tokenizer import CharTokenizer

__all__ = [
    "GELU", "GPT", "MLP", "SGD", "Adam", "AdamW", "CharTokenizer", "Dropout", "Embedding", "GPTConfig", "InputError",
    "LayerNorm", "Linear", "Module", "ModuleList", "Optimizer", "RMSNorm", "ReLU", "Sequential", "Tanh",
    "clip_grad_norm_", "data", "generate", "init", "schedule",
]  # fmt: skip
