"""argmax, argmin and argtopk, which have no gradient, and functions made of ops, against torch's."""

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


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_topk(shape, largest, same):
    values = ownt.randn(shape, dtype="float64")
    for axis in range(-len(shape), len(shape)):
        for k in range(shape[axis] + 1):
            x, other = ag.param(values), as_torch(values, True)
            (found, places), expected = x.topk(k, axis, largest), torch.topk(other, k, axis, largest)
            assert places.tensor.tolist() == expected.indices.tolist()
            same(found.detach(), expected.values.detach(), "topk value")
            g = ownt.randn(found.shape, dtype="float64")
            found.backward(g)
            expected.values.backward(as_torch(g))
            same(x.grad, other.grad, "topk gradient")


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 4, 3), (1, 1, 3, 4, 2)])
def test_pad(shape, mode, same):
    values = ownt.randn(shape, dtype="float64")
    for width in [(1, 0), (0, 1), (1, 1), (0, 0), (-1, 1)]:
        widths = width * (len(shape) - 2)
        x, other = ag.param(values), as_torch(values, True)
        y, expected = x.pad(widths, mode), torch.nn.functional.pad(other, widths, mode)
        same(y.detach(), expected.detach(), "pad value")
        g = ownt.randn(y.shape, dtype="float64")
        y.backward(g)
        expected.backward(as_torch(g))
        same(x.grad, other.grad, "pad gradient")


@pytest.mark.parametrize("name", ["split", "chunk"])
def test_cutting(name, same):
    values = ownt.randn((5, 6), dtype="float64")
    for axis in (0, 1, -1):
        for size in (1, 2, 4, 9, *([[values.shape[axis] - 2, 0, 2]] if name == "split" else [])):
            x, other = ag.param(values), as_torch(values, True)
            parts, others = getattr(x, name)(size, axis), getattr(torch, name)(other, size, axis)
            assert len(parts) == len(others)
            for part, expected in zip(parts, others):
                same(part.detach(), expected.detach(), f"{name} value")
            (parts[0] * 2 + parts[0] * parts[0]).sum().backward()
            (others[0] * 2 + others[0] * others[0]).sum().backward()
            same(x.grad, other.grad, f"{name} gradient")
