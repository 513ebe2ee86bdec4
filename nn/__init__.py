"""Models and training: modules, a GPT, optimizers, schedules, saving, and the command line."""

from nn import data, generate, init, optim, schedule
from nn.activation import (
    ELU,
    GELU,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from nn.attention import MultiheadAttention
from nn.container import ModuleDict, ModuleList, Sequential
from nn.conv import AdaptiveAvgPool2d, AvgPool2d, Conv2d, MaxPool2d
from nn.errors import InputError
from nn.estimate import estimate, largest_batch
from nn.gpt import GPT, GPTConfig
from nn.layers import Dropout, Embedding, Flatten, Identity, Linear
from nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, KLDivLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss
from nn.mlp import MLP
from nn.module import Module
from nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from nn.optim import (
    SGD,
    Adam,
    AdamW,
    GradScaler,
    Lion,
    Optimizer,
    RMSprop,
    clip_grad_norm_,
    clip_grad_value_,
    decay_groups,
)
from nn.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from nn.scaled_step import ScaledStep
from nn.step import Step
from nn.tokenizer import CharTokenizer

__all__ = [
    "ELU",
    "GELU",
    "GPT",
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "CharTokenizer",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GPTConfig",
    "GradScaler",
    "GroupNorm",
    "Hardtanh",
    "Identity",
    "InputError",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Lion",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Optimizer",
    "RMSNorm",
    "RMSprop",
    "ReLU",
    "ResNet",
    "ScaledStep",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
    "clip_grad_norm_",
    "clip_grad_value_",
    "data",
    "decay_groups",
    "estimate",
    "generate",
    "init",
    "largest_batch",
    "optim",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "schedule",
]  # fmt: skip
