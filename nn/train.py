"""Training a GPT on a text: what `ownt train` does."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import ag
import ownt
from nn import data, generate, init, optim, presets, schedule
from nn.errors import InputError
from nn.gpt import GPT
from nn.module import Module
from nn.optim import Optimizer
from nn.scaled_step import ScaledStep
from nn.step import Step
from nn.tokenizer import CharTokenizer


@dataclass(frozen=True)
class Progress:
    """Where training is, every now and then; None for what was not measured."""

    step: int  # finished steps
    loss: float | None  # nats a token, of the last step
    val_loss: float | None  # nats a token, of the part of the text to validate on
    lr: float | None  # of the last step
    grad_norm: float | None  # of the last step, from before clipping
    tokens_per_s: float | None  # in training alone, since the last report
    seconds: float  # since the beginning


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
        self.data = data.load(
            data.read_text(config.data), config.layout, config.model.block_size, self.stream, config.val_fraction
        )
        shape = dataclasses.replace(config.model, vocab_size=self.data.tokenizer.vocab_size)
        draw = init.python_normal(self.stream) if config.python_stream else init.normal
        with ownt.device.use(config.device):
            self.model = GPT(shape, draw)
        self.model.tokenizer = self.data.tokenizer
        self.optimizer = make_optimizer(config, self.model)
        lowest = config.lr * config.final_lr_fraction
        self.schedule = schedule.by_name(config.schedule, config.lr, config.steps, config.warmup, lowest)
        step = ScaledStep if config.scales else Step
        self._step = step(share_of_loss(self.model), self.optimizer, max_norm=config.grad_clip)

    @property
    def grad_norm(self) -> float | None:
        """That of the last step, from before clipping; None without clipping."""
        norm = self._step.grad_norm
        return None if norm is None else norm.item()

    def run(self, *reports: Callable[[Progress], None]) -> None:
        """Train for all the steps, calling each of `reports` after the first, every `log_every` and the last.

        Where there is text to validate on also, with its loss, before the first and every `eval_every`.
        """
        began, tokens, trained_s = time.perf_counter(), 0, 0.0
        loss = lr = speed = None
        self.model.train()
        for done in range(self.config.steps + 1):
            wanted, validated = self._due(done)
            if done:
                since = time.perf_counter()
                loss, count = self.step(done - 1, wanted)
                tokens, trained_s = tokens + count, trained_s + time.perf_counter() - since
                lr, speed = self.optimizer.lr, tokens / trained_s
            if wanted:
                val_loss = self.validate() if validated and not self.stopped else None
                seconds = time.perf_counter() - began
                progress = Progress(done, loss, val_loss, lr, self.grad_norm, speed, seconds)
                for report in reports:
                    report(progress)
                tokens, trained_s = 0, 0.0
            if self.stopped:
                return

    def _due(self, done: int) -> tuple[bool, bool]:
        """Whether the loss is wanted after so many steps, and whether that on the part to validate on is."""
        config, last = self.config, self.config.steps
        log_every, eval_every = config.log_every or max(1, last // 20), config.eval_every or max(1, last // 10)
        validated = config.val_fraction > 0 and (done % eval_every == 0 or done == last)
        return validated or done in (1, last) or (done > 0 and done % log_every == 0), validated

    def step(self, step: int, want_loss: bool = True) -> tuple[float | None, int]:
        """Step number `step` of the optimizer; the mean loss of its batches if wanted, and the tokens in them."""
        config = self.config
        first = step * config.accumulate
        batches = [self.data.batch(first + i, config.batch_size) for i in range(config.accumulate)]
        counts = [data.counted(y) for _, y in batches]
        total = sum(counts)
        shares = [
            ownt.full((), count / total, dtype=ownt.dtype.wide(ownt.dtype.get(config.model.dtype))) for count in counts
        ]
        self.optimizer.lr = self.schedule(step)
        loss = self._step.accumulate((x, y, share) for (x, y), share in zip(batches, shares, strict=True))
        return (loss.item() if want_loss else None), total

    def validate(self) -> float:
        """The loss on the part of the text to validate on, nats a token; NaN if training is stopped meanwhile.

        Raises: InputError if no part is held out.
        """
        if not self.config.val_fraction:
            raise InputError("validate: expected text to validate on; got val_fraction 0. Make it 0.1, for instance")
        total, tokens, training = 0.0, 0, self.model.training
        self.model.eval()
        try:
            with ag.no_grad():
                for x, y in self.data.validation(self.config.batch_size, self.config.eval_tokens):
                    if self.stopped:
                        return math.nan
                    count = data.counted(y)
                    with ownt.scratch.mark(self.config.device):
                        total += self.model.loss(x, y).item() * count
                    tokens += count
        finally:
            self.model.train(training)
        return total / tokens

    def samples(self, count: int) -> Iterator[str]:
        """Texts made by the model."""
        choose = python_choice(self.stream) if self.config.python_stream else generate.choose_random
        start = "\n" if self.config.layout == "stream" and "\n" in self.data.tokenizer.characters else ""
        decoder = generate.Decoder(self.model, batch=1)
        texts = (sample(self.model, start, self.config.temperature, None, choose, decoder) for _ in range(count))
        return (text.removeprefix(start) for text in texts)


def sample(
    model: GPT,
    prompt: str = "",
    temperature: float = 1.0,
    top_k: int | None = None,
    choose: generate.Choose = generate.choose_random,
    decoder: generate.Decoder | None = None,
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
    for (token,) in islice(generate.stream(model, [tokens], temperature, top_k, choose, decoder), room):
        if token == tokenizer.bos:
            break
        new.append(token)
    return prompt + tokenizer.decode(new)


def python_choice(stream: random.Random) -> generate.Choose:
    """Draw tokens from a stream of Python's."""
    return lambda weights: stream.choices(range(len(weights)), weights=weights)[0]


def share_of_loss(model: GPT) -> Callable[..., ag.Node]:
    """A batch's part in the mean loss of several; it knows no Trainer, which would then be in a cycle."""
    return lambda tokens, targets, share: model.loss(tokens, targets) * share


def make_optimizer(config: presets.TrainConfig, model: Module) -> Optimizer:
    """The one that settings ask for."""
    first, second = config.betas
    options = {"sgd": {"momentum": first}, "rmsprop": {"alpha": second}}.get(config.optimizer, {"betas": config.betas})
    groups = optim.decay_groups(model, config.weight_decay)
    return presets.OPTIMIZERS[config.optimizer](groups, config.lr, **options)
