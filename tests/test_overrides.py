"""Every override of a kernel against its reference: through the ops, at all shapes and numbers of the comparison with
PyTorch, and at some that no tile, block or piece divides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import ag
import ownt
from ag.sample import Sample, Spec, integers, normal
from ownt import Tensor
from ownt.kernel import Kernel

sys.path.insert(0, str(Path(__file__).parent / "parity"))
from torch_functions import CASES, Values  # a table of calls; torch itself is not needed

TOLERANCE = {"float32": 2e-5, "float64": 1e-11}
SIZES = (1, 8191, 8193, 30_001)
UNARY = ("relu", "sigmoid", "silu", "leaky_relu")
BINARY = ("add", "sub", "mul", "div")
HEADS = (
    *((1, 1, 1, 1), (3, 63, 2, 5), (2, 65, 3, 7), (1, 193, 1, 2)),
    *((9, 7, 5, 3), (67, 1, 1, 1), (33, 16, 4, 4), (5, 31, 3, 16)),
)
ODD = {  # beside CASES
    **{name: [Sample(normal(n)) for n in SIZES] for name in UNARY},
    **{name: [Sample(normal(n), normal(n)) for n in SIZES] for name in BINARY},
    "gelu": [Sample(normal(n), kind) for n in (1, 8193, 30_001) for kind in ("none", "tanh")],
    "layer_norm": [Sample(normal(n, c), normal(c), normal(c)) for n, c in ((1, 1), (33, 5), (65, 17), (700, 65))],
    "rms_norm": [Sample(normal(n, c), normal(c)) for n, c in ((1, 1), (33, 5), (700, 65))],
    "linear": [Sample(normal(n, i), normal(o, i), normal(o)) for n, i, o in ((1, 1, 1), (17, 33, 5), (259, 70, 131))],
    "matmul": [Sample(normal(m, k), normal(k, n)) for m, k, n in ((1, 1, 1), (17, 1, 33), (131, 70, 259))],
    "norm_linear": [Sample(normal(n, 9), normal(9), normal(9), normal(5, 9), normal(5)) for n in (1, 257, 515)],
    "gelu_linear": [Sample(normal(n, 9), normal(5, 9), normal(5), approximate="tanh") for n in (1, 257, 515)],
    "causal_attention": [Sample(normal(b, t, 3 * h * d), h) for b, t, h, d in HEADS],
    "cross_entropy": [Sample(normal(n, v), integers(v, n)) for n, v in ((1, 1), (17, 3), (33, 1001))],
    "linear_cross_entropy": [Sample(normal(n, 7), normal(v, 7), integers(v, n)) for n, v in ((1, 1), (67, 1001))],
    "embedding": [Sample(integers(9, n), normal(9, c)) for n, c in ((1, 1), (65, 3), (700, 33))],
    **{name: [Sample(normal(n, c)) for n, c in ((1, 1), (17, 3), (33, 1001))] for name in ("softmax", "log_softmax")},
    "sum": [Sample(normal(n, c), 0) for n, c in ((1, 9), (33, 8), (1000, 65))],
    "dropout": [Sample(normal(n), 0.3) for n in (1, 8193, 30_001)],
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
    return kernel._run_reference, (ownt.device.of(target), arrays, outs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted({*ODD, *CASES}))
def test_overrides_equal_their_references(name, dtype, monkeypatch):
    for sample in [*ODD.get(name, []), *CASES.get(name, [])]:
        compare(name, sample, dtype, monkeypatch)


@pytest.mark.parametrize("name", sorted(ODD))
def test_in_parallel_too_however_small(name, monkeypatch):
    for module in [module for path, module in sys.modules.items() if path.endswith("_cpu")]:
        for limit in ("SMALL", "HEAVY", "_SMALL"):
            if hasattr(module, limit):
                monkeypatch.setattr(module, limit, -1)
    for sample in ODD[name]:
        compare(name, sample, "float32", monkeypatch)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", sorted(ODD))
def test_nan_and_inf_go_where_they_go_in_the_references(name, value, monkeypatch):
    for sample in ODD[name]:
        compare(name, sample, "float32", monkeypatch, value)


def compare(name, sample, dtype, monkeypatch, first=None):
    """first: what the first number of the first tensor of floats is to be"""
    given = sample.args[0] if isinstance(sample.args[0], list) else sample.args
    args = [arg.make(dtype) if isinstance(arg, (Spec, Values)) else arg for arg in given]
    if first is not None:
        floats = next(arg for arg in args if isinstance(arg, Tensor) and arg.dtype.kind == "f")
        floats[(0,) * floats.ndim] = first
    found = results(name, args, sample.options, dtype)
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "_bind", references_only)
        expected = results(name, args, sample.options, dtype)
    for a, b in zip(found, expected, strict=True):
        tolerance = TOLERANCE[dtype]
        if first is not None and name == "causal_attention":  # whose reference spreads NaN to keys that are not seen
            a, b = a[np.isfinite(b)], b[np.isfinite(b)]
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=f"{name} of {sample}")


def test_what_an_override_declines_is_computed_by_the_reference():
    """A bias whose numbers do not lie side by side, beside matrices that do."""
    x, w, b = ownt.randn(3, 4), ownt.randn(5, 4), ownt.randn(5, 2)[:, 0]
    expected = x.numpy() @ w.numpy().T + b.numpy()
    np.testing.assert_allclose(ag.linear(x, w, b).numpy(), expected, rtol=1e-5, atol=1e-6)
