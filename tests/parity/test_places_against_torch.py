"""argmax and argmin, which have no gradient, against torch's."""

from __future__ import annotations

import pytest
from torch_functions import as_torch
from torch_reductions import SHAPES

import ag
import ownt

torch = pytest.importorskip("torch", reason="needs PyTorch, which the parity extra installs")
pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_places(name, shape, dtype):
    for make in (ownt.randn(shape, dtype="float64"), ownt.randint(0, 3, shape)):  # integers: with equals
        x = make.astype(dtype)
        for axis in (None, *range(-len(shape), len(shape))):
            for keepdims in (False, True):
                found = ag.registry[name](x, axis, keepdims)
                expected = getattr(torch, name)(as_torch(x), dim=axis, keepdim=keepdims)
                assert found.dtype == "int64"
                assert found.tensor.tolist() == expected.tolist()


def test_of_a_parameter_they_are_constants():
    assert not ag.argmax(ag.param([1.0, 3.0, 2.0])).requires_grad
