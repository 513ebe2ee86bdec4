"""Conv2d, pooling, BatchNorm: shapes, state, modes, statistics, what they refuse."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from formulas import batch_norm, conv2d, windows

import ag
import nn
import ownt
from ag.ops import conv
from ag.ops.window import Window


def images(*shape, dtype="float64"):
    return ownt.randn(*shape, dtype=dtype)


# convolution and pooling


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 6, 7, 6)),
        ({"stride": 2}, (2, 6, 4, 3)),
        ({"padding": 1}, (2, 6, 9, 8)),
        ({"padding": (2, 0), "stride": (1, 3)}, (2, 6, 11, 2)),
        ({"dilation": (2, 3)}, (2, 6, 5, 2)),
        ({"padding": "same", "dilation": (1, 3)}, (2, 6, 9, 8)),
        ({"padding": "valid", "groups": 2, "bias": False}, (2, 6, 7, 6)),
    ],
)
def test_conv2d_computes_its_formula(options, shape):
    layer, x = nn.Conv2d(4, 6, 3, **options, dtype="float64"), images(2, 4, 9, 8)
    weight, bias = (node.numpy() if node is not None else None for node in (layer.weight, layer.bias))
    y = layer(x)
    assert y.shape == shape
    expected = conv2d(x.numpy(), weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_conv2d_begins_uniform_within_one_over_the_root_of_what_a_window_sees():
    layer = nn.Conv2d(8, 400, (3, 2), groups=4)
    bound = 12**-0.5
    assert (layer.weight.shape, layer.bias.shape) == ((400, 2, 3, 2), (400,))
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert 0.96 * bound < abs(values).max() <= bound
        assert abs(values.mean()) < 4 * bound / np.sqrt(3 * values.size)


def test_pools_compute_their_formulas():
    x = images(2, 3, 7, 8)
    seen = windows(x.numpy(), 3, 2, 1, value=-np.inf).max((4, 5))
    np.testing.assert_array_equal(nn.MaxPool2d(3, 2, 1)(x).numpy(), seen)
    apart = windows(x.numpy(), (2, 3), 1, 0, (3, 2)).max((4, 5))
    np.testing.assert_array_equal(nn.MaxPool2d((2, 3), 1, dilation=(3, 2))(x).numpy(), apart)
    blocks = windows(x.numpy(), 2).mean((4, 5))
    np.testing.assert_allclose(nn.AvgPool2d(2)(x).numpy(), blocks, rtol=1e-12)
    ones = ag.constant(ownt.ones(1, 1, 3, 3))
    assert nn.AvgPool2d(3, 1, 1)(ones).numpy()[0, 0, 0].tolist() == pytest.approx([4 / 9, 6 / 9, 4 / 9])
    assert nn.AvgPool2d(3, 1, 1, count_include_pad=False)(ones).numpy()[0, 0, 0].tolist() == [1, 1, 1]


def test_every_window_meets_a_pixel_or_is_refused():
    """One of elements 4 pixels apart, of which none lies on the 3 between their places."""
    with pytest.raises(ValueError, match="max_pool2d: expected"):
        nn.MaxPool2d(2, 1, 1, 4)(images(1, 2, 3, 3))


@pytest.mark.parametrize("size", [1, 2, (3, 5), (7, 8), (9, 1)])
def test_adaptive_means_are_over_stretches_that_cover_the_image(size):
    x, (down, across) = images(2, 3, 7, 8), (size, size) if isinstance(size, int) else size
    y = nn.AdaptiveAvgPool2d(size)(ag.constant(x)).numpy()
    assert y.shape == (2, 3, down, across)
    for i, j in np.ndindex(down, across):
        rows, columns = (slice(k * n // m, -(-(k + 1) * n // m)) for k, n, m in ((i, 7, down), (j, 8, across)))
        np.testing.assert_allclose(y[:, :, i, j], x.numpy()[:, :, rows, columns].mean((2, 3)), rtol=1e-12)


def test_adaptive_means_of_a_tensor():
    assert nn.AdaptiveAvgPool2d(2)(images(2, 3, 4, 4)).shape == (2, 3, 2, 2)


def test_results_lie_with_their_channels_last_and_gradients_as_their_nodes_do():
    leaf, layer = ag.param(images(2, 4, 6, 5)), nn.Conv2d(4, 6, 3, dtype="float64")
    y = layer(leaf)
    z = nn.MaxPool2d(2)(nn.BatchNorm2d(6, dtype="float64")(y))
    for node in (y, z):
        assert node.tensor.array.transpose(0, 2, 3, 1).flags.c_contiguous
    ag.sum(z).backward()
    assert leaf.grad.is_contiguous
    assert layer.weight.grad.is_contiguous


def test_each_shows_its_options():
    shown = [
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.Conv2d(4, 8, (3, 1), padding="same", dilation=2, groups=4),
        nn.AvgPool2d(2, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1),
        nn.BatchNorm2d(8, momentum=None, affine=False),
    ]
    assert [repr(module) for module in shown] == [
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=False)",
        "Conv2d(4, 8, kernel_size=(3, 1), stride=(1, 1), padding=(2, 0), dilation=(2, 2), groups=4)",
        "AvgPool2d(kernel_size=2, padding=0, count_include_pad=False)",
        "AdaptiveAvgPool2d((1, 1))",
        "BatchNorm2d(8, eps=1e-05, momentum=None, affine=False, track_running_stats=True)",
    ]


def test_operations_are_two_for_each_product():
    """As the profile counts them: forward, and as many for either gradient, which meet the same pairs of numbers."""
    w = Window((3, 2), (2, 1), (1, 1), (1, 1))
    x, weight, g = (ownt.zeros(*shape).array for shape in ((2, 6, 7, 5), (8, 3, 3, 2), (2, 8, 4, 6)))
    expected = 2 * g.size * 3 * 3 * 2
    assert conv.conv_kernel.count(x, weight, None, w, 2) == expected
    assert conv.conv_input_vjp.count(g, weight, w, 2) == expected
    assert conv.conv_weight_vjp.count(g, x, w, 2) == expected


WRONG = [
    (lambda: nn.Conv2d(4, 6, 3, groups=3), nn.InputError, "expected groups that divide .*; got 3, 4 and 6"),
    (lambda: nn.Conv2d(4, 6, 3, groups=0), nn.InputError, "got 0, 4 and 6"),
    (lambda: nn.Conv2d(4, 6, 0), ValueError, "Conv2d: expected kernel_size .* 1 or more, or two; got 0"),
    (lambda: nn.Conv2d(4, 6, 3, padding="reflect"), ValueError, "Conv2d: expected padding .*; got 'reflect'"),
    (lambda: nn.Conv2d(4, 6, 2, padding="same"), nn.InputError, r'odd kernel_size for padding="same"; .*Use ag\.pad'),
    (lambda: nn.Conv2d(4, 6, 3, 2, "same"), nn.InputError, r"expected stride 1 .*got \(2, 2\)"),
    (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "AdaptiveAvgPool2d: expected output_size"),
    (lambda: nn.BatchNorm2d(3)(images(2, 3, 4)), ValueError, r"BatchNorm2d: expected an input of 4 axes; got shape"),
    (lambda: nn.BatchNorm1d(3)(images(2, 3, 4, 4)), ValueError, "BatchNorm1d: expected an input of 2 or 3 axes"),
]


@pytest.mark.parametrize(("call", "kind", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_what_cannot_be_is_refused(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 5, 9, 9), r"conv2d in 0\.conv: .*got \(2, 5, 9, 9\), \(4, 3, 3, 3\)"),
        ((2, 3, 2, 9), r"conv2d in 0\.conv: expected images that a window of 3x3 fits on; got 2x9"),
        ((1, 3, 3, 3), r"batch_norm in 0\.norm: expected two numbers a channel .*\(1, 4, 1, 1\)"),
        ((2, 3, 4, 4), r"max_pool2d in pool: .*a window of 3x3 fits on; got 2x2"),
    ],
)
def test_errors_name_the_module(shape, words):
    class Block(nn.Module):
        def __init__(self):
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(self.conv(x))

    class Model(nn.Sequential):
        def __init__(self):
            super().__init__(Block())
            self.pool = nn.MaxPool2d(3)

        def forward(self, x):
            return self.pool(self[0](x))

    with pytest.raises(ValueError, match=words):
        Model()(ownt.ones(shape))


# batch norm


def norms(**options):
    norm = nn.BatchNorm2d(3, **options, dtype="float64")
    if options.get("affine", True):
        norm.load_state_dict({"weight": [1.0, -2.0, 0.5], "bias": [0.0, 1.0, -1.0]}, strict=False)
    return norm


def test_state_and_its_order():
    norm = nn.BatchNorm2d(3)
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(norm.state_dict()) == names
    assert norm.num_batches_tracked.dtype == "int64"
    assert list(nn.BatchNorm2d(3, affine=False).state_dict()) == names[2:]
    assert list(nn.BatchNorm2d(3, track_running_stats=False).state_dict()) == names[:2]
    assert list(nn.Conv2d(1, 1, 1).state_dict()) == names[:2]
    for kind in (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d):
        assert not kind(2).state_dict()
    half = norm.to(dtype="float16").state_dict()
    assert [half[name].dtype for name in names] == [*["float16"] * 4, "int64"]


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_statistics_run_towards_those_of_the_batches(momentum):
    norm, mean, variance = norms(momentum=momentum), np.zeros(3), np.ones(3)
    for number in range(1, 5):
        x = images(4, 3, 5, 2).numpy() * number + number
        rows = x.transpose(0, 2, 3, 1).reshape(-1, 3)
        expected = batch_norm(x, norm.weight.numpy(), norm.bias.numpy())
        np.testing.assert_allclose(norm(x).numpy(), expected, rtol=1e-12, atol=1e-12)
        share = 1 / number if momentum is None else momentum
        mean, variance = mean + share * (rows.mean(0) - mean), variance + share * (rows.var(0, ddof=1) - variance)
        np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-12)
        np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-12)
        assert norm.num_batches_tracked.item() == number


def test_evaluation_uses_the_running_statistics_and_leaves_them():
    norm, x = norms(), images(4, 3, 5, 2)
    norm(x)
    before = {name: tensor.numpy().copy() for name, tensor in norm.state_dict().items()}
    running = norm.running_mean.numpy(), norm.running_var.numpy()
    expected = batch_norm(x.numpy(), norm.weight.numpy(), norm.bias.numpy(), None, running, False)
    np.testing.assert_allclose(norm.eval()(x).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert not np.allclose(norm.train()(x).numpy(), expected)
    norm.load_state_dict(before)
    one = images(1, 3, 1, 1)  # of which there are no statistics in training
    assert np.isfinite(norm.eval()(one).numpy()).all()
    with pytest.raises(ValueError, match="two numbers a channel"):
        norm.train()(one)


def test_without_running_statistics_those_of_the_batch_serve_in_evaluation():
    norm, x = norms(track_running_stats=False), images(4, 3, 5, 2)
    expected = norm(x).numpy()
    np.testing.assert_array_equal(norm.eval()(x).numpy(), expected)
    plain = nn.BatchNorm2d(3, affine=False, dtype="float64")
    np.testing.assert_allclose(plain(x).numpy(), batch_norm(x.numpy()), rtol=1e-12, atol=1e-12)
    assert not plain.parameters()


def test_a_copy_has_statistics_of_its_own():
    norm = norms()
    other = copy.deepcopy(norm)
    norm(images(4, 3, 2, 2))
    assert (other.num_batches_tracked.item(), other.running_mean.tolist()) == (0, [0, 0, 0])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_fused_norm_equals_the_ops_it_is_made_of(training, residual, relu):
    norm = norms().train(training)
    nodes = [ag.param(images(4, 3, 5, 2)) for _ in range(2)]
    found = []
    for fused in (True, False):
        ag.zero_grad([*nodes, *norm.parameters()])
        x, other = nodes
        if fused:
            y = norm(x, other if residual else None, relu)
        else:
            y = norm(x) + other if residual else norm(x)
            y = ag.relu(y) if relu else y
        ag.sum(y * ag.sin(y)).backward()
        grads = [n.grad.numpy().copy() for n in (x, other, *norm.parameters()) if n.grad is not None]
        found.append([y.numpy().copy(), *grads])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_mean_that_is_large_beside_the_deviation():
    x = (np.random.default_rng(0).normal(size=(8, 16, 16, 3)) + 1000).astype("float32").transpose(0, 3, 1, 2)
    expected = batch_norm(x.astype("float64"))
    for given in (x, np.ascontiguousarray(x)):
        np.testing.assert_allclose(nn.BatchNorm2d(3)(given).numpy(), expected, atol=5e-4)
