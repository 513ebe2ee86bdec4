"""Every override of a kernel against its reference: through the ops, at all shapes and numbers of the comparison with
PyTorch, and at some that no tile, block or piece divides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import ag
import ownt
from ag.ops.activation import gelu_and_vjp
from ag.sample import Sample, Spec, integers, normal
from ownt import Tensor
from ownt.kernel import Kernel, Out

sys.path.insert(0, str(Path(__file__).parent / "parity"))
from torch_functions import CASES, Values  # a table of calls; torch itself is not needed

TOLERANCE = {"float32": 2e-5, "float64": 1e-11}
SIZES = (1, 8191, 8193, 30_001)
UNARY = ("relu", "sigmoid", "silu", "leaky_relu")
BINARY = ("add", "sub", "mul", "div")
HEADS = (
    *((1, 1, 1, 1), (3, 63, 2, 5), (2, 65, 3, 7), (1, 193, 1, 2)),
    *((9, 7, 5, 3), (67, 1, 1, 1), (33, 16, 4, 4), (5, 31, 3, 16), (3, 32, 2, 8), (5, 17, 3, 6), (2, 24, 1, 12)),
)


def convolution(c, o, size, image, stride=1, padding=0, dilation=1, groups=1, n=2):
    """A sample of images (n, c, *image) that are seen through windows of `size`."""
    return Sample(normal(n, c, *image), normal(o, c // groups, *size), normal(o), stride, padding, dilation, groups)


def normalization(*shape, relu=True):
    """With an eps for channels of few numbers, which may be close: else float32's rounding is seen."""
    few = shape[0] * int(np.prod(shape[2:])) < 20
    return Sample(
        normal(*shape), normal(shape[1]), normal(shape[1]), normal(*shape), relu=relu, eps=0.5 if few else 1e-5
    )


CONVOLUTIONS = [
    *(convolution(c, o, (3, 3), (5, 4), 1, 1) for c, o in ((1, 1), (5, 17), (17, 5), (16, 63), (64, 65), (97, 6))),
    *(convolution(c, o, (1, 1), (7, 5), stride) for c, o in ((1, 64), (65, 1), (33, 97), (5, 4)) for stride in (1, 3)),
    convolution(3, 64, (7, 7), (23, 21), 2, 3),  # of few channels and many pixels, as the first of a network
    convolution(17, 33, (3, 3), (13, 11), 1, 1),  # more pixels than are taken at a time
    convolution(3, 5, (3, 2), (8, 9), (2, 3), (1, 2), (2, 1)),
    convolution(3, 5, (2, 3), (8, 9), 1, 2, (1, 2)),  # of few channels, and pixels apart
    convolution(17, 5, (2, 4), (9, 8), (3, 1), (2, 0), (1, 2)),
    convolution(20, 5, (2, 2), (9, 8), 4),  # pixels that no window sees
    *(convolution(12, 18, (3, 3), (6, 5), 1, 1, 1, groups) for groups in (2, 3, 6)),
    *(convolution(c, c, (3, 3), (6, 5), 2, 1, 1, c) for c in (1, 5, 33)),
    convolution(34, 130, (3, 1), (4, 4), 1, (1, 0), 1, 2),
    convolution(5, 6, (4, 5), (4, 5), n=1),  # a window as large as the image
    convolution(18, 6, (3, 3), (1, 1), 1, 1, n=1),
    convolution(70, 66, (1, 1), (1, 1), n=1),
    convolution(18, 3, (5, 5), (2, 3), 1, (2, 3)),  # windows larger than the image
]
SHAPES = [
    (2, 1, 1, 1),
    (1, 5, 17, 1),
    (2, 64, 3, 3),
    (3, 97, 5, 13),
    (2, 65, 1, 1),
    (67, 3),
    (2, 17),
    (1000, 5),
    (3, 2, 9),
]
POOLS = [
    Sample(normal(n, c, *image), *options)
    for n, c, image in ((1, 1, (5, 4)), (2, 65, (7, 9)), (3, 5, (4, 17)))
    for options in ((2,), (3, 2, 1), ((2, 3), 1, (1, 0)), ((4, 2), (1, 3)), (1, 2))
]  # fmt: skip
ROWS = ((1, 1), (33, 5), (1, 4), (15, 12), (33, 16), (100, 28), (259, 64))
ODD = {  # beside CASES
    **{name: [Sample(normal(n)) for n in SIZES] for name in UNARY},
    **{name: [Sample(normal(n), normal(n)) for n in SIZES] for name in BINARY},
    "gelu": [Sample(normal(n), kind) for n in (1, 8193, 30_001) for kind in ("none", "tanh")],
    "layer_norm": [Sample(normal(n, c), normal(c), normal(c)) for n, c in (*ROWS, (65, 17), (700, 65))],
    "rms_norm": [Sample(normal(n, c), normal(c)) for n, c in (*ROWS, (700, 65))],
    "linear": [Sample(normal(n, i), normal(o, i), normal(o)) for n, i, o in ((1, 1, 1), (17, 33, 5), (259, 70, 131))],
    "matmul": [Sample(normal(m, k), normal(k, n)) for m, k, n in ((1, 1, 1), (17, 1, 33), (131, 70, 259))],
    "norm_linear": [Sample(normal(n, 9), normal(9), normal(9), normal(5, 9), normal(5)) for n in (1, 257, 515)],
    "gelu_linear": [
        Sample(normal(n, 9), normal(5, 9), normal(5), approximate=kind)
        for n in (1, 257, 515)
        for kind in ("none", "tanh")
    ],
    "causal_attention": [Sample(normal(b, t, 3 * h * d), h) for b, t, h, d in HEADS],
    "cross_entropy": [
        Sample(normal(n, v), integers(v, n)) for n, v in ((1, 1), (17, 3), (33, 65), (130, 64), (33, 1001))
    ],
    "linear_cross_entropy": [Sample(normal(n, 7), normal(v, 7), integers(v, n)) for n, v in ((1, 1), (67, 1001))],
    "embedding": [Sample(integers(9, n), normal(9, c)) for n, c in ((1, 1), (65, 3), (700, 33))],
    **{name: [Sample(normal(n, c)) for n, c in ((1, 1), (17, 3), (33, 1001))] for name in ("softmax", "log_softmax")},
    "sum": [Sample(normal(n, c), 0) for n, c in ((1, 9), (33, 8), (1000, 65), (131, 200))],
    "dropout": [Sample(normal(n), 0.3) for n in (1, 8193, 30_001)],
    "conv2d": CONVOLUTIONS,
    "batch_norm": [
        *(normalization(*shape, relu=relu) for shape in SHAPES for relu in (True, False)),
        *(Sample(normal(*shape), None, normal(shape[1]), eps=0.5) for shape in SHAPES),
    ],
    "max_pool2d": [*POOLS, Sample(normal(1, 3, 19, 20), (16, 17), 1, 8), Sample(normal(2, 17, 9, 9), 2, 3, 0, (3, 4))],
    "avg_pool2d": [*POOLS, *(Sample(*sample.args, count_include_pad=False) for sample in POOLS)],
}  # fmt: skip


def results(name, args, options, dtype):
    """The value and all gradients of a call."""
    nodes = [ag.param(a) if isinstance(a, Tensor) and a.dtype.kind == "f" else a for a in args]
    ownt.manual_seed(3)
    y = ag.registry[name](*nodes, **options)
    found = [y.numpy().copy()]
    if y.requires_grad:
        ownt.manual_seed(4)
        y.backward(ownt.randn(y.shape, dtype=dtype))
        found += [n.grad.numpy().copy() for n in nodes if isinstance(n, ag.Node) and n.grad is not None]
    return found


def references_only(kernel, target, arrays, outs):
    return kernel._run_reference, (kernel.reference, ownt.device.of(target), arrays, outs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted({*ODD, *CASES}))
def test_overrides_equal_their_references(name, dtype, monkeypatch):
    for sample in [*ODD.get(name, []), *CASES.get(name, [])]:
        compare(name, sample, dtype, monkeypatch)


@pytest.mark.parametrize("name", sorted(ODD))
def test_in_parallel_too_however_small(name, monkeypatch):
    for module in [module for path, module in sys.modules.items() if path.endswith("_cpu")]:
        for limit in ("SMALL", "HEAVY", "_SMALL", "_WORTH_SHARING"):
            if hasattr(module, limit):
                monkeypatch.setattr(module, limit, -1)
    for sample in ODD[name]:
        compare(name, sample, "float32", monkeypatch)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", sorted(ODD))
def test_nan_and_inf_go_where_they_go_in_the_references(name, value, monkeypatch):
    for sample in ODD[name]:
        compare(name, sample, "float32", monkeypatch, value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["cross_entropy", "layer_norm", "rms_norm", "gelu_linear", "sum"])
def test_nan_and_inf_at_the_end_too(name, value, dtype, monkeypatch):
    for sample in ODD[name]:
        compare(name, sample, dtype, monkeypatch, value, place=-1)


@pytest.mark.parametrize("width", [4, 28, 60, 17, 100])
@pytest.mark.parametrize("name", ["layer_norm", "norm_linear"])
def test_rows_of_one_number_are_their_mean(name, width):
    x, shift = np.full((17, width), 1000, "float32"), np.arange(width, dtype="float32")
    others = [np.eye(width, dtype="float32")] if name == "norm_linear" else []
    y = ag.registry[name](ownt.asarray(x), None, ownt.asarray(shift), *map(ownt.asarray, others))
    np.testing.assert_array_equal(y.numpy(), np.broadcast_to(shift, x.shape))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_gelu_and_its_slope_in_one_pass(dtype, beta, approximate):
    g, x, before = (ownt.randn(3, 8193, dtype=dtype) for _ in range(3))
    found, hidden = before.clone(), ownt.empty(3, 8193, dtype=dtype)
    gelu_and_vjp(g, x, approximate, out=Out(found, beta), hidden=Out(hidden))
    wanted, wanted_hidden = before.astype("float64"), ownt.empty(3, 8193, dtype="float64")
    arrays = [tensor.astype("float64").array for tensor in (g, x)]
    gelu_and_vjp.reference(*arrays, approximate, out=Out(wanted, beta), hidden=Out(wanted_hidden))
    tolerance = {**TOLERANCE, "float16": 4e-3}[dtype]
    for ours, theirs in ((found, wanted), (hidden, wanted_hidden)):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=tolerance, atol=tolerance)


def compare(name, sample, dtype, monkeypatch, value=None, place=0):
    """value: what the number at a place of all axes of the first tensor of floats is to be"""
    given = sample.args[0] if isinstance(sample.args[0], list) else sample.args
    args = [arg.make(dtype) if isinstance(arg, (Spec, Values)) else arg for arg in given]
    if value is not None:
        floats = next(arg for arg in args if isinstance(arg, Tensor) and arg.dtype.kind == "f")
        floats[(place,) * floats.ndim] = value
    found = results(name, args, sample.options, dtype)
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "_bind", references_only)
        expected = results(name, args, sample.options, dtype)
    for a, b in zip(found, expected, strict=True):
        tolerance = TOLERANCE[dtype]
        if value is not None and name == "causal_attention":  # whose reference spreads NaN to keys that are not seen
            a, b = a[np.isfinite(b)], b[np.isfinite(b)]
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=f"{name} of {sample}")


def test_what_an_override_declines_is_computed_by_the_reference():
    """A bias whose numbers do not lie side by side, beside matrices that do."""
    x, w, b = ownt.randn(3, 4), ownt.randn(5, 4), ownt.randn(5, 2)[:, 0]
    expected = x.numpy() @ w.numpy().T + b.numpy()
    np.testing.assert_allclose(ag.linear(x, w, b).numpy(), expected, rtol=1e-5, atol=1e-6)
