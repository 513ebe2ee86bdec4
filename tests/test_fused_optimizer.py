"""nn.Step(fuse_optimizer=True): the same weights with few gradients at a time."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import nn
import ownt

STREAM = np.random.default_rng(0)
TOKENS = STREAM.integers(0, 65, (4, 32))
IMAGES, LABELS = STREAM.standard_normal((2, 3, 40, 40), "float32"), np.array([1, 2])


def gpt(**options):
    config = nn.GPTConfig(vocab_size=65, block_size=32, n_layer=3, n_head=2, n_embd=64, **options)
    return nn.GPT(config), (TOKENS, TOKENS)


def resnet():
    return nn.ResNet(nn.resnet.Bottleneck, (1, 2, 1, 1), 10), (IMAGES, LABELS)


class Shared(nn.Module):
    """A weight used three times: twice as it is, once through views of it; and one that is never used."""

    def __init__(self):
        self.w = ag.param(ownt.randn(6, 6))
        self.v = ag.param(ownt.randn(6))
        self.idle = ag.param(ownt.randn(3))

    def loss(self, x):
        h = ag.linear(x, self.w, self.v)
        h = ag.linear(ag.tanh(h), self.w) + self.w[1:3].sum()
        return (h @ self.w.transpose()).sum() + self.v.reshape(2, 3).sum()


MODELS = {
    "gpt": gpt,
    "gpt with dropout": lambda: gpt(dropout=0.1),
    "gpt checkpointed": lambda: gpt(checkpoint=True),
    "gpt with a head of its own": lambda: gpt(tied=False),
    "resnet": resnet,
    "shared weights": lambda: (Shared(), (STREAM.standard_normal((5, 6), "float32"),)),
}
OPTIMIZERS = {
    "sgd": lambda p: nn.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: nn.Adam(p, lr=0.01),
    "adamw": lambda p: nn.AdamW(p, lr=0.01, weight_decay=0.1),
}


def trained(name, optimizer, fused, steps=4):
    """Losses, weights, and the optimizer after some steps at changing rates."""
    ownt.manual_seed(1)
    STREAM.bit_generator.state = np.random.default_rng(5).bit_generator.state
    model, inputs = MODELS[name]()
    made = OPTIMIZERS[optimizer](model.parameters())
    step = nn.Step(model.loss, made, fuse_optimizer=fused)
    losses = []
    for number in range(steps):
        made.lr = 0.01 / (number + 1)
        losses.append(step(*inputs).item())
    assert step.why_not == ""
    assert all(p.grad is None for p in model.parameters())
    return losses, [p.numpy().copy() for p in model.parameters()], made


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_weights_are_those_of_the_ordinary_step(name, optimizer):
    losses, weights, ordinary = trained(name, optimizer, fused=False)
    same_losses, same_weights, fused = trained(name, optimizer, fused=True)
    assert losses == same_losses
    assert all((a == b).all() for a, b in zip(weights, same_weights, strict=True))
    for mine, theirs in zip(ordinary.state.values(), fused.state.values(), strict=True):
        assert mine.keys() == theirs.keys()


def test_the_comparison_would_see_a_difference():
    _, weights, _ = trained("gpt", "adam", fused=False)
    _, others, _ = trained("gpt", "adamw", fused=True)
    assert not all((a == b).all() for a, b in zip(weights, others, strict=True))


@pytest.mark.memory
@pytest.mark.parametrize("fused", [False, True])
def test_gradients_at_the_peak_are_the_largest_few(fused):
    """The ordinary step is the control: it holds most of them at once."""
    model, inputs = resnet()
    step = nn.Step(model.loss, nn.SGD(model.parameters(), lr=0.1), fuse_optimizer=fused)
    timeline = nn.estimate(step, *inputs).timeline
    sizes = sorted((p.nbytes for p in model.parameters()), reverse=True)
    held = [0] * (len(timeline.times) + 1)
    for block in timeline.held:
        if block.kind == "gradient":
            for event in range(block.start + 1, (len(timeline.times) if block.end < 0 else block.end) + 1):
                held[event] += block.bytes
    few = max(held) <= sum(sizes[:3])
    assert few == fused
    assert max(held) >= sizes[0]


def test_what_it_cannot_be_combined_with():
    model, inputs = gpt()
    optimizer = nn.AdamW(model.parameters())
    with pytest.raises(ValueError, match="no max_norm with fuse_optimizer"):
        nn.Step(model.loss, optimizer, max_norm=1.0, fuse_optimizer=True)
    step = nn.Step(model.loss, optimizer, fuse_optimizer=True)
    with pytest.raises(ValueError, match="one batch with fuse_optimizer.*got 2"):
        step.accumulate([inputs, inputs])
    remove = model.parameters()[0].register_hook(lambda g: None)
    with pytest.raises(ValueError, match=r"without hooks.*got a hook on 'wte\.weight'"):
        step(*inputs)
    remove()
    model.loss(*inputs).backward()
    with pytest.raises(ValueError, match="got a gradient from before on"):
        step(*inputs)


def test_an_optimizer_with_a_step_of_its_own():
    class Own(nn.SGD):
        def step(self, **options):
            super().step(**options)

    model, _ = gpt()
    with pytest.raises(TypeError, match="without a step of its own.*got Own"):
        nn.Step(model.loss, Own(model.parameters(), lr=0.1), fuse_optimizer=True)


def test_a_frozen_parameter_stays():
    model, inputs = resnet()
    model.conv1.weight.requires_grad = False
    before = model.conv1.weight.numpy().copy()
    step = nn.Step(model.loss, nn.AdamW([p for p in model.parameters() if p.requires_grad]), fuse_optimizer=True)
    step(*inputs)
    step(*inputs)
    assert (model.conv1.weight.numpy() == before).all()
