"""The command line: `ownt train`, `ownt sample`, `ownt memory`, `ownt memory-check`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

import ownt
from nn import generate, memory_check, memory_report, presets, saving, train
from nn.errors import InputError
from nn.gpt import GPT
from nn.progress import Display, log_to


def run_train(config: presets.TrainConfig) -> int:
    """Train a GPT on a text, print samples and save the model."""
    trainer = train.Trainer(config)
    saving.check_writable(config.out)
    say(f"{config.preset}: {trainer.model.config}")
    if config.scales:
        say("float16: losses are scaled, and whether to update depends on the gradients: steps are not replayed")
    profiled = ownt.profile() if config.profile else contextlib.nullcontext()
    with log_to(config.log) as write, Display(config.steps, config.device) as display, stopping(trainer), profiled:
        trainer.run(display.show, write)
    if config.profile:
        print(profiled)
    trainer.model.save(config.out)
    status = 130 if trainer.stopped else 0
    if status:
        say("interrupted")
    else:
        for number, text in enumerate(trainer.samples(config.samples), 1):
            print(f"sample {number:2d}: {text}")
    say(str(ownt.memory.report(config.device)))
    print(f"saved the model in {config.out}", flush=True)
    return status


@contextlib.contextmanager
def stopping(trainer: train.Trainer) -> Iterator[None]:
    """Have Ctrl-C end training after the step it is in; a second one ends the program.

    An exception would not do: Python drops one that is raised while a tensor is being freed.
    """

    def stop(number: int, frame: object) -> None:
        trainer.stopped = True
        signal.signal(number, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Write texts with a saved model."""

    model: Path  # folder that `ownt train` saved the model in
    prompt: str = ""  # what the texts begin with
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10  # how many texts
    temperature: float = 0.5  # divides the logits; 0 always takes the likeliest character
    top_k: int | None = None  # draw from so many of the likeliest characters only
    seed: int = 42
    device: str = "cpu"  # cpu, cuda, or cuda:1 for the second GPU
    dtype: str | None = None  # float32, float64, bfloat16 or float16; that of the saved weights by default


def run_sample(config: SampleConfig) -> int:
    """Write texts with a saved model."""
    if config.n < 0:
        raise InputError(f"expected n of 0 or more; got {config.n}")
    generate.check(config.temperature, config.top_k)
    presets.check_device(config.device)
    if config.dtype not in (None, *memory_report.DTYPES):
        raise InputError(f"expected dtype among {', '.join(memory_report.DTYPES)}; got {config.dtype!r}")
    model = GPT.load(config.model).to(config.device, config.dtype)
    ownt.manual_seed(config.seed)
    decoder = generate.Decoder(model, batch=1)
    for _ in range(config.n):
        print(train.sample(model, config.prompt, config.temperature, config.top_k, decoder=decoder))
    return 0


def parse_train(arguments: list[str]) -> presets.TrainConfig:
    """Settings from the command line: those given, on top of the preset's.

    Raises: InputError for an unknown preset.
    """
    name = "names"
    for i, argument in enumerate(arguments):
        if argument == "--preset" and i + 1 < len(arguments):
            name = arguments[i + 1]
        elif argument.startswith("--preset="):
            name = argument.removeprefix("--preset=")
    flags, default = tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff), presets.get(name)
    given = spelled_out(arguments, default)
    return tyro.cli(flags(presets.TrainConfig), args=given, prog="ownt train", default=default)


def spelled_out(arguments: list[str], settings: Any) -> list[str]:
    """Arguments in which `--profile` alone is `--profile True`, as is every setting that is true or false."""
    known = switches(settings)
    found: list[str] = []
    for argument in reversed(arguments):
        alone = not found or found[-1].startswith("-")
        found += ["True", argument] if alone and argument.replace("_", "-") in known else [argument]
    return found[::-1]


def switches(settings: Any) -> set[str]:
    """The options of settings that are true or false, those of settings within too."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    inner = [switches(value) for value in values.values() if dataclasses.is_dataclass(value)]
    own = {"--" + name.replace("_", "-") for name, value in values.items() if isinstance(value, bool)}
    return own.union(*inner)


COMMANDS: dict[str, tuple[Callable[[list[str]], Any], Callable[[Any], int], str]] = {
    "train": (parse_train, run_train, "train a GPT on a text"),
    "sample": (
        lambda arguments: tyro.cli(SampleConfig, args=arguments, prog="ownt sample"),
        run_sample,
        "write texts with a saved model",
    ),
    "memory": (
        lambda arguments: tyro.cli(
            tyro.conf.configure(tyro.conf.FlagConversionOff)(memory_report.MemoryConfig),
            args=spelled_out(arguments, memory_report.MemoryConfig()),
            prog="ownt memory",
        ),
        memory_report.run,
        "say what a training step would hold",
    ),
    "memory-check": (
        lambda arguments: tyro.cli(memory_check.CheckConfig, args=arguments, prog="ownt memory-check"),
        memory_check.run,
        "train for many steps and watch memory",
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for input that cannot be used, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  ownt {name:<13} {text}; see ownt {name} --help" for name, (_, _, text) in COMMANDS.items()]
        asked = arguments[:1] in (["-h"], ["--help"])
        print("\n".join(["usage:", *lines]), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    parse, run, _ = COMMANDS[arguments[0]]
    try:
        return run(parse(arguments[1:]))
    except (InputError, ownt.OutOfMemoryError) as error:
        print(f"ownt {arguments[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has enough; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def say(text: str) -> None:
    """Print beside the results: on standard error."""
    print(text, file=sys.stderr, flush=True)
