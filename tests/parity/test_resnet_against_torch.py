"""ResNet against torchvision's: names, shapes, first values, logits, gradients and statistics that run."""

from __future__ import annotations

import numpy as np
import pytest
from torch_functions import as_torch
from torch_models import near

import ag
import nn
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}


@pytest.fixture(scope="module")
def torchvision():
    """Its models. Two of its ops are in a library that may not fit torch's: here their names are enough."""
    reason = "needs torchvision: pip install --no-deps torchvision pillow"
    library = None  # of names, which hold as long as it lives
    try:
        models = pytest.importorskip("torchvision", reason=reason).models
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        models = pytest.importorskip("torchvision", reason=reason).models
    yield models
    del library


def pair(models, name, dtype="float64", **options):
    """Ours and torchvision's with the same weights and statistics, none of them at a special value.

    In float32 few inputs of a ReLU are near 0, where rounding decides whether it passes a gradient: a single such
    element is one in a hundred of a gradient's norm, on either side.
    """
    ours, theirs = (
        getattr(nn, name)(**options).to(dtype=dtype),
        getattr(models, name)(**options).to(getattr(torch, dtype)),
    )
    state = {}
    for key, tensor in ours.state_dict().items():
        state[key] = value = tensor.numpy().copy()
        if value.dtype.kind == "f":
            noise = 0.1 * ownt.randn(value.shape, dtype=dtype).numpy()
            value += abs(noise) if key.endswith("running_var") else noise * (value.std() if value.ndim == 4 else 1)
        if dtype == "float32" and ".bn" in f".{key}" and key.endswith("bias"):
            value += 3
    assert ours.load_state_dict(state) == ([], [])
    theirs.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
    return ours, theirs


def batch(*shape, dtype="float64"):
    return ownt.randn(*shape, dtype=dtype), ownt.randint(0, 10, shape[0])


def compare(ours, theirs, x, labels, rtol, smoothing=0.0):
    """Logits, the loss and the gradient of each parameter and of the images."""
    mine, other = ag.param(x), as_torch(x, requires_grad=True)
    logits, expected = ours(mine), theirs(other)
    near(logits.detach(), expected, rtol, "logits")
    loss = ag.cross_entropy(logits, labels, label_smoothing=smoothing)
    wanted = torch.nn.functional.cross_entropy(expected, as_torch(labels), label_smoothing=smoothing)
    near(loss.detach(), wanted, rtol, "loss")
    loss.backward()
    wanted.backward()
    near(mine.grad, other.grad, rtol, "images")
    weights = dict(theirs.named_parameters())
    for path, node in ours.named_parameters():
        near(node.grad, weights[path].grad, rtol, path)


def compare_statistics(ours, theirs, rtol):
    expected = dict(theirs.named_buffers())
    found = dict(ours.named_buffers())
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        near(tensor, expected[name], rtol, name)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes(torchvision, name):
    ours = getattr(nn, name)()
    with torch.device("meta"):  # shapes, and no numbers
        theirs = getattr(torchvision, name)()
    parameters = [(path, node.shape) for path, node in ours.named_parameters()]
    assert parameters == [(path, tuple(weight.shape)) for path, weight in theirs.named_parameters()]
    state = {path: (tensor.shape, str(tensor.dtype)) for path, tensor in ours.state_dict().items()}
    expected = {path: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for path, t in theirs.state_dict().items()}
    assert state == expected
    if name == "resnet50":
        counts = sum(node.size for node in ours.parameters()), len(parameters), len(state)
        assert counts == (25_557_032, 161, 320)
        assert sum(buffer.numel() for buffer in theirs.buffers()) == 53_173


def test_first_values(torchvision):
    """As widely spread, and the same where nothing is drawn."""
    ours, theirs = nn.resnet18(zero_init_residual=True), torchvision.resnet18(zero_init_residual=True)
    mine = dict(ours.named_parameters())
    for path, weight in theirs.named_parameters():
        a, b = mine[path].numpy(), weight.detach().numpy()
        if a.ndim == 1 and "fc" not in path:
            np.testing.assert_array_equal(a, b, path)
        else:
            assert abs(a.std() / b.std() - 1) < 8 / a.size**0.5, path
            assert abs(abs(a).max() / abs(b).max() - 1) < 0.35, path


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_resnet18(torchvision, dtype, smoothing, training):
    ours, theirs = pair(torchvision, "resnet18", dtype, num_classes=10)
    ours.train(training), theirs.train(training)
    compare(ours, theirs, *batch(2, 3, 64, 64, dtype=dtype), TOLERANCE[dtype], smoothing)
    compare_statistics(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize(("dtype", "training"), [("float64", True), ("float64", False), ("float32", False)])
def test_resnet50(torchvision, dtype, training):
    """In float32 with statistics that are given: those of the last stage's 8 numbers a channel would be rounding."""
    ours, theirs = pair(torchvision, "resnet50", dtype, num_classes=10)
    ours.train(training), theirs.train(training)
    compare(ours, theirs, *batch(2, 3, 64, 64, dtype=dtype), TOLERANCE[dtype], 0.1)
    compare_statistics(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_every_size(torchvision, name):
    ours, theirs = pair(torchvision, name)
    x, _ = batch(1, 3, 33, 20)
    with ag.no_grad(), torch.no_grad():
        near(ours.eval()(x), theirs.eval()(as_torch(x)), 1e-9, "logits")


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_statistics_and_weights_after_three_steps(torchvision, kind):
    ours, theirs = pair(torchvision, "resnet18", num_classes=10)
    options = {"SGD": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}, "Adam": {"lr": 1e-3}}[kind]
    step = nn.Step(lambda x, labels: ours.loss(x, labels, 0.1), getattr(nn, kind)(ours.parameters(), **options))
    optimizer = getattr(torch.optim, kind)(theirs.parameters(), **options)
    for _ in range(3):
        x, labels = batch(3, 3, 64, 64)
        wanted = torch.nn.functional.cross_entropy(theirs(as_torch(x)), as_torch(labels), label_smoothing=0.1)
        near(step(x, labels), wanted, 1e-8, "loss")
        optimizer.zero_grad()
        wanted.backward()
        optimizer.step()
    assert step.why_not == ""  # the last was a replay
    compare_statistics(ours, theirs, 1e-8)
    assert ours.bn1.num_batches_tracked.item() == 3
    for (path, node), weight in zip(ours.named_parameters(), theirs.parameters()):
        near(node.detach(), weight, 1e-7, path)
