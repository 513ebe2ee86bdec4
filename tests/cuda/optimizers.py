"""Cases of optimizers and of clipping: weights of awkward sizes, several steps, all options that kernels know of."""

from __future__ import annotations

import math

import numpy as np

import ag
import nn
from nn.optim import clip
from ownt import Tensor

SHAPES = ((5, 3), (0, 2), (), (1027,), (8192,), (8200,), (3, 5471))  # two pieces, three, and one that is full


def drawn(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def parameters(place):
    return [ag.param(place.tensor(drawn(shape, seed))) for seed, shape in enumerate(SHAPES)]


def give_gradients(nodes, place, seed):
    for number, node in enumerate(nodes):
        node.grad = place.tensor(drawn(node.shape, 100 * seed + number)).astype(node.dtype)


def trained(name, make, options):
    """A case: weights, and what is kept for them, after three steps, before which one weight was written to."""

    def run(place):
        nodes = parameters(place)
        optimizer = make(nodes, lr=0.01, **options)
        for seed in (1, 2, 3):
            give_gradients(nodes, place, seed)
            if seed == 1:
                nodes[3].grad = None  # its steps are counted by themselves
            optimizer.step(grad_factor=0.5)
            nodes[0].tensor[1, 2] = 0.25 * seed
        kept = [
            value for node in nodes for name, value in optimizer.state[node].items() if name not in ("step", "master")
        ]
        return [part.numpy().copy() for part in (*nodes, *kept)]

    run.__name__ = name
    return run


def norms(place):
    """Norms of all orders, of gradients of one dtype and of two; of none."""
    grads = [node.tensor for node in parameters(place)]
    mixed = [
        place.tensor(1000 * drawn(9, 7)),
        *grads,
        place.tensor(drawn(70001, 9)),
        place.tensor(1000 * drawn(7, 8)).astype("float32"),
    ]
    found = [clip.norm_of(given, order) for given in (grads, mixed) for order in (2, 1, 3, 0.5, math.inf)]
    return [norm.numpy().copy() for norm in found]


def clipped(place):
    """Gradients scaled down, left alone, scaled, limited; and clipped to a norm that is NaN."""
    nodes, results = [*parameters(place), ag.param(place.tensor(drawn(40001, 9)))], []
    for seed, change in enumerate(
        (
            lambda grads: clip.limit_norm(grads, clip.norm_of(grads), 2.0),
            lambda grads: clip.limit_norm(grads, clip.norm_of(grads), 1e6),
            lambda grads: clip.scale(grads, 3.0),
            lambda grads: nn.clip_grad_value_(nodes, 0.5),
            lambda grads: clip.limit_norm(grads, Tensor(np.full((), math.nan)).to(place.device.name), 2.0),
        )
    ):
        give_gradients(nodes, place, seed)
        change([node.grad for node in nodes])
        results += [node.grad.numpy().copy() for node in nodes]
    return results


RULES = {
    "sgd": (nn.SGD, {"weight_decay": 0.1}),
    "sgd-momentum": (nn.SGD, {"momentum": 0.9, "dampening": 0.4}),
    "sgd-nesterov": (nn.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (nn.Adam, {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": (nn.AdamW, {"weight_decay": 0.3}),
    "adamw-rounded": (nn.AdamW, {"stochastic_rounding": True}),
    "rmsprop": (nn.RMSprop, {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    "rmsprop-all": (nn.RMSprop, {"centered": True, "momentum": 0.9, "eps": 1e-2}),
    "lion": (nn.Lion, {"betas": (0.5, 0.8), "weight_decay": 0.3}),
}
OPTIMIZERS = [*(trained(name, *rule) for name, rule in RULES.items()), norms, clipped]
