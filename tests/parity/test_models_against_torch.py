"""Whole models against PyTorch: logits, losses, gradients, training with each optimizer, clipping, initial weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from torch_functions import TABLE, as_torch

import ag
import nn
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

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


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("shape", [(3, 12), (2, 5), (1, 1)])
@pytest.mark.parametrize("name", GPTS)
def test_gpt_logits_loss_and_gradients(name, shape, dtype, rtol):
    ours, theirs, pairs = gpts(GPTS[name], dtype)
    tokens, targets = batch(*shape)
    near(ours(tokens).detach(), theirs(as_torch(tokens)), rtol, "logits")
    mine, other = ours.loss(tokens, targets), theirs.loss(as_torch(tokens), as_torch(targets))
    near(mine.detach(), other, rtol, "loss")
    mine.backward()
    other.backward()
    for path, (node, weight) in pairs.items():
        near(node.grad, weight.grad, rtol, path)
    near(ag.cross_entropy(ours(tokens), targets).detach(), other, rtol, "loss of the logits")


def test_gradient_of_a_tied_weight():
    ours, theirs, pairs = gpts(GPTS["gpt-2"], "float32")
    tokens, targets = batch(4, 12)
    ours.loss(tokens, targets).backward()
    theirs.loss(as_torch(tokens), as_torch(targets)).backward()
    assert ours.head.weight is ours.wte.weight
    a, b = (weight.grad.numpy().astype("float64").ravel() for weight in pairs["wte.weight"])
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999999


OPTIMIZERS = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD with decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "SGD with momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "SGD with both": ("SGD", {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.01}),
    "Adam": ("Adam", {"lr": 0.01}),
    "Adam with decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "eps": 1e-6}),
    "AdamW": ("AdamW", {"lr": 0.01}),
    "AdamW with decay": ("AdamW", {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.2}),
}


def optimizers(name, pairs):
    kind, options = OPTIMIZERS[name]
    return [getattr(m, kind)(list(weights), **options) for m, weights in zip((nn, torch.optim), zip(*pairs.values()))]


def train(ours, theirs, pairs, name, losses, clip):
    """50 steps of both; `losses` makes the two losses of a step."""
    mine, other = optimizers(name, pairs)
    for step in range(50):
        mine.lr = other.param_groups[0]["lr"] = OPTIMIZERS[name][1]["lr"] * (1 - step / 100)
        a, b = losses()
        a.backward()
        b.backward()
        near(a.detach(), b, 1e-8, f"loss of step {step}")
        if clip:
            nn.clip_grad_norm_(ours.parameters(), 0.5)
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        for optimizer in (mine, other):
            optimizer.step()
            optimizer.zero_grad()
    for path, (node, weight) in pairs.items():
        near(node.tensor, weight, 1e-8, path)


@pytest.mark.parametrize("clip", [False, True], ids=["", "clipped"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_of_a_gpt(name, clip):
    ours, theirs, pairs = gpts(GPTS["untied" if clip else "gpt-2"], "float64")

    def losses():
        tokens, targets = batch(2, 12)
        return ours.loss(tokens, targets), theirs.loss(as_torch(tokens), as_torch(targets))

    train(ours, theirs, pairs, name, losses, clip)


def mlps(widths, activation, dtype):
    make = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "gelu": torch.nn.GELU}[activation]
    layers = [layer for i, o in zip(widths, widths[1:]) for layer in (torch.nn.Linear(i, o), make())]
    ours, theirs = nn.MLP(widths, activation, dtype=dtype), torch.nn.Sequential(*layers[:-1])
    return ours, theirs, copy_weights(ours, theirs)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_of_an_mlp(name, activation):
    ours, theirs, pairs = mlps([6, 16, 9, 4], activation, "float64")

    def losses():
        x, y = ownt.randn(8, 6, dtype="float64"), ownt.randint(0, 4, 8)
        return ag.cross_entropy(ours(x), y), F.cross_entropy(theirs(as_torch(x)), as_torch(y))

    train(ours, theirs, pairs, name, losses, clip=False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_of_weights_without_gradients_at_first(name):
    ours, theirs, pairs = mlps([3, 4], "relu", "float64")
    mine, other = optimizers(name, pairs)
    for step in range(9):
        for model, optimizer, x in ((ours, mine, np.eye(3)), (theirs, other, torch.eye(3).double())):
            y = (x @ model[0].weight.T) ** 2.0
            (y if step < 3 or step == 6 else y * model[0].bias).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for path, (node, weight) in pairs.items():
        near(node.tensor, weight, 1e-8, path)


GRADS = {"large": 30.0, "small": 1e-3, "zero": 0.0, "infinite": math.inf, "nan": math.nan, "huge": 1e15}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("max_norm", [0.5, 1e4])
@pytest.mark.parametrize("scale", GRADS)
def test_clip_grad_norm(scale, max_norm, dtype, same):
    _, _, pairs = mlps([3, 4, 2], "relu", dtype)
    for path, (node, weight) in pairs.items():
        if path != "2.bias":  # it has no gradient
            node.grad = ownt.randn(node.shape, dtype=dtype)
            node.grad *= GRADS[scale] if path == "0.weight" else 1
            weight.grad = as_torch(node.grad)
    nodes, weights = zip(*pairs.values())
    before = torch.nn.utils.clip_grad_norm_(weights, max_norm)
    same(np.asarray(nn.clip_grad_norm_(nodes, max_norm), dtype), before, "clip norm")
    for node, weight in zip(nodes[:-1], weights):
        same(node.grad, weight.grad, "clip gradient")


LAYERS = {
    "Linear": lambda nn: nn.Linear(3, 5),
    "Linear without bias": lambda nn: nn.Linear(4, 2, bias=False),
    "Embedding": lambda nn: nn.Embedding(7, 4),
    "LayerNorm": lambda nn: nn.LayerNorm(6),
    "LayerNorm without bias": lambda nn: nn.LayerNorm(6, 1e-3, bias=False),
    "RMSNorm": lambda nn: nn.RMSNorm(6, 1e-5),
    "ReLU": lambda nn: nn.ReLU(),
    "GELU": lambda nn: nn.GELU("tanh"),
    "Tanh": lambda nn: nn.Tanh(),
    "Sequential": lambda nn: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 2))),
    "ModuleList": lambda nn: nn.ModuleList([nn.Linear(3, 5), nn.Tanh(), nn.Embedding(2, 3)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_parameters_of_torchs(name):
    ours, theirs = LAYERS[name](nn), LAYERS[name](torch.nn)
    shapes = [(path, node.shape) for path, node in ours.named_parameters()]
    assert shapes == [(path, tuple(weight.shape)) for path, weight in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if "Norm" in name:
        for node, weight in zip(ours.parameters(), theirs.parameters()):
            assert np.array_equal(node.numpy(), weight.detach())


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "ModuleList"])
def test_layers_compute_what_torchs_do(name, same):
    ours, theirs = LAYERS[name](nn), LAYERS[name](torch.nn)
    copy_weights(ours, theirs)
    width = {"Linear": 3, "Linear without bias": 4, "Sequential": 3}.get(name, 6)
    x = ownt.randint(0, 7, (2, 5)) if name == "Embedding" else ownt.randn(2, 5, width)
    same(ours(x).detach(), theirs(as_torch(x)).detach(), "layers value")


@pytest.mark.parametrize("inputs", [1, 16, 300])
def test_linear_begins_within_the_bound_of_torchs(inputs):
    ours, theirs = nn.Linear(inputs, 4000), torch.nn.Linear(inputs, 4000)
    for node, weight in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        values, others = node.detach().numpy(), weight.detach().numpy()
        assert abs(values).max() <= 1 / math.sqrt(inputs)
        assert abs(values).max() == pytest.approx(abs(others).max(), rel=0.01)
        assert values.std() == pytest.approx(others.std(), rel=0.1)
        assert abs(values.mean()) < 0.1 * values.std()
