"""Settings for training, and presets of them by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nn import data, optim, schedule
from nn.errors import InputError
from nn.gpt import GPTConfig
from ownt import device as devices

OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


@dataclass(frozen=True)
class TrainConfig:
    """Train a GPT on a text. The preset gives the defaults; any of them can be set."""

    preset: str = "names"  # where the other settings' defaults come from
    data: Path | None = None  # a text file in UTF-8; given names that come with the package by default
    out: Path = Path("runs/names")  # folder to save the model in
    steps: int = 1000  # optimizer steps
    batch_size: int = 32  # documents, or stretches of text, a step
    lr: float = 3e-3  # learning rate at its highest
    schedule: str = "cosine"  # constant, linear or cosine
    warmup: int = 0  # steps in which the learning rate rises
    optimizer: str = "adamw"  # sgd, adam or adamw
    betas: tuple[float, float] = (0.9, 0.95)  # of Adam; the first is SGD's momentum
    weight_decay: float = 0.01
    grad_clip: float | None = 1.0  # the gradients' common norm, at most
    layout: str = "lines"  # lines: a document a line; stream: one long text
    seed: int = 42
    python_stream: bool = False  # draw weights and samples from Python's `random`, as a program in plain Python would
    device: str = "cpu"
    log_every: int | None = None  # steps between lines; a twentieth of all by default
    samples: int = 20  # texts to write at the end
    temperature: float = 0.5  # of the samples
    model: GPTConfig = field(default_factory=GPTConfig)

    def validate(self) -> None:
        """Raises: InputError naming the first setting that cannot be."""
        self.model.validate()
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"expected {name} of 1 or more; got {getattr(self, name)}")
        for name in ("lr", "warmup", "weight_decay", "samples", "temperature"):
            if not getattr(self, name) >= 0:
                raise InputError(f"expected {name} of 0 or more; got {getattr(self, name)}")
        if self.grad_clip is not None and not self.grad_clip >= 0:
            raise InputError(f"expected grad_clip of 0 or more, or None; got {self.grad_clip}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"expected betas from 0 up to, without, 1; got {self.betas}")
        if self.log_every is not None and self.log_every < 1:
            raise InputError(f"expected log_every of 1 or more; got {self.log_every}")
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", schedule.NAMES), ("layout", data.LAYOUTS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"expected {name} among {', '.join(allowed)}; got {getattr(self, name)!r}")
        try:
            devices.get(self.device)
        except ValueError as error:
            raise InputError(str(error)) from None


def _microgpt(steps: int, betas: tuple[float, float], schedule: str, **model: object) -> TrainConfig:
    """Karpathy's microgpt: one document a step, plain Adam, everything from Python's stream of seed 42."""
    shape = GPTConfig(
        n_layer=1,
        n_head=4,
        n_embd=16,
        norm="rms-no-gain",
        bias=False,
        tied=False,
        embedding_norm=True,
        final_norm=False,
        **model,  # type: ignore[arg-type]
    )
    return TrainConfig(
        preset=f"microgpt-{steps}",
        out=Path(f"runs/microgpt-{steps}"),
        steps=steps,
        batch_size=1,
        lr=0.01,
        schedule=schedule,
        optimizer="adam",
        betas=betas,
        weight_decay=0.0,
        grad_clip=None,
        python_stream=True,
        model=shape,
    )


PRESETS = {
    "names": TrainConfig(
        steps=1500,
        warmup=50,
        model=GPTConfig(block_size=16, n_layer=2, n_head=4, n_embd=64, dropout=0.1),
    ),
    "microgpt-500": _microgpt(
        500, (0.9, 0.95), "cosine", block_size=8, activation="relu-squared", init_std=0.02, residual_init="zero"
    ),
    "microgpt-1000": _microgpt(
        1000, (0.85, 0.99), "linear", block_size=16, activation="relu", init_std=0.08, residual_init="same"
    ),
}


def get(name: str) -> TrainConfig:
    """The preset called `name`. Raises: InputError naming those there are."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
