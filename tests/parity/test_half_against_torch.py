"""Half precision beside PyTorch's: every op at its samples, values and gradients within a few roundings."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import compared
from test_ops_against_torch import arguments
from torch_functions import TABLE

import ag
import ownt
from ownt import Tensor
from ownt.dtype import is_float

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
ROUNDINGS = 6  # between ours and theirs, which rounds in between where we do not, and the other way round
ROUGH = (  # samples at which PyTorch rounds what it should not
    "group_norm-2x6-3-6",  # statistics of groups of two numbers, whose gradients are differences of equals
    "norm_linear-300x4-4-4-2x4-2",  # the result of the norm, of which three hundred add up
)
CALLS = [(name, s) for name in TABLE for s in ag.registry[name].samples if f"{name}-{s}" not in ROUGH]
REFUSED = {  # by PyTorch on the CPU, in one of the two dtypes or in both: its words
    "not implemented for",
    "Unsupported dtype",
}


def alike(found, expected, eps, what):
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.05)
    tolerance = {"rtol": ROUNDINGS * eps, "atol": ROUNDINGS * eps * scale}
    np.testing.assert_allclose(found.astype("float32"), expected, err_msg=what, **tolerance)
    compared[what.split()[0]] += 1


def rounded(arg, dtype):
    """An argument in float32, of numbers that `dtype` holds; constants stay constants."""
    if isinstance(arg, ag.Node):
        return ag.constant(rounded(arg.tensor, dtype))
    return arg.astype(dtype).astype("float32") if type(arg) is Tensor and is_float(arg.dtype) else arg


def ours(arg, dtype):
    if isinstance(arg, ag.Node):
        return ag.constant(arg.tensor.astype(dtype))
    return ag.param(arg.astype(dtype)) if type(arg) is Tensor and is_float(arg.dtype) else arg


def theirs(arg, dtype):
    if not isinstance(arg, (Tensor, ag.Node)):
        return arg
    made = torch.from_numpy(arg.numpy())
    made = made.to(getattr(torch, dtype)) if is_float(arg.dtype) else made
    return made.requires_grad_() if type(arg) is Tensor and is_float(arg.dtype) else made


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("name", "sample"), CALLS, ids=[f"{name}-{sample}"[:60] for name, sample in CALLS])
def test_value_and_gradients(name, sample, dtype):
    args, options = arguments(sample, "float32")
    args = [rounded(arg, dtype) for arg in args]
    inputs = [theirs(arg, dtype) for arg in args]
    try:
        wanted = TABLE[name](*inputs, **options)
        g = ownt.randn(tuple(wanted.shape)).astype(dtype).astype("float32")
        wanted.backward(torch.from_numpy(g.numpy()).to(wanted.dtype))
    except (RuntimeError, NotImplementedError) as error:
        if any(words in str(error) for words in REFUSED):
            pytest.skip(f"PyTorch: {error}")
        raise
    given = [ours(arg, dtype) for arg in args]
    y = ag.registry[name](*given, **options)
    y.backward(g.astype(y.dtype))
    alike(y.numpy(), wanted.detach().float().numpy(), EPS[dtype], f"{name} value")
    for node, other in zip(given, inputs, strict=True):
        if getattr(other, "grad", None) is not None:
            alike(node.grad.numpy(), other.grad.float().numpy(), EPS[dtype], f"{name} gradient")
