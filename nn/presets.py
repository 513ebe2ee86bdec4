"""Settings for training, and presets of them by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nn import data, optim, schedule
from nn.errors import InputError
from nn.gpt import GPTConfig
from ownt import device as devices

OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop, "lion": optim.Lion}


@dataclass(frozen=True)
class TrainConfig:
    """Train a GPT on a text. The preset gives the defaults; any of them can be set.

    A setting that is true or false is on where no value follows.
    """

    preset: str = "names"  # names, microgpt-500, microgpt-1000, tiny, small, medium, large or gpt2
    data: Path | None = None  # a text file in UTF-8; by default, for layout lines, names that come with the package
    out: Path = Path("runs/names")  # folder to save the model in
    steps: int = 1000  # optimizer steps
    batch_size: int = 32  # documents, or stretches of text, in a batch
    accumulate: int = 1  # batches a step: like one batch of so many times the size, in the memory of one
    lr: float = 3e-3  # learning rate at its highest
    final_lr_fraction: float = 0.0  # the lowest rate of linear, cosine and restarts, in units of lr
    schedule: str = "cosine"  # constant, linear, cosine, one-cycle, step or restarts
    warmup: int = 0  # steps in which the learning rate rises
    optimizer: str = "adamw"  # sgd, adam, adamw, rmsprop or lion
    betas: tuple[float, float] = (0.9, 0.95)  # of Adam and Lion; SGD's momentum, and RMSprop's alpha
    weight_decay: float = 0.01  # of matrices and tables; vectors do not decay
    grad_clip: float | None = 1.0  # the gradients' common norm, at most
    layout: str = "lines"  # lines: a document a line; stream: one long text
    val_fraction: float = 0.1  # of the text, to validate on: the end of a stream, the last of the shuffled documents
    eval_every: int | None = None  # steps between validation losses; a tenth of all by default
    eval_tokens: int = 200_000  # of the part to validate on, at most
    seed: int = 42
    python_stream: bool = False  # draw weights and samples from Python's `random`, as a program in plain Python would
    device: str = "cpu"  # cpu, cuda, or cuda:1 for the second GPU
    log_every: int | None = None  # steps between lines; a twentieth of all by default
    log: Path | None = None  # a file in which to write the same figures as comma-separated values
    profile: bool = False  # print where the time went, kernel by kernel
    samples: int = 20  # texts to write at the end
    temperature: float = 0.5  # of the samples
    model: GPTConfig = field(default_factory=GPTConfig)

    @property
    def scales(self) -> bool:
        """Whether losses are scaled up: for float16, in which gradients are too small otherwise."""
        return self.model.dtype == "float16"

    def validate(self) -> None:
        """Raises: InputError naming the first setting that cannot be."""
        self.model.validate()
        for name in ("steps", "batch_size", "accumulate", "eval_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"expected {name} of 1 or more; got {value}")
        for name in ("lr", "warmup", "weight_decay", "samples", "temperature"):
            if not getattr(self, name) >= 0:
                raise InputError(f"expected {name} of 0 or more; got {getattr(self, name)}")
        if not 0 <= self.final_lr_fraction <= 1:
            raise InputError(f"expected final_lr_fraction from 0 to 1; got {self.final_lr_fraction}")
        if self.grad_clip is not None and not self.grad_clip >= 0:
            raise InputError(f"expected grad_clip of 0 or more, or None; got {self.grad_clip}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"expected betas from 0 up to, without, 1; got {self.betas}")
        if not 0 <= self.val_fraction < 1:
            raise InputError(f"expected val_fraction from 0 up to, without, 1; got {self.val_fraction}")
        if self.eval_tokens < self.model.block_size:
            raise InputError(
                f"expected eval_tokens of {self.model.block_size} or more, one block; got {self.eval_tokens}"
            )
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", schedule.NAMES), ("layout", data.LAYOUTS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"expected {name} among {', '.join(allowed)}; got {getattr(self, name)!r}")
        if self.layout == "stream" and self.data is None:
            raise InputError(
                "expected --data FILE, a long text in UTF-8, for layout stream; got none. "
                "The names that come with the package are for layout lines"
            )
        check_device(self.device)


def check_device(name: str) -> None:
    """Raises: InputError, in one line, for a device that there is not, or that computes nothing."""
    try:
        runs = devices.get(name).runs()
    except (ValueError, devices.DeviceError) as error:
        raise InputError(str(error)) from None
    if not runs:
        raise InputError(f"expected a device that computes, such as cpu or cuda; got {name!r}. See ownt memory")


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
        val_fraction=0.0,
        python_stream=True,
        model=shape,
    )


def _characters(name: str, shape: tuple[int, int, int, int, int], **training: Any) -> TrainConfig:
    """A GPT for the characters of a long text; its shape is width, heads, layers, hidden width and block size."""
    width, heads, layers, hidden, block_size = shape
    model = GPTConfig(
        block_size=block_size,
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        n_hidden=hidden,
        activation="relu",
        tied=False,
    )
    return TrainConfig(
        preset=name,
        out=Path(f"runs/{name}"),
        warmup=100,
        final_lr_fraction=0.1,
        optimizer="adam",
        betas=(0.9, 0.99),
        weight_decay=0.0,
        layout="stream",
        samples=5,
        model=model,
        **training,
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
    "tiny": _characters("tiny", (64, 2, 1, 128, 32), steps=2000, batch_size=32, lr=3e-3),
    "small": _characters("small", (128, 4, 2, 512, 64), steps=2000, batch_size=32, lr=3e-3),
    "medium": _characters("medium", (256, 8, 4, 1024, 64), steps=5000, batch_size=32, lr=1e-3),
    "large": _characters("large", (512, 16, 6, 2048, 64), steps=5000, batch_size=32, lr=5e-4),
    "gpt2": TrainConfig(  # 124 M parameters, half a million tokens a step, ten billion in all
        preset="gpt2",
        out=Path("runs/gpt2"),
        steps=20_000,
        batch_size=8,
        accumulate=60,
        lr=6e-4,
        final_lr_fraction=0.1,
        warmup=700,
        weight_decay=0.1,
        layout="stream",
    ),
}


def get(name: str) -> TrainConfig:
    """The preset called `name`. Raises: InputError naming those there are."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
