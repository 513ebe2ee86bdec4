"""The loop that nn.Step stands for, and a scenario run by both from the same beginning."""

from __future__ import annotations

import numpy as np

import ag
import nn
import ownt

VOCABULARY = 11
FIRST = "the first step of these shapes"


class Plain:
    """nn.Step's interface, and nothing recorded."""

    why_not = "never recorded"

    def __init__(self, loss_function, optimizer, max_norm=None):
        self.loss_function, self.optimizer, self.max_norm = loss_function, optimizer, max_norm
        self.grad_norm = None

    def __call__(self, *inputs):
        return self.accumulate([inputs])

    def accumulate(self, batches):
        total = None
        for inputs in batches:
            loss = self.loss_function(*inputs)
            loss.backward()
            value = loss.tensor.clone()
            total = value if total is None else total.__iadd__(value)
            del loss
        self.grad_norm = None
        if self.max_norm is not None:
            self.grad_norm = ownt.asarray(nn.clip_grad_norm_(self.optimizer.parameters, self.max_norm), "float64")
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total


class Run:
    """A step, and what came of each of its calls."""

    def __init__(self, step, model):
        self.step, self.model, self.optimizer = step, model, step.optimizer
        self.losses, self.norms, self.whys = [], [], []

    def __call__(self, *inputs):
        return self._note(self.step(*inputs))

    def accumulate(self, batches):
        return self._note(self.step.accumulate(batches))

    def _note(self, loss):
        self.losses.append(loss)
        self.norms.append(None if self.step.grad_norm is None else self.step.grad_norm.item())
        self.whys.append(self.step.why_not)
        return loss

    @property
    def replayed(self):
        return [not why for why in self.whys]

    @property
    def is_recorded(self):
        return type(self.step) is nn.Step


def mlp(dtype="float32"):
    return nn.MLP([6, 9, 4], "gelu", dtype=dtype)


def gpt(**options):
    return nn.GPT(nn.GPTConfig(VOCABULARY, block_size=8, n_layer=2, n_head=2, n_embd=8, init_std=0.3, **options))


def loss_of(model):
    return model.loss if isinstance(model, nn.GPT) else lambda x, y: ag.cross_entropy(model(x), y)


def adam(model):
    return nn.Adam(model.parameters(), lr=0.01)


def batch(model, number, size=5):
    """Batch `number` for an MLP, of `size` rows, or for a GPT, of so many tokens; some targets do not count."""
    drawn = np.random.default_rng(number)
    if isinstance(model, nn.GPT):
        x, y = drawn.integers(0, VOCABULARY, (2, 3, size))
    else:
        x, y = drawn.normal(size=(size, 6)).astype(model.parameters()[0].dtype), drawn.integers(0, 4, size)
    y.flat[: number % 3] = -100
    return x, y


def steps(run, numbers, size=5):
    """Run batches of these numbers, each with a learning rate of its own."""
    for number in numbers:
        run.optimizer.lr = 0.02 / (1 + number)
        run(*batch(run.model, number, size))


def alike(drive, model=mlp, optimizer=adam, loss=loss_of, max_norm=None):
    """The Run of nn.Step that `drive` was called with, after asserting that it equals the plain loop's bit for bit."""
    runs = []
    for kind in (Plain, nn.Step):
        ownt.manual_seed(0)
        made = model()
        runs.append(Run(kind(loss(made), optimizer(made), max_norm=max_norm), made))
        drive(runs[-1])
    assert_equal(*runs)
    return runs[1]


def assert_equal(plain, run):
    assert len(run.losses) > 0
    np.testing.assert_array_equal([loss.numpy() for loss in run.losses], [loss.numpy() for loss in plain.losses])
    assert run.norms == plain.norms
    expected = plain.model.state_dict()
    for name, tensor in run.model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), expected[name].numpy(), err_msg=name)
