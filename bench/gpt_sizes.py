"""What bench/train_gpt.py trains: the sizes, the settings of AdamW, the first weights and the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy

LR, BETAS, EPS, WEIGHT_DECAY = 3e-4, (0.9, 0.95), 1e-8, 0.1
BATCHES = 8  # different ones, taken in turn
TOKENS, TARGETS = "tokens", "targets"  # names in the file, beside those of the parameters


@dataclass(frozen=True)
class Size:
    """A GPT with biases, tanh-GELU and a tied head, and the batch that it is trained on."""

    vocab: int
    block: int
    layers: int
    heads: int
    width: int
    batch: int
    steps: int  # that are timed, unless told otherwise: some seconds for each framework

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        c = self.width
        return (self.vocab + self.block + 2) * c + self.layers * (12 * c + 13) * c

    @property
    def operations(self) -> int:
        """Of matrix products, for a token of a step: 6 N + 6 L C T, of attention the causal half."""
        return 6 * self.parameters + 6 * self.layers * self.width * self.block

    @property
    def tokens(self) -> int:
        """Tokens in a step."""
        return self.batch * self.block

    def __str__(self) -> str:
        return (
            f"vocab {self.vocab}, T {self.block}, {self.layers} layer{'s' * (self.layers > 1)}, {self.heads} heads, "
            f"{self.width} wide, batch {self.batch}"
        )


SIZES = {
    "micro": Size(27, 16, 1, 4, 16, 32, steps=1000),
    "char": Size(65, 64, 4, 4, 128, 12, steps=100),
    "baby": Size(65, 256, 6, 6, 384, 8, steps=15),
    "gpt2": Size(50257, 256, 12, 12, 768, 1, steps=10),
}
GPU_BATCHES = (4, 8, 16, 32, 64)
GPT2_VOCAB = 50304  # GPT-2's 50257 tokens in a table of a round number of rows, which products in any framework like
GPU_SIZES = {f"124m-b{batch}": Size(GPT2_VOCAB, 1024, 12, 12, 768, batch, steps=10) for batch in GPU_BATCHES}
ALL_SIZES = SIZES | GPU_SIZES
SMALL = "char"  # what libraries are warmed up with: small, and large enough for products in all threads


def decays(name: str, shape: tuple[int, ...]) -> bool:
    """Weight decay is for matrices and tables, not for biases and norms."""
    return len(shape) >= 2


def write(size: Size, path: Path, rounded: str = "float32") -> int:
    """Draw the weights and the batches, and write them for all frameworks; returns the number of parameters.

    rounded: a dtype that holds the weights, which are float32
    Tokens are skewed, so that a few steps already lower the loss: an optimizer that does something else is seen.
    """
    import nn
    import ownt

    ownt.manual_seed(0)
    config = nn.GPTConfig(size.vocab, size.block, size.layers, size.heads, size.width)
    drawn = nn.GPT(config).state_dict()
    weights = {name: node.astype(rounded).astype("float32").numpy() for name, node in drawn.items()}
    random = numpy.random.default_rng(0)
    text = (size.vocab * random.random((BATCHES, size.batch, size.block + 1)) ** 3).astype(numpy.int64)
    numpy.savez(path, **weights, **{TOKENS: text[:, :, :-1], TARGETS: text[:, :, 1:]})
    return sum(w.size for w in weights.values())
