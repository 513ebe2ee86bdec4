"""GPT: a decoder-only transformer whose switches make it GPT-2, microgpt, or anything between.

Source: Radford et al., "Language models are unsupervised multitask learners", 2019, for the architecture;
        Karpathy's nanoGPT and microgpt for the two ends of the range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import ag
from ag import Node
from nn import init
from nn.container import ModuleList
from nn.errors import InputError
from nn.layers import Dropout, Embedding, Linear
from nn.module import Module
from nn.norm import LayerNorm, RMSNorm, norm_linear
from ownt import Tensor, factories
from ownt import device as devices

CHOICES: dict[str, tuple[object, ...]] = {
    "norm": ("layer", "rms", "rms-no-gain"),
    "activation": ("gelu", "relu", "relu-squared"),
    "residual_init": ("scaled", "zero", "same"),
    "dtype": ("float32", "float64", "bfloat16", "float16"),
    **dict.fromkeys(("bias", "tied", "embedding_norm", "final_norm", "checkpoint"), (True, False)),
}


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT."""

    vocab_size: int = 50257  # tokens there are; `ownt train` takes it from the data
    block_size: int = 1024  # tokens of context, at most
    n_layer: int = 12  # blocks
    n_head: int = 12  # attention heads
    n_embd: int = 768  # width; divisible by n_head
    n_hidden: int | None = None  # width inside the MLPs; 4 n_embd unless given
    norm: str = "layer"  # layer, rms or rms-no-gain
    activation: str = "gelu"  # gelu (tanh approximation), relu or relu-squared
    bias: bool = True  # in linear layers and layer norms
    tied: bool = True  # one matrix for the embedding and the head
    embedding_norm: bool = False  # a norm right after the embedding
    final_norm: bool = True  # a norm right before the head
    dropout: float = 0.0  # probability
    init_std: float = 0.02  # of all weights at first
    residual_init: str = "scaled"  # weights into the residual stream: std / sqrt(2 n_layer), zero, or the same
    eps: float = 1e-5  # in norms
    checkpoint: bool = False  # compute blocks again in backward rather than keep what they computed
    dtype: str = "float32"  # or float64, bfloat16, float16: of parameters, gradients and activations

    def validate(self) -> None:
        """Raises: InputError naming the first setting that cannot be."""
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "hidden"):
            value, shown = getattr(self, name), name.replace("hidden", "n_hidden")
            if type(value) is not int:
                raise InputError(f"GPTConfig: expected an int for {shown}; got {value!r}")
            if value < 1:
                raise InputError(f"GPTConfig: expected {shown} of 1 or more; got {value}")
        if self.n_embd % self.n_head:
            raise InputError(
                f"GPTConfig: expected the width n_embd to be divisible by the heads n_head; "
                f"got {self.n_embd} and {self.n_head}"
            )
        for name, below in (("dropout", 1), ("init_std", math.inf), ("eps", math.inf)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < below:
                raise InputError(f"GPTConfig: expected {name} from 0 up to, without, {below}; got {value!r}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"GPTConfig: expected {name} among {', '.join(map(str, allowed))}; got {getattr(self, name)!r}"
                )

    @property
    def hidden(self) -> int:
        """Width inside the MLPs."""
        return 4 * self.n_embd if self.n_hidden is None else self.n_hidden

    @property
    def parameters(self) -> int:
        """How many numbers a model of this shape has to learn, counted without building one."""
        width, bias = self.n_embd, int(self.bias)
        norm = {"layer": width * (1 + bias), "rms": width, "rms-no-gain": 0}[self.norm]
        attention = norm + (width + bias) * 3 * width + (width + bias) * width
        mlp = norm + (width + bias) * self.hidden + (self.hidden + bias) * width
        tables = width * (self.vocab_size * (1 if self.tied else 2) + self.block_size)
        return tables + self.n_layer * (attention + mlp) + norm * (self.embedding_norm + self.final_norm)

    @property
    def residual_std(self) -> float:
        """Standard deviation of the weights that write into the residual stream."""
        return {"scaled": self.init_std / math.sqrt(2 * self.n_layer), "zero": 0.0, "same": self.init_std}[
            self.residual_init
        ]


class Cache:
    """Keys and values of the positions so far, for each block, so that a new token costs one position's work.

    Shapes: keys, values (batch, n_head, block_size, n_embd / n_head)
    """

    def __init__(self, model: GPT, batch: int) -> None:
        config, like = model.config, model.wte.weight
        self.device = like.device
        shape = (batch, config.n_head, config.block_size, config.n_embd // config.n_head)
        empty = partial(factories.empty, shape, dtype=like.dtype, device=like.device, path="cache")
        self.layers = [(empty(), empty()) for _ in range(config.n_layer)]
        self.length = 0  # positions filled
        self._next = factories.zeros(1, dtype="int64", device=like.device, path="cache")

    def positions(self, count: int) -> Tensor:
        """Numbers of the next positions; of a single one always in the same memory, so that it can be replayed."""
        if count != 1:
            return factories.arange(self.length, self.length + count, device=self._next.device)
        devices.of(self._next.array).write(self._next.array, ..., self.length)
        return self._next


class Attention(Module):
    """Causal self-attention on a normed input."""

    def __init__(self, config: GPTConfig, draw: init.Draw) -> None:
        self.heads = config.n_head
        self.norm = _norm(config)
        self.qkv = _linear(config, draw, config.n_embd, 3 * config.n_embd, config.init_std)
        self.out = _linear(config, draw, config.n_embd, config.n_embd, config.residual_std)

    def forward(
        self, x: Node, kept: tuple[Tensor, Tensor] | None = None, start: Any = 0, residual: Node | None = None
    ) -> Node:
        qkv = norm_linear(self.norm, self.qkv, x)  # (B, T, 3C)
        if kept is None:
            return self.out(ag.causal_attention(qkv, self.heads), residual)
        return self.out(ag.cached_attention(qkv, *kept, start), residual)


class FeedForward(Module):
    """Two linear layers with an activation between them, on a normed input."""

    def __init__(self, config: GPTConfig, draw: init.Draw) -> None:
        self.activation = config.activation
        self.norm = _norm(config)
        self.up = _linear(config, draw, config.n_embd, config.hidden, config.init_std)
        self.down = _linear(config, draw, config.hidden, config.n_embd, config.residual_std)

    def forward(self, x: Node, residual: Node | None = None) -> Node:
        h = norm_linear(self.norm, self.up, x)  # (B, T, hidden)
        if self.activation == "gelu":
            return ag.gelu_linear(h, self.down.weight, self.down.bias, "tanh", residual)
        h = ag.relu(h)
        return self.down(h if self.activation == "relu" else h * h, residual)


class Block(Module):
    """Attention, then the feed-forward layers, each added to what came in."""

    def __init__(self, config: GPTConfig, draw: init.Draw) -> None:
        self.attention = Attention(config, draw)
        self.mlp = FeedForward(config, draw)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Node, kept: tuple[Tensor, Tensor] | None = None, start: Any = 0) -> Node:
        if self.training and self.dropout.p:
            x = x + self.dropout(self.attention(x, kept, start))
            return x + self.dropout(self.mlp(x))
        x = self.attention(x, kept, start, x)  # the sums are of the last products
        return self.mlp(x, x)


class GPT(Module):
    """A language model: tokens to the logits of the next token.

    Shapes: tokens (B, T), T <= block_size -> logits (B, T, vocab_size)
    Weights are drawn in the order of the parameters by `draw(shape, std, dtype)`.
    """

    def __init__(self, config: GPTConfig, draw: init.Draw = init.normal) -> None:
        config.validate()
        self.config = config
        width, std = config.n_embd, config.init_std
        self.wte = Embedding(config.vocab_size, width, weight=draw((config.vocab_size, width), std, config.dtype))
        self.wpe = Embedding(config.block_size, width, weight=draw((config.block_size, width), std, config.dtype))
        shape = (config.vocab_size, width)
        head = self.wte.weight if config.tied else draw(shape, std, config.dtype)
        self.head = Linear(width, config.vocab_size, bias=False, weight=head)
        self.embedding_norm = _norm(config) if config.embedding_norm else None
        self.dropout = Dropout(config.dropout)
        self.blocks = ModuleList(Block(config, draw) for _ in range(config.n_layer))
        self.final_norm = _norm(config) if config.final_norm else None

    def forward(self, tokens: Any, cache: Cache | None = None) -> Node:
        return self.head(self.hidden(tokens, cache))

    def loss(self, tokens: Any, targets: Any) -> Node:
        """The mean cross-entropy of the next tokens, in nats; targets of -100 do not count. The logits never exist.

        Shapes: tokens, targets (B, T) -> ()
        """
        return ag.linear_cross_entropy(self.hidden(tokens), self.head.weight, targets)

    def hidden(self, tokens: Any, cache: Cache | None = None) -> Node:
        """What the head sees: (B, T) -> (B, T, n_embd). With a cache the tokens follow those in it."""
        tokens = ag.constant(tokens)
        start = cache.length if cache else 0
        if tokens.ndim != 2 or start + tokens.shape[1] > self.config.block_size:
            raise ValueError(
                f"GPT: expected tokens (B, T) of at most block_size = {self.config.block_size} positions; "
                f"got {tokens.shape}{f' after {start} cached' if start else ''}. Crop them, or make block_size larger"
            )
        if cache is None:
            places, first = self.wpe.weight[: tokens.shape[1]], None
        else:
            positions = cache.positions(tokens.shape[1])
            places, first = self.wpe(positions), positions[0]
        x = self.wte(tokens) + places
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            if cache is not None:
                x = block(x, cache.layers[i], first)
            elif self.config.checkpoint and self.training:
                x = ag.checkpoint(block, x)
            else:
                x = block(x)
        if cache is not None:
            cache.length += tokens.shape[1]
        return x if self.final_norm is None else self.final_norm(x)

    def generate(self, tokens: Any, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
        """The tokens (B, T) with `max_new_tokens` sampled ones after them; see `nn.generate.stream`."""
        from nn import generate

        return generate.extend(self, tokens, max_new_tokens, temperature, top_k)

    def save(self, folder: Any, tokenizer: Any = None) -> None:
        """Write the weights, the config and the tokenizer to a folder; see `nn.saving`."""
        from nn import saving

        saving.save(self, folder, tokenizer)

    @classmethod
    def load(cls, folder: Any) -> GPT:
        """The model that `save` wrote to a folder; its tokenizer is its attribute `tokenizer`."""
        from nn import saving

        return saving.load(folder)


def _norm(config: GPTConfig) -> LayerNorm | RMSNorm:
    if config.norm == "layer":
        return LayerNorm(config.n_embd, config.eps, config.bias, config.dtype)
    return RMSNorm(config.n_embd, config.eps, gain=config.norm == "rms", dtype=config.dtype)


def _linear(config: GPTConfig, draw: init.Draw, inputs: int, outputs: int, std: float) -> Linear:
    layer = Linear(inputs, outputs, bias=False, weight=draw((outputs, inputs), std, config.dtype))
    if config.bias:
        layer.bias = ag.param(factories.zeros(outputs, dtype=config.dtype))
    return layer
