"""A small residual network: its gradients, with parts frozen or computed again, and its training, repeated or not."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from plain_step import FIRST, Plain, Run, assert_equal

import ag
import nn
import ownt
from ownt.memory import ledger
from ownt.threads import cores


class Small(nn.Module):
    """Blocks with and without a shortcut of their own, as ResNet's."""

    def __init__(self):
        block = nn.resnet.BasicBlock
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(
            block(8, 8, 1, None),
            block(8, 12, 2, nn.Sequential(nn.Conv2d(8, 12, 1, 2, bias=False), nn.BatchNorm2d(12))),
            nn.resnet.Bottleneck(12, 3, 1, None),
        )
        self.mean, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        h = self.pool(self.norm(self.stem(x), relu=True))
        return self.head(self.flatten(self.mean(self.blocks(h))))

    def loss(self, x, labels):
        return ag.cross_entropy(self(x), labels, label_smoothing=0.1)


def batch(number, size=6, dtype="float32"):
    drawn = np.random.default_rng(number)
    return drawn.normal(size=(size, 3, 12, 10)).astype(dtype), drawn.integers(0, 4, size)


def gradients(model, number=0):
    model.zero_grad()
    model.loss(*batch(number)).backward()
    return {name: node.grad.numpy().copy() for name, node in model.named_parameters() if node.grad is not None}


def test_the_gradient_of_each_parameter_takes_as_many_bytes_as_it():
    model = Small()
    parameters = model.parameters()
    before = ledger.by_kind()["gradient"]
    for _ in range(2):  # the second accumulates
        model.loss(*batch(0)).backward()
        assert ledger.by_kind()["gradient"] - before == sum(node.nbytes for node in parameters)


def test_a_second_backward_adds():
    model = Small().eval()
    once = gradients(model)
    model.loss(*batch(0)).backward()
    for name, node in model.named_parameters():
        np.testing.assert_allclose(node.grad.numpy(), 2 * once[name], rtol=1e-5, atol=1e-7)


def test_scratch_is_empty_after_a_step():
    model = Small()
    with ownt.scratch.mark():
        gradients(model)


def test_frozen_parts_get_no_gradient_and_change_none_of_the_others():
    model = Small()
    before = gradients(model)
    model.blocks[1].requires_grad_(False)
    model.norm.bias.requires_grad = False
    after = gradients(model)
    frozen = {name for name in before if name.startswith("blocks.1.") or name == "norm.bias"}
    assert after.keys() == before.keys() - frozen
    for name, grad in after.items():
        np.testing.assert_array_equal(grad, before[name], err_msg=name)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    assert gradients(model).keys() == {"head.weight", "head.bias"}


def test_without_gradients_the_same_numbers_and_nothing_kept():
    model, (x, _) = Small().eval(), batch(0)
    expected = model(x).numpy().copy()
    with ag.no_grad(), ownt.scratch.mark():  # at whose end nothing may be held
        y = model(x)
        np.testing.assert_array_equal(y.numpy(), expected)
        assert not y.requires_grad
        del y


def test_gradients_of_images():
    """Of a leaf whose channels lie first, and of one whose lie last."""
    model, (x, labels) = Small().eval(), batch(0)
    leaves = [ag.param(x), ag.param(ownt.Tensor(x.transpose(0, 2, 3, 1).copy()).transpose(0, 3, 1, 2).clone())]
    for leaf in leaves:
        model.loss(leaf, labels).backward()
    np.testing.assert_allclose(*(leaf.grad.numpy() for leaf in leaves), rtol=1e-4, atol=1e-7)
    assert leaves[0].grad.is_contiguous


# training


def steps(kind, model, number=5, momentum=0.9, **options):
    ownt.manual_seed(0)
    made = model()
    optimizer = nn.SGD(made.parameters(), lr=0.1, momentum=momentum)
    run = Run(kind(made.loss, optimizer, **options), made)
    for i in range(number):
        run(*batch(i))
    return run


def checkpointed():
    """Its blocks keep their inputs alone."""
    model = Small()
    blocks = list(model.blocks)
    model.blocks.forward = lambda x: [x := ag.checkpoint(block, x) for block in blocks][-1]
    return model


@pytest.mark.parametrize("max_norm", [None, 0.5])
@pytest.mark.parametrize("model", [Small, lambda: Small().eval(), checkpointed], ids=["train", "eval", "checkpoints"])
def test_replayed_steps_equal_the_plain_loop_bit_for_bit(model, max_norm):
    """The running statistics, which are in the state, too."""
    plain, run = (steps(kind, model, max_norm=max_norm) for kind in (Plain, nn.Step))
    assert_equal(plain, run)
    assert run.whys[0] == FIRST
    assert run.replayed[2:] == [True] * 3  # the second is recorded again where the first's memory had gaps
    if run.model.training and model is Small:
        assert run.model.norm.num_batches_tracked.item() == 5
        assert run.model.norm.running_mean.numpy().any()


def test_a_mean_over_all_batches_is_no_number_to_repeat():
    """momentum None is a share that changes from batch to batch, in Python: such a step is not replayed."""

    def model():
        made = Small()
        made.norm.momentum = None
        return made

    plain = steps(Plain, model)
    with pytest.warns(RuntimeWarning, match=r"a tensor was read, .*norm\.py"):
        run = steps(nn.Step, model)
    assert_equal(plain, run)
    assert not any(run.replayed)


def test_checkpoints_leave_the_bits_of_gradients_alone():
    found = []
    for model in (Small, checkpointed):
        ownt.manual_seed(0)
        found.append(gradients(model()))
    assert {name: g.tobytes() for name, g in found[0].items()} == {name: g.tobytes() for name, g in found[1].items()}


def test_checkpoints_count_a_batch_once():
    found = []
    for model in (Small, checkpointed):
        ownt.manual_seed(0)
        made = model()
        gradients(made)
        found.append(made.blocks[0].bn1)
    assert found[0].num_batches_tracked.item() == found[1].num_batches_tracked.item()
    np.testing.assert_array_equal(found[0].running_mean.numpy(), found[1].running_mean.numpy())


@pytest.fixture
def _all_cores():
    yield
    ownt.set_num_threads(cores())


@pytest.mark.usefixtures("_all_cores")
@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_one_thread_and_two_train_alike_bit_for_bit():
    found = []
    for count in (1, 2):
        ownt.set_num_threads(count)
        found.append(steps(Plain, Small, 3))
        assert numba.get_num_threads() == count  # else this compares a run with itself
    assert_equal(*found)
