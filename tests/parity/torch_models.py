"""PyTorch's models beside ours, with the same weights, and what the comparisons of whole models share."""

from __future__ import annotations

import numpy as np
import pytest
from torch_functions import TABLE, as_torch

import nn
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")

F = torch.nn.functional
SHAPE = {"vocab_size": 17, "block_size": 12, "n_layer": 2, "n_head": 3, "n_embd": 24}
GPTS = {
    "gpt-2": {},
    "untied": {"tied": False},
    "checkpoints": {"checkpoint": True, "bias": False},
    "rms": {"norm": "rms", "bias": False, "activation": "relu"},
    "rms untied": {"norm": "rms", "tied": False, "activation": "relu-squared", "eps": 1e-3},
    "no gain": {"norm": "rms-no-gain", "bias": False, "tied": False, "embedding_norm": True, "final_norm": False},
    "small": {"n_layer": 1, "n_head": 1, "n_embd": 4, "n_hidden": 5, "embedding_norm": True},
}
ACTIVATIONS = {
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "relu": lambda x: F.relu(x),
    "relu-squared": lambda x: F.relu(x) ** 2,
}


def norm(c):
    if c.norm == "layer":
        return torch.nn.LayerNorm(c.n_embd, c.eps, bias=c.bias)
    return torch.nn.RMSNorm(c.n_embd, c.eps, elementwise_affine=c.norm == "rms")


class Attention(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.n_head
        self.norm = norm(c)
        self.qkv = torch.nn.Linear(c.n_embd, 3 * c.n_embd, c.bias)
        self.out = torch.nn.Linear(c.n_embd, c.n_embd, c.bias)

    def forward(self, x):
        return self.out(TABLE["causal_attention"](self.qkv(self.norm(x)), self.heads))


class FeedForward(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.activation = ACTIVATIONS[c.activation]
        self.norm = norm(c)
        self.up = torch.nn.Linear(c.n_embd, c.hidden, c.bias)
        self.down = torch.nn.Linear(c.hidden, c.n_embd, c.bias)

    def forward(self, x):
        return self.down(self.activation(self.up(self.norm(x))))


class Block(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attention = Attention(c)
        self.mlp = FeedForward(c)

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


class GPT(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.wte = torch.nn.Embedding(c.vocab_size, c.n_embd)
        self.wpe = torch.nn.Embedding(c.block_size, c.n_embd)
        self.head = torch.nn.Linear(c.n_embd, c.vocab_size, bias=False)
        if c.tied:
            self.head.weight = self.wte.weight
        self.embedding_norm = norm(c) if c.embedding_norm else torch.nn.Identity()
        self.blocks = torch.nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.final_norm = norm(c) if c.final_norm else torch.nn.Identity()

    def forward(self, tokens):
        x = self.embedding_norm(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x)
        return self.head(self.final_norm(x))

    def loss(self, tokens, targets):
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())


def near(actual, expected, rtol, what):
    """Equal shapes, and a difference that is small beside the norm of all numbers."""
    actual, expected = np.asarray(actual), np.asarray(expected.detach())
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), what
    assert np.linalg.norm(actual - expected) <= rtol * np.linalg.norm(expected), what


def copy_weights(ours, theirs):
    """Give both the same weights, none of them at a special value; their parameters in pairs, by name."""
    mine, others = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert {name: node.shape for name, node in mine.items()} == {name: tuple(w.shape) for name, w in others.items()}
    for name, node in mine.items():
        node.tensor[...] = node.tensor.numpy() + 0.1 * ownt.randn(node.shape, dtype=node.dtype).numpy()
        others[name].data = as_torch(node.tensor)
    return {name: (mine[name], others[name]) for name in mine}


def gpts(changes, dtype):
    config = nn.GPTConfig(**(SHAPE | changes), dtype=dtype)
    ours, theirs = nn.GPT(config), GPT(config)
    return ours, theirs, copy_weights(ours, theirs)


def batch(*shape):
    """Tokens and targets, some of which do not count."""
    tokens, targets = ownt.randint(0, 17, shape), ownt.randint(0, 17, shape)
    targets[:, 1::4] = -100
    return tokens, targets


def mlps(widths, activation, dtype):
    make = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "gelu": torch.nn.GELU}[activation]
    layers = [layer for i, o in zip(widths, widths[1:]) for layer in (torch.nn.Linear(i, o), make())]
    ours, theirs = nn.MLP(widths, activation, dtype=dtype), torch.nn.Sequential(*layers[:-1])
    return ours, theirs, copy_weights(ours, theirs)


def assert_parameters_alike(ours, theirs):
    shapes = [(path, node.shape) for path, node in ours.named_parameters()]
    assert shapes == [(path, tuple(weight.shape)) for path, weight in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
