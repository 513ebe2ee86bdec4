"""`ownt memory`: what a training step would take, and who, before it is run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nn import presets, resnet, train
from nn.errors import InputError
from nn.estimate import estimate, largest_batch, without_data
from nn.gpt import GPT
from nn.step import Step
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.report import human_bytes

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
RESNETS = {name: getattr(resnet, name) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")}
_CHARACTERS = {"lines": 27, "stream": 65}
DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """Print what a training step holds at its peak, by kind and by module, without running it.

    Nothing is computed and nothing allocated: a model that fits no machine is no harder than a small one.
    """

    preset: str = "names"  # one of `ownt train`, or resnet18, resnet34, resnet50, resnet101 or resnet152
    batch_size: int | None = None  # documents, stretches of text or images in a batch; the preset's by default
    block_size: int | None = None  # tokens of context; the preset's by default
    vocab_size: int | None = None  # tokens there are; by default 50257 for gpt2, else characters: 27, of a stream 65
    image: int = 224  # height and width of images
    dtype: str = "float32"  # or float64, bfloat16, float16: of parameters, gradients and activations
    device: str = "cpu"  # or cuda, of which none is needed: workspaces of products and kernels differ
    optimizer: str | None = None  # sgd, adam, adamw, rmsprop or lion; the preset's by default
    checkpoint: bool = False  # compute blocks again in backward rather than keep what they computed
    budget: str | None = None  # such as 80GB: say the largest batch that stays within it, too
    html: Path | None = None  # write the step to a page that shows who holds what when


Inputs = Callable[[int], tuple[Any, ...]]  # of a batch of so many examples


def run(config: MemoryConfig) -> int:
    """Print the estimate, and what the budget allows."""
    budget = None if config.budget is None else bytes_of(config.budget)
    for name in ("batch_size", "block_size", "vocab_size", "image"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise InputError(f"expected {name} of 1 or more; got {value}")
    if config.dtype not in DTYPES:
        raise InputError(f"expected dtype among {', '.join(DTYPES)}; got {config.dtype!r}")
    try:
        place = without_data(config.device)
    except ValueError as error:
        raise InputError(str(error)) from None
    with devices.use(place):
        step, inputs, size, accumulate = (_image_step if config.preset in RESNETS else _text_step)(config, place)
    title = f"{config.preset}, batch {size}, {config.dtype}, {config.device}"
    followed = min(accumulate, 2)  # the third and those after it are as the second
    report = estimate(step, *inputs(size), accumulate=followed, title=title, device=config.device)
    print(f"{title}: a training step, estimated\n\n{report}")
    if followed < accumulate:
        more = human_bytes(sum(array.nbytes for array in inputs(size)))
        print(f"of {accumulate} batches whose gradients are added up, {followed}: each more takes {more} for its input")
    if budget is not None:
        most = largest_batch(step, inputs, budget, accumulate=followed, device=config.device)
        print(f"largest batch within {human_bytes(budget)}: {most}" if most else f"no batch fits {human_bytes(budget)}")
    if config.html is not None:
        report.to_html(config.html)
        print(f"wrote {config.html}")
    return 0


def _text_step(config: MemoryConfig, place: devices.Device) -> tuple[Step, Inputs, int, int]:
    """What `ownt train` does with a preset."""
    preset = presets.get(config.preset)
    tokens = 50257 if config.preset == "gpt2" else _CHARACTERS[preset.layout]
    given: dict[str, Any] = {
        "block_size": config.block_size,
        "vocab_size": config.vocab_size or tokens,
        "checkpoint": config.checkpoint or None,
        "dtype": config.dtype,
    }
    shape = dataclasses.replace(preset.model, **{name: value for name, value in given.items() if value is not None})
    shape.validate()
    preset = dataclasses.replace(preset, model=shape, optimizer=_optimizer(config, preset.optimizer))
    model = GPT(shape)
    step = Step(train.share_of_loss(model), train.make_optimizer(preset, model), max_norm=preset.grad_clip)

    def inputs(size: int) -> tuple[Any, ...]:
        tokens = place.empty((size, shape.block_size), "int64")
        return tokens, tokens, place.empty((), dtypes.wide(dtypes.get(config.dtype)))

    return step, inputs, config.batch_size or preset.batch_size, preset.accumulate


def _image_step(config: MemoryConfig, place: devices.Device) -> tuple[Step, Inputs, int, int]:
    """A ResNet's."""
    model = RESNETS[config.preset]().to(dtype=config.dtype)
    preset = presets.TrainConfig(optimizer=_optimizer(config, "adamw"))
    step = Step(model.loss, train.make_optimizer(preset, model))

    def inputs(size: int) -> tuple[Any, ...]:
        images = place.empty((size, 3, config.image, config.image), config.dtype)
        return images, place.empty((size,), "int64")

    return step, inputs, config.batch_size or 8, 1


def _optimizer(config: MemoryConfig, default: str) -> str:
    name = config.optimizer or default
    if name not in presets.OPTIMIZERS:
        raise InputError(f"expected optimizer among {', '.join(presets.OPTIMIZERS)}; got {name!r}")
    return name


def bytes_of(text: str) -> int:
    """'80GB' -> 80,000,000,000. Raises: InputError for what is no size."""
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in _UNITS or found[1].count(".") > 1:
        raise InputError(f"expected a number of bytes such as 80GB, 512MB or 24GiB; got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])
