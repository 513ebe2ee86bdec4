"""Training a GPT on a text: what `ownt train` does."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import ownt
from nn import data, generate, init, optim, presets, schedule
from nn.data import Documents, Stream
from nn.errors import InputError
from nn.gpt import GPT
from nn.optim import Optimizer
from nn.tokenizer import CharTokenizer


@dataclass(frozen=True)
class Progress:
    """Where training is, every now and then."""

    step: int  # finished steps
    loss: float  # nats a token, of the last step
    tokens_per_s: float  # since the last report


class Trainer:
    """A model, its data and its optimizer, made from settings.

    Raises: InputError for data or settings that cannot be used.
    """

    def __init__(self, config: presets.TrainConfig) -> None:
        config.validate()
        self.config = config
        self.stopped = False  # set it, as Ctrl-C does, and `run` ends after the step it is in
        self.stream = random.Random(config.seed)  # shuffles, and draws weights and samples where the preset says so
        ownt.manual_seed(config.seed)
        self.data: Documents | Stream = data.load(
            data.read_text(config.data), config.layout, config.model.block_size, self.stream
        )
        shape = dataclasses.replace(config.model, vocab_size=self.data.tokenizer.vocab_size)
        draw = init.python_normal(self.stream) if config.python_stream else init.normal
        self.model = GPT(shape, draw).to(config.device)
        self.model.tokenizer = self.data.tokenizer
        self.optimizer = _optimizer(config, self.model)
        self.schedule = schedule.by_name(config.schedule, config.lr, config.steps, config.warmup)

    def run(self, report: Callable[[Progress], None]) -> None:
        """Train for all the steps, calling `report` after the first, every `log_every` and the last."""
        steps = self.config.steps
        every = self.config.log_every or max(1, steps // 20)
        tokens, since = 0, time.perf_counter()
        self.model.train()
        for step in range(steps):
            wanted = step == 0 or step + 1 == steps or (step + 1) % every == 0
            loss, count = self.step(step, wanted)
            tokens += count
            if loss is not None:
                now = time.perf_counter()
                report(Progress(step + 1, loss, tokens / (now - since)))
                tokens, since = 0, now
            if self.stopped:
                return

    def step(self, step: int, want_loss: bool = True) -> tuple[float | None, int]:
        """One step of the optimizer on batch number `step`; the loss if wanted, and the tokens in the batch."""
        x, y = self.data.batch(step, self.config.batch_size)
        with ownt.scratch.mark(self.config.device):  # whatever a step computes is gone when it ends
            loss = self.model.loss(x, y)
            loss.backward()
            value = loss.item() if want_loss else None
            del loss
        if self.config.grad_clip is not None:
            optim.clip_grad_norm_(self.optimizer.parameters, self.config.grad_clip)
        self.optimizer.lr = self.schedule(step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value, x.size

    def samples(self, count: int) -> Iterator[str]:
        """Texts made by the model."""
        choose = python_choice(self.stream) if self.config.python_stream else generate.choose_random
        return (sample(self.model, "", self.config.temperature, None, choose) for _ in range(count))


def sample(
    model: GPT,
    prompt: str = "",
    temperature: float = 1.0,
    top_k: int | None = None,
    choose: generate.Choose = generate.choose_random,
) -> str:
    """A text that begins with `prompt`, up to the end of its document or, at most, block_size tokens.

    Raises: InputError for a model without tokenizer, an unknown character, or a prompt of a whole block or more.
    """
    tokenizer: CharTokenizer | None = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise InputError("expected a model with a tokenizer; it was saved without one")
    tokens = [tokenizer.bos, *tokenizer.encode(prompt)]
    room = model.config.block_size - len(tokens) + 1
    if room < 1:
        raise InputError(
            f"expected a prompt shorter than a block of {model.config.block_size}; got {len(prompt)} characters"
        )
    new: list[int] = []
    for (token,) in islice(generate.stream(model, [tokens], temperature, top_k, choose), room):
        if token == tokenizer.bos:
            break
        new.append(token)
    return prompt + tokenizer.decode(new)


def python_choice(stream: random.Random) -> generate.Choose:
    """Draw tokens from a stream of Python's."""
    return lambda weights: stream.choices(range(len(weights)), weights=weights)[0]


def _optimizer(config: presets.TrainConfig, model: GPT) -> Optimizer:
    if config.optimizer == "sgd":
        return optim.SGD(model.parameters(), config.lr, momentum=config.betas[0], weight_decay=config.weight_decay)
    return presets.OPTIMIZERS[config.optimizer](
        model.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay
    )
