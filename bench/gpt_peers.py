"""The GPT of nn/gpt.py in PyTorch and in JAX, as one who knows them would write it. Parameters are named as ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy
from gpt_sizes import BETAS, EPS, LR, WEIGHT_DECAY, Size, decays

PEERS = {  # each in the ways in which it can do it
    "torch": ["fused", "foreach", "loop"],
    "torch-compile": ["fused, default", "fused, max-autotune-no-cudagraphs"],
    "jax": ["einsum", "fused"],
}

Weights = Mapping[str, numpy.ndarray]
Batch = tuple[Any, Any]  # tokens and targets, (B, T)
Step = Callable[[Any, Any], Any]  # trains on a batch; the loss, whose .item() waits for it


def torch_gpt(size: Size, device: str = "cpu") -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(size.width)
            self.qkv = nn.Linear(size.width, 3 * size.width)
            self.out = nn.Linear(size.width, size.width)

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            heads = self.qkv(self.norm(x)).view(b, t, 3, size.heads, -1).permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(*heads.unbind(0), is_causal=True)
            return self.out(y.transpose(1, 2).reshape(b, t, c))

    class FeedForward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(size.width)
            self.up = nn.Linear(size.width, 4 * size.width)
            self.down = nn.Linear(4 * size.width, size.width)

        def forward(self, x: Any) -> Any:
            return self.down(functional.gelu(self.up(self.norm(x)), approximate="tanh"))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = Attention()
            self.mlp = FeedForward()

        def forward(self, x: Any) -> Any:
            x = x + self.attention(x)
            return x + self.mlp(x)

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(size.vocab, size.width)
            self.wpe = nn.Embedding(size.block, size.width)
            self.blocks = nn.ModuleList(Block() for _ in range(size.layers))
            self.final_norm = nn.LayerNorm(size.width)

        def loss(self, tokens: Any, targets: Any) -> Any:
            x = self.wte(tokens) + self.wpe.weight
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.final_norm(x), self.wte.weight)
            return functional.cross_entropy(logits.view(-1, size.vocab), targets.view(-1))

    with torch.device("meta"):
        model = GPT()
    return model.to_empty(device=device)


def torch_trainer(
    size: Size,
    weights: Weights,
    optimizer: str = "fused",
    compiled: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    autocast: bool = False,
) -> Step:
    """optimizer: "fused", "foreach" or "loop", PyTorch's three AdamWs; compiled: a mode of torch.compile, or none.

    dtype: of the weights or, with autocast, of what it chooses to compute in it, the weights being float32.
    """
    import torch

    model = torch_gpt(size, device)
    kind = getattr(torch, dtype)
    groups: dict[bool, list[Any]] = {True: [], False: []}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
        if not autocast:
            model.to(kind)
        for name, parameter in model.named_parameters():
            groups[decays(name, tuple(parameter.shape))].append(parameter)
    adam = torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": WEIGHT_DECAY}, {"params": groups[False], "weight_decay": 0.0}],
        lr=LR, betas=BETAS, eps=EPS, fused=optimizer == "fused", foreach=optimizer == "foreach",
    )  # fmt: skip
    loss_of = model.loss if compiled is None else torch.compile(model.loss, mode=compiled)

    casting = torch.autocast(device, kind, enabled=autocast)
    scaler = torch.amp.GradScaler(device, enabled=dtype == "float16")

    def step(tokens: Any, targets: Any) -> Any:
        tokens, targets = (batch.to(device, non_blocking=True) for batch in (tokens, targets))
        with casting:
            loss = loss_of(tokens, targets)
        scaler.scale(loss).backward()
        scaler.step(adam)
        scaler.update()
        adam.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def torch_gradients(
    size: Size, weights: Weights, tokens: Any, targets: Any, device: str, dtype: str, autocast: bool
) -> dict[str, numpy.ndarray]:
    """Of one batch, by parameter, in float64."""
    import torch

    model, kind = torch_gpt(size, device), getattr(torch, dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
    if not autocast:
        model.to(kind)
    with torch.autocast(device, kind, enabled=autocast):
        loss = model.loss(*(torch.from_numpy(batch).to(device) for batch in (tokens, targets)))
    loss.backward()
    return {name: parameter.grad.double().cpu().numpy() for name, parameter in model.named_parameters()}


def torch_batch(tokens: numpy.ndarray, targets: numpy.ndarray) -> Batch:
    """In pinned memory where there is a GPU, so that it can be sent while others are at work."""
    import torch

    batch = torch.tensor(tokens), torch.tensor(targets)
    return (batch[0].pin_memory(), batch[1].pin_memory()) if torch.cuda.is_available() else batch


def jax_loss(size: Size, attention: str) -> Callable[[Mapping[str, Any], Any, Any], Any]:
    """attention: "fused", that of jax.nn, or "einsum", written out."""
    import jax
    from jax import numpy as jnp

    def norm(p: Mapping[str, Any], name: str, x: Any) -> Any:
        mean = x.mean(-1, keepdims=True)
        x = x - mean
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(p: Mapping[str, Any], name: str, x: Any) -> Any:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def attend(q: Any, k: Any, v: Any) -> Any:
        if attention == "fused":
            return jax.nn.dot_product_attention(q, k, v, is_causal=True)
        scores = jnp.einsum("bihd,bjhd->bhij", q, k) * (size.width // size.heads) ** -0.5
        seen = jnp.tril(jnp.ones((size.block, size.block), bool))
        return jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)), v)

    def block(p: Mapping[str, Any], name: str, x: Any) -> Any:
        qkv = linear(p, f"{name}.attention.qkv", norm(p, f"{name}.attention.norm", x))
        q, k, v = (part.reshape(size.batch, size.block, size.heads, -1) for part in jnp.split(qkv, 3, -1))
        x = x + linear(p, f"{name}.attention.out", attend(q, k, v).reshape(x.shape))
        h = jax.nn.gelu(linear(p, f"{name}.mlp.up", norm(p, f"{name}.mlp.norm", x)), approximate=True)
        return x + linear(p, f"{name}.mlp.down", h)

    def loss(p: Mapping[str, Any], tokens: Any, targets: Any) -> Any:
        x = p["wte.weight"][tokens] + p["wpe.weight"]
        for i in range(size.layers):
            x = block(p, f"blocks.{i}", x)
        logits = norm(p, "final_norm", x) @ p["wte.weight"].T
        chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
        return (jax.nn.logsumexp(logits, -1) - chosen).mean()

    return loss


def jax_trainer(size: Size, weights: Weights, attention: str) -> Step:
    import jax
    from jax import numpy as jnp

    loss_of = jax_loss(size, attention)
    beta1, beta2 = BETAS

    def adam(name: str, p: Any, g: Any, m: Any, v: Any, count: Any) -> tuple[Any, Any, Any]:
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        shrunk = p * (1 - LR * WEIGHT_DECAY) if decays(name, p.shape) else p
        return shrunk - LR * (m / (1 - beta1**count)) / (jnp.sqrt(v / (1 - beta2**count)) + EPS), m, v

    def train(state: tuple, tokens: Any, targets: Any) -> tuple[tuple, Any]:
        p, m, v, count = state
        loss, g = jax.value_and_grad(loss_of)(p, tokens, targets)
        new = {name: adam(name, p[name], g[name], m[name], v[name], count + 1) for name in p}
        return (*({name: values[i] for name, values in new.items()} for i in range(3)), count + 1), loss

    compiled = jax.jit(train, donate_argnums=0)
    first = {name: jnp.array(weights[name]) for name in parameter_names(size)}
    zeros = [{name: jnp.zeros_like(p) for name, p in first.items()} for _ in range(2)]
    state = (first, *zeros, jnp.float32(0))
    del first, zeros

    def step(tokens: Any, targets: Any) -> Any:
        nonlocal state
        state, loss = compiled(state, tokens, targets)
        return loss

    return step


def jax_batch(tokens: numpy.ndarray, targets: numpy.ndarray) -> Batch:
    from jax import numpy as jnp

    return jnp.array(tokens, jnp.int32), jnp.array(targets, jnp.int32)


def parameter_names(size: Size) -> list[str]:
    layers = [f"{part}.{leaf}" for part in ("attention.norm", "attention.qkv", "attention.out", "mlp.norm", "mlp.up",
              "mlp.down") for leaf in ("weight", "bias")]  # fmt: skip
    blocks = [f"blocks.{i}.{name}" for i in range(size.layers) for name in layers]
    return ["wte.weight", "wpe.weight", *blocks, "final_norm.weight", "final_norm.bias"]
