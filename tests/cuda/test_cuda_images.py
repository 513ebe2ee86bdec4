"""Networks of images on the simulated device, where every kernel of theirs is one of ours, beside the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from compile_for_cpu import missing
from simulated import simulated

import ag
import nn
import ownt
from nn.resnet import BasicBlock, Bottleneck, _stage
from ownt import Tensor
from ownt.arena import Arena
from ownt.kernel import Kernel

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


class Small(nn.Module):
    """A ResNet in small: a stem, basic blocks, bottlenecks, and a class for each image."""

    def __init__(self):
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=True)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(BasicBlock, 8, 8, 2, 1)
        self.layer2 = _stage(Bottleneck, 8, 4, 2, 2)
        self.avgpool = nn.AvgPool2d(2)
        self.fc = nn.Linear(16 * 2 * 2, 5)

    def forward(self, x):
        h = self.maxpool(self.bn1(self.conv1(x), relu=True))
        return self.fc(self.avgpool(self.layer2(self.layer1(h))).reshape(x.shape[0], -1))


def train(device, state, dtype="float32", count=3):
    """The losses of a few steps, the state after them, and what evaluation then says."""
    with ownt.device.use(device):
        ownt.manual_seed(0)
        model = Small().to(dtype=dtype)
        model.load_state_dict(state)
        rule = nn.SGD(model.parameters(), lr=0.05, momentum=0.9)
        draw, losses = np.random.default_rng(2), []
        for _ in range(count):
            x = Tensor(draw.standard_normal((6, 3, 32, 32)).astype("float32")).astype(dtype).to(device)
            labels = Tensor(draw.integers(0, 5, 6)).to(device)
            loss = ag.cross_entropy(model(x), labels)
            rule.zero_grad()
            loss.backward()
            rule.step()
            losses.append(float(loss.numpy()))
        model.eval()
        return losses, {name: t.numpy().copy() for name, t in model.state_dict().items()}, model(x).numpy().copy()


@pytest.fixture
def references(monkeypatch):
    """The kernels whose references ran."""
    ran, run = set(), Kernel._run_reference
    monkeypatch.setattr(Kernel, "_run_reference", lambda self, *rest: (ran.add(self.name), run(self, *rest))[1])
    return ran


def test_a_residual_network_trains_as_on_the_cpu(references):
    ownt.manual_seed(1)
    state = {name: tensor.numpy() for name, tensor in Small().state_dict().items()}
    expected = train("cpu", state)
    references.clear()
    found = train(simulated.name, state)
    assert not {name for name in references if name.startswith(("conv", "batch", "track", "running", "max", "avg"))}
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    assert found[1].keys() == expected[1].keys()
    for name, values in expected[1].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-3, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)
    assert found[1]["bn1.num_batches_tracked"] == 3


def test_it_trains_in_bfloat16():
    """As the CPU does in float32, as far as the numbers have digits."""
    ownt.manual_seed(1)
    state = {name: tensor.numpy() for name, tensor in Small().state_dict().items()}
    expected, found = train("cpu", state), train(simulated.name, state, "bfloat16")
    np.testing.assert_allclose(found[0], expected[0], rtol=0.05)
    assert found[1]["bn1.running_mean"].dtype == ownt.bfloat16


class Scarce:
    """In place of Arena.empty: so many allocations, and then none."""

    def __init__(self, monkeypatch):
        self.left = -1  # any number
        empty = Arena.empty

        def counted(arena, *rest, **options):
            if self.left == 0:
                raise ownt.OutOfMemoryError("none left")
            self.left -= 1
            return empty(arena, *rest, **options)

        monkeypatch.setattr(Arena, "empty", counted)

    def does(self, count, function):
        """Whether a function comes to its end with so many allocations."""
        self.left = count
        try:
            function()
        except ownt.OutOfMemoryError:
            return False
        finally:
            self.left = -1
        return True


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", simulated.name])
def test_nothing_is_tracked_of_a_batch_for_which_memory_ran_out(device, dtype, monkeypatch):
    """Whichever of a norm's allocations fails."""
    scarce, needed = Scarce(monkeypatch), 0
    with ownt.device.use(device):
        norm = nn.BatchNorm2d(8, dtype=dtype)
        x = ownt.randn(64, 8, 4, 4, dtype=dtype)
        while True:
            before = {name: tensor.numpy().copy() for name, tensor in norm.state_dict().items()}
            if scarce.does(needed, lambda: norm(x)):
                break
            for name, tensor in norm.state_dict().items():
                np.testing.assert_array_equal(tensor.numpy(), before[name], err_msg=f"{name}, {needed} allocations")
            needed += 1
        assert needed >= 3  # statistics, a variance, a result
        assert norm.num_batches_tracked.item() == 1
        assert (norm.running_mean.numpy() != before["running_mean"]).all()
