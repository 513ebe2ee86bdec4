"""What bench/kernels.py times: ops at the shapes that a GPT gives them, and what they cost at the least."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import gpt_peers
from gpt_sizes import Size

Shapes = dict[str, tuple[int, ...]]
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Case:
    """A forward or, with `wants`, the gradients of some of its inputs.

    moved: elements that have to be read and written, each once; operations: of matrix products
    Inputs are named: "targets" and "tokens" are integers below the vocabulary, all others drawn from a normal.
    """

    op: str
    shapes: Callable[[Size], Shapes]
    moved: Callable[[Size], int]
    operations: Callable[[Size], int] = lambda s: 0
    wants: tuple[str, ...] = ()

    def bound_s(
        self, size: Size, copied_per_s: float, multiplied_per_s: float, dtype: str = "float32"
    ) -> tuple[float, bool]:
        """The least time that it can take, and whether memory, and not arithmetic, is what it waits for.

        Units: copied_per_s in bytes, read and written; multiplied_per_s in operations
        """
        by_memory = self.moved_bytes(size, dtype) / copied_per_s
        by_arithmetic = self.operations(size) / multiplied_per_s
        return max(by_memory, by_arithmetic), by_memory >= by_arithmetic

    def moved_bytes(self, size: Size, dtype: str = "float32") -> int:
        """AdamW moves as much for any dtype: of a half one a gradient, weights, and masters and moments in float32."""
        return ITEM_BYTES["float32" if self.op == "adamw" else dtype] * self.moved(size)


def parameter_shapes(size: Size) -> Shapes:
    """Those of the whole model."""
    c = size.width
    given = {"qkv": 3 * c, "up": 4 * c}
    tables = {"wte.weight": (size.vocab, c), "wpe.weight": (size.block, c)}

    def shape(name: str) -> tuple[int, ...]:
        *_, layer, leaf = name.split(".")
        if layer.endswith("norm"):
            return (c,)
        out = given.get(layer, c)
        return (out,) if leaf == "bias" else (out, 4 * c if layer == "down" else c)

    return {name: tables.get(name) or shape(name) for name in gpt_peers.parameter_names(size)}


def parameters(size: Size) -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(size).values())


def narrow(s: Size) -> int:
    """Elements of the residual stream."""
    return s.tokens * s.width


def scores(s: Size) -> int:
    """Elements of attention's T x T matrices."""
    return s.batch * s.heads * s.block * s.block


def layer(s: Size, inputs: int, outputs: int) -> Shapes:
    """What a linear layer takes. Units: inputs and outputs in widths of the model"""
    i, o = inputs * s.width, outputs * s.width
    return {"x": (s.tokens, i), "w": (o, i), "b": (o,)}


def layer_moves(s: Size, inputs: int, outputs: int) -> int:
    return sum(math.prod(shape) for shape in layer(s, inputs, outputs).values()) + outputs * narrow(s)


def products(s: Size, inputs: int, outputs: int) -> int:
    return 2 * s.tokens * inputs * outputs * s.width * s.width


def hidden(s: Size) -> Shapes:
    return {"x": (s.tokens, 4 * s.width)}


def normed(s: Size) -> Shapes:
    return {"x": (s.tokens, s.width), "gain": (s.width,), "shift": (s.width,)}


def scaled(s: Size) -> Shapes:
    return {"x": (s.tokens, s.width), "gain": (s.width,)}


def norm_layer(s: Size) -> Shapes:
    return normed(s) | {"w": (3 * s.width, s.width), "b": (3 * s.width,)}


def packed(s: Size) -> Shapes:
    return {"qkv": (s.batch, s.block, 3 * s.width)}


def head(s: Size) -> Shapes:
    return {"x": (s.tokens, s.width), "w": (s.vocab, s.width), "targets": (s.tokens,)}


def logits(s: Size) -> Shapes:
    return {"logits": (s.tokens, s.vocab), "targets": (s.tokens,)}


def rows_of_scores(s: Size) -> Shapes:
    return {"x": (s.batch * s.heads * s.block, s.block)}


def table(s: Size) -> Shapes:
    return {"tokens": (s.tokens,), "w": (s.vocab, s.width)}


def residual(s: Size) -> Shapes:
    return {"x": (s.tokens, s.width)}


CASES = {
    "gelu": Case("gelu", hidden, lambda s: 8 * narrow(s)),
    "gelu backward": Case("gelu", hidden, lambda s: 12 * narrow(s), wants=("x",)),
    "relu": Case("relu", hidden, lambda s: 8 * narrow(s)),
    "relu backward": Case("relu", hidden, lambda s: 12 * narrow(s), wants=("x",)),
    "layer_norm": Case("layer_norm", normed, lambda s: 2 * narrow(s)),
    "layer_norm backward": Case("layer_norm", normed, lambda s: 3 * narrow(s), wants=("x", "gain", "shift")),
    "rms_norm": Case("rms_norm", scaled, lambda s: 2 * narrow(s)),
    "rms_norm backward": Case("rms_norm", scaled, lambda s: 3 * narrow(s), wants=("x", "gain")),
    "linear": Case("linear", lambda s: layer(s, 1, 4), lambda s: layer_moves(s, 1, 4), lambda s: products(s, 1, 4)),
    "linear dx": Case(
        "linear", lambda s: layer(s, 1, 4), lambda s: layer_moves(s, 1, 4), lambda s: products(s, 1, 4), ("x",)
    ),
    "linear dw": Case(
        "linear", lambda s: layer(s, 1, 4), lambda s: layer_moves(s, 1, 4), lambda s: products(s, 1, 4), ("w",)
    ),
    "linear db": Case("linear", lambda s: layer(s, 1, 4), lambda s: 4 * narrow(s), wants=("b",)),
    "norm_linear": Case("norm_linear", norm_layer, lambda s: layer_moves(s, 1, 3), lambda s: products(s, 1, 3)),
    "norm_linear backward": Case(
        "norm_linear", norm_layer, lambda s: 2 * layer_moves(s, 1, 3), lambda s: 2 * products(s, 1, 3),
        ("x", "gain", "shift", "w", "b"),
    ),
    "gelu_linear": Case(
        "gelu_linear", lambda s: layer(s, 4, 1), lambda s: layer_moves(s, 4, 1), lambda s: products(s, 4, 1)
    ),
    "gelu_linear backward": Case(
        "gelu_linear", lambda s: layer(s, 4, 1), lambda s: 2 * layer_moves(s, 4, 1), lambda s: 2 * products(s, 4, 1),
        ("x", "w", "b"),
    ),
    "causal_attention": Case(
        "causal_attention", packed, lambda s: 4 * narrow(s), lambda s: 2 * scores(s) * s.width // s.heads
    ),
    "causal_attention backward": Case(
        "causal_attention", packed, lambda s: 8 * narrow(s), lambda s: 5 * scores(s) * s.width // s.heads, ("qkv",)
    ),
    "softmax": Case("softmax", rows_of_scores, lambda s: 2 * scores(s)),
    "softmax backward": Case("softmax", rows_of_scores, lambda s: 3 * scores(s), wants=("x",)),
    "cross_entropy": Case("cross_entropy", logits, lambda s: s.tokens * s.vocab),
    "cross_entropy backward": Case("cross_entropy", logits, lambda s: 2 * s.tokens * s.vocab, wants=("logits",)),
    "linear_cross_entropy": Case(
        "linear_cross_entropy", head, lambda s: narrow(s) + s.vocab * s.width,
        lambda s: 2 * s.tokens * s.vocab * s.width,
    ),
    "linear_cross_entropy backward": Case(
        "linear_cross_entropy", head, lambda s: 2 * (narrow(s) + s.vocab * s.width),
        lambda s: 4 * s.tokens * s.vocab * s.width, ("x", "w"),
    ),
    "embedding": Case("embedding", table, lambda s: 2 * narrow(s)),
    "embedding backward": Case("embedding", table, lambda s: narrow(s) + s.vocab * s.width, wants=("w",)),
    "add": Case("add", lambda s: {"a": (s.tokens, s.width), "b": (s.tokens, s.width)}, lambda s: 3 * narrow(s)),
    "dropout": Case("dropout", residual, lambda s: 2 * narrow(s)),
    "dropout backward": Case("dropout", residual, lambda s: 2 * narrow(s), wants=("x",)),
    "sum_rows": Case("sum_rows", hidden, lambda s: 4 * narrow(s)),
    "AdamW": Case("adamw", parameter_shapes, lambda s: 7 * parameters(s)),
    "clip_grad_norm_": Case("clip", parameter_shapes, lambda s: 3 * parameters(s)),
}  # fmt: skip
