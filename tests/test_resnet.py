"""ResNet: its sizes, names and first values; its gradients' bytes; one step of training."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import nn
import ownt
from ownt.memory import ledger

SIZES = {  # parameters as torchvision counts them, and tensors of them
    "resnet18": (11_689_512, 62),
    "resnet50": (25_557_032, 161),
}


@pytest.fixture(scope="module")
def small():
    return nn.resnet18(10)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    model = getattr(nn, name)()
    parameters = model.parameters()
    assert (sum(node.size for node in parameters), len(parameters)) == SIZES[name]
    if name == "resnet50":
        buffers = [tensor for _, tensor in model.named_buffers()]
        assert sum(tensor.size for tensor in buffers) == 53_173  # with a count of batches for each of 53 norms
        assert len(model.state_dict()) == len(parameters) + len(buffers) == 320


def test_names(small):
    names = list(small.state_dict())
    assert names[:2] == ["conv1.weight", "bn1.weight"]
    assert [name for name, _ in small.named_parameters()][-2:] == ["fc.weight", "fc.bias"]
    shortcut = [name for name in names if name.startswith("layer2.0.downsample.")]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert shortcut == [f"layer2.0.downsample.{part}" for part in ("0.weight", *(f"1.{part}" for part in norm))]
    assert "layer1.0.downsample.0.weight" not in names  # a shortcut without weights where shapes agree


def test_first_values(small):
    """Convolutions normal with deviation sqrt(2 / fan_out), norms as if they were not there."""
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            values, (outputs, _, high, wide) = module.weight.numpy(), module.weight.shape
            deviation = (2 / (outputs * high * wide)) ** 0.5
            assert abs(values.std() / deviation - 1) < 5 / (2 * values.size) ** 0.5  # five deviations of a deviation
            assert abs(values.mean()) < 5 * deviation / values.size**0.5
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight.numpy() == 1).all()
            assert not module.bias.numpy().any()


@pytest.mark.parametrize("block", [nn.resnet.BasicBlock, nn.resnet.Bottleneck])
def test_zero_init_residual_makes_each_block_its_shortcut(block):
    model = nn.ResNet(block, (1, 2, 1, 1), 5, zero_init_residual=True)
    second, x = model.layer2[1], ownt.randn(2, 128 * block.expansion, 5, 4)
    np.testing.assert_array_equal(second(ag.constant(x)).numpy(), np.maximum(x.numpy(), 0))
    last = [module.last_norm.weight for module in model.modules() if isinstance(module, block)]
    assert len(last) == 5
    assert not any(weight.numpy().any() for weight in last)
    others = {id(module.weight) for module in model.modules() if isinstance(module, nn.BatchNorm2d)} - set(
        map(id, last)
    )
    assert len(others) > 5
    assert all((node.numpy() == 1).all() for node in model.parameters() if id(node) in others)


def test_logits_and_the_bytes_of_gradients(small):
    x, labels = ownt.randn(2, 3, 64, 48), [3, 7]
    assert small(x).shape == (2, 10)
    parameters, before = small.parameters(), ledger.by_kind()["gradient"]
    small.zero_grad()
    with ownt.scratch.mark():
        small.loss(x, labels).backward()
    assert ledger.by_kind()["gradient"] - before == sum(node.nbytes for node in parameters)
    assert all(np.isfinite(node.grad.numpy()).all() and node.grad.numpy().any() for node in parameters)


def test_convolutions_computed_again_leave_the_bits_alone_and_less_is_held():
    x, labels, found = ownt.randn(2, 3, 32, 32), [3, 1], []
    for checkpoint in (False, True):
        ownt.manual_seed(1)
        model = nn.ResNet(nn.resnet.Bottleneck, (1, 2, 1, 1), 4, checkpoint=checkpoint)
        before = ledger.by_kind()["activation"]
        loss = model.loss(x, labels)
        held = ledger.by_kind()["activation"] - before
        loss.backward()
        found.append((held, [node.grad.numpy().tobytes() for node in model.parameters()]))
        del loss
    (kept, expected), (held, grads) = found
    assert grads == expected
    assert kept - held == 4 * 2 * (256 * 8**2 + 2 * 512 * 4**2 + 1024 * 2**2 + 2048)  # the last of each of five blocks


def test_label_smoothing_is_that_of_cross_entropy(small):
    x, labels = ownt.randn(2, 3, 32, 32), [3, 7]
    small.eval()
    logits = small(x).numpy()
    losses = [small.loss(x, labels, share).item() for share in (0.0, 0.1)]
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    right = -log[[0, 1], labels].mean()
    assert losses == pytest.approx([right, 0.9 * right - 0.1 * log.mean()], rel=1e-5)
    small.train()


def test_it_learns_a_batch():
    ownt.manual_seed(1)
    model = nn.ResNet(nn.resnet.BasicBlock, (1, 1, 1, 1), 4)
    x, labels = ownt.randn(4, 3, 32, 32), ownt.Tensor([0, 1, 2, 3])
    step = nn.Step(model.loss, nn.SGD(model.parameters(), lr=0.02, momentum=0.9))
    losses = [step(x, labels).item() for _ in range(8)]
    assert losses[-1] < 0.3 < 1 < losses[0]
    assert step.why_not == ""


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 1, 64, 64), r"conv2d in conv1: expected x .*got \(2, 1, 64, 64\), \(64, 3, 7, 7\)"),
        ((1, 3, 32, 32), r"batch_norm in layer4\.0\.bn1: expected two numbers a channel"),
        ((3, 64, 64), r"conv2d in conv1: expected x \(N, C, H, W\).*got \(3, 64, 64\)"),
    ],
)
def test_images_that_do_not_fit(small, shape, words):
    with pytest.raises(ValueError, match=words):
        small(ownt.ones(shape))
