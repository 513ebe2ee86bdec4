"""Layers, losses, containers, hooks and initialisers against PyTorch's of the same names."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import numpy as np
import pytest
from torch_functions import as_torch
from torch_models import assert_parameters_alike

import ag
import nn
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

WIDE = [(5, 6), (1, 6), (2, 3, 6), (0, 6), (6,)]
IMAGES = [(2, 6, 4), (1, 6, 2, 3), (3, 6)]
PIXELS = [(2, 6, 5, 7), (3, 6, 8, 4)]
LAYERS = {  # how to make one of either kind, and shapes of inputs
    "Linear": (lambda nn: nn.Linear(6, 5), WIDE),
    "Linear without bias": (lambda nn: nn.Linear(6, 2, bias=False), WIDE),
    "LayerNorm": (lambda nn: nn.LayerNorm(6), WIDE),
    "LayerNorm without bias": (lambda nn: nn.LayerNorm(6, 1e-3, bias=False), WIDE),
    "RMSNorm": (lambda nn: nn.RMSNorm(6, 1e-5), WIDE),
    "GroupNorm": (lambda nn: nn.GroupNorm(3, 6), IMAGES),
    "GroupNorm of one": (lambda nn: nn.GroupNorm(1, 6, 1e-3), IMAGES),
    "GroupNorm not affine": (lambda nn: nn.GroupNorm(2, 6, affine=False), IMAGES),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(6), [(5, 6), (2, 6, 4)]),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(6), PIXELS),
    "BatchNorm2d slow": (lambda nn: nn.BatchNorm2d(6, 1e-3, 0.01), PIXELS),
    "BatchNorm2d of all": (lambda nn: nn.BatchNorm2d(6, momentum=None), PIXELS),
    "BatchNorm2d not affine": (lambda nn: nn.BatchNorm2d(6, affine=False), PIXELS),
    "BatchNorm2d of the batch": (lambda nn: nn.BatchNorm2d(6, track_running_stats=False).eval(), PIXELS),
    "BatchNorm2d in evaluation": (lambda nn: nn.BatchNorm2d(6).eval(), PIXELS),
    "Conv2d": (lambda nn: nn.Conv2d(6, 5, 3), PIXELS),
    "Conv2d with strides": (lambda nn: nn.Conv2d(6, 4, (3, 2), (2, 3), (1, 2), (2, 1), 2, bias=False), PIXELS),
    "Conv2d of the same size": (lambda nn: nn.Conv2d(6, 6, (3, 5), padding="same", dilation=(1, 2), groups=6), PIXELS),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(3, 2, 1), PIXELS),
    "MaxPool2d apart": (lambda nn: nn.MaxPool2d((2, 3), 1, dilation=(3, 1)), PIXELS),
    "AvgPool2d": (lambda nn: nn.AvgPool2d((2, 3), padding=1), PIXELS),
    "AvgPool2d of pixels": (lambda nn: nn.AvgPool2d(3, 1, 1, count_include_pad=False), PIXELS),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d((3, 5)), PIXELS),
    "AdaptiveAvgPool2d to one": (lambda nn: nn.AdaptiveAvgPool2d(1), PIXELS),
    "ReLU": (lambda nn: nn.ReLU(), WIDE),
    "GELU": (lambda nn: nn.GELU(), WIDE),
    "GELU by tanh": (lambda nn: nn.GELU("tanh"), WIDE),
    "Tanh": (lambda nn: nn.Tanh(), WIDE),
    "Sigmoid": (lambda nn: nn.Sigmoid(), WIDE),
    "SiLU": (lambda nn: nn.SiLU(), WIDE),
    "Mish": (lambda nn: nn.Mish(), WIDE),
    "Softplus": (lambda nn: nn.Softplus(), WIDE),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(), WIDE),
    "LeakyReLU steep": (lambda nn: nn.LeakyReLU(0.3), WIDE),
    "ELU": (lambda nn: nn.ELU(), WIDE),
    "ELU low": (lambda nn: nn.ELU(0.5), WIDE),
    "Hardtanh": (lambda nn: nn.Hardtanh(), WIDE),
    "Hardtanh narrow": (lambda nn: nn.Hardtanh(-0.3, 0.4), WIDE),
    "Softmax": (lambda nn: nn.Softmax(dim=-1), WIDE),
    "Softmax of the first axis": (lambda nn: nn.Softmax(0), WIDE[:3]),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(dim=-1), WIDE),
    "Identity": (lambda nn: nn.Identity(3, what=4), WIDE),
    "Flatten": (lambda nn: nn.Flatten(), [(2, 3, 4), (2, 3), (0, 3, 4)]),
    "Flatten some": (lambda nn: nn.Flatten(0, -2), [(2, 3, 4), (2, 3)]),
    "Sequential": (
        lambda nn: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 2))),
        WIDE,
    ),
    "Sequential by name": (
        lambda nn: nn.Sequential(OrderedDict([("up", nn.Linear(6, 8)), ("act", nn.SiLU()), ("down", nn.Linear(8, 1))])),
        WIDE,
    ),
}


def double(make):
    """Both kinds of layer in float64, with torch's weights, none of them at a special value."""
    ours, theirs = make(nn).to(dtype="float64"), make(torch.nn).double()
    for weight in theirs.parameters():
        weight.data += 0.1 * torch.from_numpy(ownt.randn(tuple(weight.shape), dtype="float64").numpy())
    keys = ours.load_state_dict({path: value.numpy() for path, value in theirs.state_dict().items()})
    assert keys == ([], [])
    return ours, theirs


def assert_calls_alike(ours, theirs, inputs, same, name, call=lambda layer, *inputs: layer(*inputs)):
    """The same values, and the same gradients of the inputs and the parameters."""
    nodes = [ag.param(x) if x.dtype.kind == "f" else ag.constant(x) for x in inputs]
    tensors = [as_torch(x, requires_grad=True) for x in inputs]
    mine, other = call(ours, *nodes), call(theirs, *tensors)
    same(mine.detach(), other.detach(), f"{name} value")
    g = ownt.randn(mine.shape, dtype=mine.dtype)
    mine.backward(g)
    other.backward(as_torch(g))
    pairs = [*zip(nodes, tensors), *zip(ours.parameters(), theirs.parameters())]
    for node, tensor in pairs:
        if tensor.requires_grad:
            same(node.grad, tensor.grad, f"{name} gradient")


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, same):
    make, shapes = LAYERS[name]
    assert_parameters_alike(make(nn), make(torch.nn))
    for shape in shapes:
        assert_calls_alike(*double(make), [ownt.randn(shape, dtype="float64")], same, name.replace(" ", "-"))


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith("BatchNorm")])
def test_statistics_run_as_torchs(name, same):
    make, shapes = LAYERS[name]
    ours, theirs = double(make)
    for scale in (1, 5, 0.1):
        x = ownt.Tensor(scale + scale * ownt.randn(shapes[0], dtype="float64").numpy())
        ours(x), theirs(as_torch(x))
    for (path, tensor), buffer in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        if path == "num_batches_tracked":
            assert tensor.item() == buffer.item()
        else:
            same(tensor, buffer, f"BatchNorm {path}")


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm2d"])
def test_norms_begin_as_torchs(name):
    make, _ = LAYERS[name]
    for node, weight in zip(make(nn).parameters(), make(torch.nn).parameters()):
        assert np.array_equal(node.numpy(), weight.detach())


@pytest.mark.parametrize("shape", [(2, 5), (), (0,), (300,)])
def test_embedding(shape, same):
    make = lambda nn: nn.Embedding(7, 4)
    assert_parameters_alike(make(nn), make(torch.nn))
    assert_calls_alike(*double(make), [ownt.randint(0, 7, shape)], same, "Embedding")


# attention

MASKS = {
    "none": lambda t, s: None,
    "truth": lambda t, s: (ownt.rand(t, s).numpy() < 0.7) | (np.arange(s) == 0),
    "numbers": lambda t, s: ownt.randn(t, s, dtype="float64").numpy(),
}


def attend(mask=None, causal=False):
    """A call of either attention; torch's says with True what may not be seen."""

    def call(layer, query, *rest):
        if isinstance(layer, nn.Module):
            return layer(query, *rest, mask=mask, causal=causal)
        theirs = ~np.tri(query.shape[-2], dtype=bool) if causal else mask
        if theirs is mask and mask is not None and mask.dtype == bool:
            theirs = ~mask
        key = rest[0] if rest else query
        given = None if theirs is None else torch.from_numpy(theirs)
        return layer(query, key, rest[1] if len(rest) > 1 else key, need_weights=False, attn_mask=given)[0]

    return call


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lengths", [(5,), (5, 3), (1, 4, 4)], ids=["self", "cross", "cross of two"])
def test_multihead_attention(lengths, mask, bias, same):
    make = lambda nn: nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)
    assert_parameters_alike(make(nn), make(torch.nn))
    for lead in ((2,), (1,), ()):
        inputs = [ownt.randn(*lead, t, 12, dtype="float64") for t in lengths]
        call = attend(MASKS[mask](lengths[0], lengths[-1]))
        assert_calls_alike(*double(make), inputs, same, "MultiheadAttention", call)


def test_causal_multihead_attention(same):
    make = lambda nn: nn.MultiheadAttention(8, 2, batch_first=True)
    for length in (1, 6, 70):
        x = ownt.randn(2, length, 8, dtype="float64")
        assert_calls_alike(*double(make), [x], same, "MultiheadAttention-causal", attend(causal=True))


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_shared_heads_are_torchs_with_heads_repeated(kv_heads, same):
    """torch has a head of keys and values for each of queries: given the same weights they say the same."""
    ours = nn.MultiheadAttention(8, 4, num_kv_heads=kv_heads, dtype="float64")
    theirs = torch.nn.MultiheadAttention(8, 4, batch_first=True, dtype=torch.float64)
    rows = np.arange(8 + 2 * kv_heads * 2)
    keys, values = (np.repeat(part.reshape(kv_heads, 2), 4 // kv_heads, 0).ravel() for part in np.split(rows[8:], 2))
    taken = np.concatenate([rows[:8], keys, values])
    state = {path: tensor.numpy() for path, tensor in ours.state_dict().items()}
    state["in_proj_weight"], state["in_proj_bias"] = state["in_proj_weight"][taken], state["in_proj_bias"][taken]
    theirs.load_state_dict({path: torch.from_numpy(np.array(value)) for path, value in state.items()})
    x = ownt.randn(2, 5, 8, dtype="float64")
    y, z = ours(x), attend()(theirs, as_torch(x))
    same(y.detach(), z.detach(), "MultiheadAttention-shared value")
    y.sum().backward()
    z.sum().backward()
    expected = np.zeros(ours.in_proj_weight.shape)
    np.add.at(expected, taken, theirs.in_proj_weight.grad.numpy())
    same(ours.in_proj_weight.grad, expected, "MultiheadAttention-shared gradient")


# losses


def numbers(*shape):
    return ownt.randn(shape, dtype="float64")


def parts(*shape):
    return ownt.rand(shape, dtype="float64")


def logs(*shape):
    """Logarithms of probabilities."""
    return ag.log_softmax(numbers(*shape)).tensor.clone()


def probabilities(*shape):
    return ag.softmax(numbers(*shape)).tensor.clone()


LOSSES = {  # options, and what makes targets; none for classes
    "MSELoss": ({}, numbers),
    "L1Loss": ({}, numbers),
    "SmoothL1Loss": ({}, numbers),
    "SmoothL1Loss narrow": ({"beta": 0.25}, numbers),
    "BCEWithLogitsLoss": ({}, parts),
    "BCEWithLogitsLoss weighted": (
        {"weight": np.array([0.5, 1, 2, 3]), "pos_weight": np.array([2.0, 1, 0.5, 4])},
        parts,
    ),
    "KLDivLoss": ({}, probabilities),
    "KLDivLoss of logarithms": ({"log_target": True}, logs),
    "CrossEntropyLoss": ({}, None),
    "CrossEntropyLoss weighted": ({"weight": np.array([0.5, 1, 2, 3])}, None),
    "CrossEntropyLoss smoothed": ({"label_smoothing": 0.2, "ignore_index": 1}, None),
    "NLLLoss": ({}, None),
    "NLLLoss weighted": ({"weight": np.array([0.5, 1, 2, 3]), "ignore_index": 2}, None),
}


def classes_second(loss, x, targets):
    """A call of a loss of classes, which to torch are the second axis."""
    return loss(x.movedim(-1, 1) if isinstance(x, torch.Tensor) and x.ndim > 1 else x, targets)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # torch's advice on the KLDivLoss
@pytest.mark.parametrize(
    ("name", "reduction"),
    [
        *itertools.product(LOSSES, ["mean", "sum", "none"]),
        ("KLDivLoss", "batchmean"),
        ("KLDivLoss of logarithms", "batchmean"),
    ],
)
def test_losses(name, reduction, same):
    options, targets = LOSSES[name]
    kind = name.split()[0]
    ours = getattr(nn, kind)(**options, reduction=reduction)
    theirs = getattr(torch.nn, kind)(**{k: as_torch(v) for k, v in options.items()}, reduction=reduction)
    assert {path: tuple(value.shape) for path, value in theirs.state_dict().items()} == {
        path: value.shape for path, value in ours.state_dict().items()
    }
    for lead in ((3,), (2, 5), (1, 1), ())[: 3 if reduction == "batchmean" else None]:
        if targets is not None:
            inputs = [logs(*lead, 4) if kind == "KLDivLoss" else numbers(*lead, 4), targets(*lead, 4)]
            assert_calls_alike(ours, theirs, inputs, same, kind)
        else:
            chosen = ownt.randint(0, 4, lead)
            if lead in ((3,), (2, 5)):
                chosen[0] = options.get("ignore_index", -100)
            assert_calls_alike(ours, theirs, [logs(*lead, 4), chosen], same, kind, classes_second)
