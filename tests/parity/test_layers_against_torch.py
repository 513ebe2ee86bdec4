"""Layers, losses, containers, hooks and initialisers against PyTorch's of the same names."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict

import numpy as np
import pytest
from torch_functions import as_torch

import ag
import nn
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

WIDE = [(5, 6), (1, 6), (2, 3, 6), (0, 6), (6,)]
IMAGES = [(2, 6, 4), (1, 6, 2, 3), (3, 6)]
LAYERS = {  # how to make one of either kind, and shapes of inputs
    "Linear": (lambda nn: nn.Linear(6, 5), WIDE),
    "Linear without bias": (lambda nn: nn.Linear(6, 2, bias=False), WIDE),
    "LayerNorm": (lambda nn: nn.LayerNorm(6), WIDE),
    "LayerNorm without bias": (lambda nn: nn.LayerNorm(6, 1e-3, bias=False), WIDE),
    "RMSNorm": (lambda nn: nn.RMSNorm(6, 1e-5), WIDE),
    "GroupNorm": (lambda nn: nn.GroupNorm(3, 6), IMAGES),
    "GroupNorm of one": (lambda nn: nn.GroupNorm(1, 6, 1e-3), IMAGES),
    "GroupNorm not affine": (lambda nn: nn.GroupNorm(2, 6, affine=False), IMAGES),
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


def assert_parameters_alike(ours, theirs):
    shapes = [(path, node.shape) for path, node in ours.named_parameters()]
    assert shapes == [(path, tuple(weight.shape)) for path, weight in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())


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


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm"])
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


# containers


def sized(nn, size):
    return nn.Linear(1, size)


LIST_CHANGES = {
    "append": lambda m, nn: m.append(sized(nn, 9)),
    "extend": lambda m, nn: m.extend([sized(nn, 8), sized(nn, 9)]),
    "insert": lambda m, nn: m.insert(1, sized(nn, 9)),
    "assign": lambda m, nn: m.__setitem__(-2, sized(nn, 9)),
    "delete": lambda m, nn: m.__delitem__(1),
    "delete a slice": lambda m, nn: m.__delitem__(slice(0, None, 2)),
    "pop": lambda m, nn: m.pop(0),
    "slice": lambda m, nn: m[1:],
    "negative slice": lambda m, nn: m[-2:3],
}
DICT_CHANGES = {
    "update": lambda m, nn: m.update({"c": sized(nn, 8), "a": sized(nn, 9)}),
    "update by pairs": lambda m, nn: m.update([("c", sized(nn, 8)), ("a", sized(nn, 9))]),
    "assign": lambda m, nn: m.__setitem__("b", sized(nn, 9)),
    "delete": lambda m, nn: m.__delitem__("a"),
    "pop": lambda m, nn: m.pop("b"),
    "clear": lambda m, nn: m.clear(),
}
CONTAINERS = {
    "ModuleList": (lambda nn: nn.ModuleList(sized(nn, n) for n in (1, 2, 3, 4)), LIST_CHANGES),
    "Sequential": (lambda nn: nn.Sequential(*(sized(nn, n) for n in (1, 2, 3, 4))), LIST_CHANGES),
    "ModuleDict": (lambda nn: nn.ModuleDict({"b": sized(nn, 1), "a": sized(nn, 2)}), DICT_CHANGES),
}


@pytest.mark.parametrize(("kind", "change"), [(k, c) for k, (_, changes) in CONTAINERS.items() for c in changes])
def test_containers_change_as_torchs_do(kind, change):
    make, changes = CONTAINERS[kind]
    ours, theirs = make(nn), make(torch.nn)
    made, expected = changes[change](ours, nn), changes[change](theirs, torch.nn)
    assert_parameters_alike(ours, theirs)
    assert len(ours) == len(theirs)
    if isinstance(expected, torch.nn.Module):
        assert type(made).__name__ == type(expected).__name__
        assert_parameters_alike(made, expected)
    assert [str(key) for key in ours] == list(theirs) if kind == "ModuleDict" else len(list(ours)) == len(list(theirs))


def test_state_that_fits_in_part():
    make = lambda nn: nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    ours, theirs = make(nn), make(torch.nn)
    given = {"0.bias": np.ones(3, "float32"), "1.weight": np.zeros(3, "float32"), "other": np.ones(2, "float32")}
    mine = ours.load_state_dict(given, strict=False)
    other = theirs.load_state_dict({path: torch.from_numpy(value) for path, value in given.items()}, strict=False)
    assert (mine.missing_keys, mine.unexpected_keys) == (other.missing_keys, other.unexpected_keys)
    for path in given:
        if path != "other":
            assert np.array_equal(ours.state_dict()[path].numpy(), theirs.state_dict()[path].numpy())


# hooks


def hooked(nn, seen):
    """A model whose hooks note what they see, in order, and change some of it."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 4)), nn.Tanh())
    note = lambda what: (
        lambda module, args, *output: seen.append(
            (what, type(module).__name__, [tuple(x.shape) for x in (*args, *output)])
        )
    )
    removers = []
    for _, module in model.named_modules():
        removers.append(module.register_forward_pre_hook(note("before")))
        removers.append(module.register_forward_hook(note("after")))
    model[0].register_forward_pre_hook(lambda module, args: args[0][:2])
    model[1].register_forward_hook(lambda module, args, output: output[:1])
    model[1].register_forward_hook(note("after the change"))
    model.register_forward_pre_hook(lambda module, args: (args[0],))
    model[2].register_forward_pre_hook(note("last"))
    return model, removers


def test_hooks_see_what_torchs_see():
    mine, other = [], []
    ours, ours_removers = hooked(nn, mine)
    theirs, theirs_removers = hooked(torch.nn, other)
    x = ownt.randn(3, 2)
    ours(x)
    theirs(as_torch(x))
    assert len(mine) == 14
    assert mine == other
    for remove, handle in zip(ours_removers[1::3], theirs_removers[1::3]):
        remove()
        handle.remove()
    ours(x)
    theirs(as_torch(x))
    assert mine == other


# initialisers

NONLINEARITIES = ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
                  "sigmoid", "tanh", "relu", "selu", "leaky_relu"]  # fmt: skip
FAN_SHAPES = [*itertools.product([1, 2, 7], [1, 3, 8]), (4, 3, 5), (4, 1, 5, 2), (2, 3, 1, 4, 5), (6, 2, 1, 1, 2, 3)]


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_gains(name):
    assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    for param in (0, 0.2, -1.5, 3):
        assert nn.init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


@pytest.mark.parametrize("shape", FAN_SHAPES, ids=str)
def test_fans(shape):
    assert nn.init.fans("test", ownt.empty(shape)) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


def spreads(name, shape, **options):
    """(mean, standard deviation, largest size) of numbers of both kinds."""
    mine = getattr(nn.init, name)(ownt.empty(shape, dtype="float64"), **options).numpy()
    other = getattr(torch.nn.init, name)(torch.empty(shape, dtype=torch.float64), **options).numpy()
    return [(a.mean(), a.std(), abs(a).max(), (a == 0).mean()) for a in (mine, other)]


INITIALISERS = [
    *((name, {}) for name in ("uniform_", "normal_", "trunc_normal_", "orthogonal_", "xavier_uniform_")),
    *((name, {}) for name in ("xavier_normal_", "kaiming_uniform_", "kaiming_normal_")),
    ("uniform_", {"a": -3, "b": -1}),
    ("normal_", {"mean": 2, "std": 0.1}),
    ("trunc_normal_", {"mean": 1, "std": 2, "a": 0, "b": 8}),
    ("trunc_normal_", {"std": 0.02}),
    ("xavier_uniform_", {"gain": 3}),
    ("xavier_normal_", {"gain": 0.5}),
    *(
        (name, {"a": a, "mode": mode, "nonlinearity": nonlinearity})
        for name in ("kaiming_uniform_", "kaiming_normal_")
        for a, mode, nonlinearity in itertools.product([0, math.sqrt(5)], ["fan_in", "fan_out"], ["leaky_relu", "tanh"])
    ),
    ("orthogonal_", {"gain": 2}),
    ("sparse_", {"sparsity": 0.3, "std": 2}),
]


@pytest.mark.parametrize(("name", "options"), INITIALISERS)
def test_initialisers_spread_as_torchs_do(name, options):
    torch.manual_seed(0)
    for shape in ((60, 400), (300, 20)) if name == "sparse_" else ((60, 400), (300, 20), (30, 20, 4, 5)):
        mine, other = spreads(name, shape, **options)
        scale, count = max(other[1], 1e-12), math.prod(shape)
        assert abs(mine[0] - other[0]) < 6 * scale / math.sqrt(count)
        assert mine[1] == pytest.approx(other[1], rel=8 / math.sqrt(count))
        assert mine[2] == pytest.approx(other[2], rel=0.5)
        assert mine[3] == other[3]
        if "uniform" in name:
            assert mine[2] == pytest.approx(other[2], rel=0.01)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        *(("eye_", shape, {}) for shape in [(3, 3), (2, 5), (5, 2)]),
        *(("dirac_", shape, {}) for shape in [(3, 3, 3), (2, 4, 4), (4, 2, 3, 2), (3, 5, 1, 2, 3)]),
        *(("dirac_", shape, {"groups": 2}) for shape in [(4, 2, 3), (6, 5, 2, 2), (2, 1, 3, 3, 3)]),
        ("constant_", (2, 3), {"val": 0.25}),
        ("ones_", (2, 3), {}),
        ("zeros_", (4,), {}),
    ],
)
def test_initialisers_that_draw_nothing(name, shape, options):
    mine = getattr(nn.init, name)(ownt.empty(shape), **options)
    assert np.array_equal(mine.numpy(), getattr(torch.nn.init, name)(torch.empty(shape), **options).numpy())


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3)])
def test_orthogonal_of_the_same_numbers(shape, same, monkeypatch):
    """The orthogonal factor is the one whose triangular factor has a positive diagonal, so both make the same of it."""
    long, short = sorted((shape[0], math.prod(shape[1:])), reverse=True)
    drawn = ownt.randn(long, short, dtype="float64")
    monkeypatch.setattr(ownt, "randn", lambda *_, **__: drawn)
    theirs = as_torch(drawn if shape[0] == long else drawn.T)
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self.copy_(theirs))
    mine = nn.init.orthogonal_(ownt.empty(shape, dtype="float64"), gain=2)
    same(mine, torch.nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64), gain=2), "orthogonal_ value")


@pytest.mark.parametrize("inputs", [1, 16, 300])
def test_linear_begins_within_the_bound_of_torchs(inputs):
    ours, theirs = nn.Linear(inputs, 4000), torch.nn.Linear(inputs, 4000)
    for node, weight in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        values, others = node.detach().numpy(), weight.detach().numpy()
        assert abs(values).max() <= 1 / math.sqrt(inputs)
        assert abs(values).max() == pytest.approx(abs(others).max(), rel=0.01)
        assert values.std() == pytest.approx(others.std(), rel=0.1)
        assert abs(values.mean()) < 0.1 * values.std()


@pytest.mark.parametrize("bias", [True, False])
def test_attention_begins_as_torchs(bias):
    ours, theirs = nn.MultiheadAttention(60, 3, bias=bias), torch.nn.MultiheadAttention(60, 3, bias=bias)
    for (path, node), weight in zip(ours.named_parameters(), theirs.parameters()):
        values, others = node.detach().numpy(), weight.detach().numpy()
        assert abs(values).max() == pytest.approx(abs(others).max(), rel=0.01), path
        assert values.std() == pytest.approx(others.std(), rel=0.05), path
