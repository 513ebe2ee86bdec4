"""The optimizers' rules again, as loops over whole NumPy arrays, and the settings in which they are tested."""

from __future__ import annotations

import numpy as np

import nn


def sgd(p, grads, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    velocity = None
    for g in grads:
        g = g + weight_decay * p
        velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
        p = p - lr * (g + momentum * velocity if nesterov else velocity)
    return p


def adam(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for step, g in enumerate(grads, 1):
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** step)) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
    return p


def adamw(p, grads, lr, weight_decay=0.01, **options):
    return adam(p, grads, lr, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(p, grads, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    square, mean, velocity = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for g in grads:
        g = g + weight_decay * p
        square = alpha * square + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g
        velocity = momentum * velocity + g / (np.sqrt(square - mean**2 if centered else square) + eps)
        p = p - lr * velocity
    return p


def lion(p, grads, lr, betas=(0.9, 0.99), weight_decay=0.0):
    m = np.zeros_like(p)
    for g in grads:
        c = betas[0] * m + (1 - betas[0]) * g
        p = p - lr * (np.sign(c) + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


RULES = {  # class, loop, options, tensors that it keeps for a parameter
    "sgd": (nn.SGD, sgd, {}, 0),
    "sgd-momentum": (nn.SGD, sgd, {"momentum": 0.9}, 1),
    "sgd-decay": (nn.SGD, sgd, {"weight_decay": 0.1}, 0),
    "sgd-momentum-decay": (nn.SGD, sgd, {"momentum": 0.5, "weight_decay": 0.1}, 1),
    "sgd-dampening": (nn.SGD, sgd, {"momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}, 1),
    "sgd-nesterov": (nn.SGD, sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 1),
    "adam": (nn.Adam, adam, {}, 2),
    "adam-settings": (nn.Adam, adam, {"betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.1}, 2),
    "adam-no-memory": (nn.Adam, adam, {"betas": (0.0, 0.0)}, 2),
    "adamw": (nn.AdamW, adamw, {}, 2),
    "adamw-settings": (nn.AdamW, adamw, {"betas": (0.8, 0.9), "weight_decay": 0.3}, 2),
    "rmsprop": (nn.RMSprop, rmsprop, {}, 1),
    "rmsprop-settings": (nn.RMSprop, rmsprop, {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}, 1),
    "rmsprop-momentum": (nn.RMSprop, rmsprop, {"momentum": 0.7}, 2),
    "rmsprop-centered": (nn.RMSprop, rmsprop, {"centered": True, "eps": 1e-3}, 2),
    "rmsprop-all": (nn.RMSprop, rmsprop, {"centered": True, "momentum": 0.9, "eps": 1e-3, "weight_decay": 0.1}, 3),
    "lion": (nn.Lion, lion, {}, 1),
    "lion-settings": (nn.Lion, lion, {"betas": (0.5, 0.8), "weight_decay": 0.3}, 1),
}
OPTIMIZERS = (nn.SGD, nn.Adam, nn.AdamW, nn.RMSprop, nn.Lion)


def drawn(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)
