"""Gradients of what convolutions, pools and norms are made into: parts used twice, sliced, turned, joined, hooked."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import nn
import ownt
from ownt.layout import FROM_LAST, channels_last


def norm(x, gain, shift, residual=None):
    return ag.batch_norm(x, gain, shift, residual, relu=True)


# Functions of images x (2, 3, 5, 4), weights v (3, 3, 3, 3) and u (3, 3, 1, 1), gain and shift (3,).
GRAPHS = {
    "conv, norm, conv": lambda x, v, u, a, b: ag.conv2d(norm(ag.conv2d(x, v, padding=1), a, b), u, b),
    "a residual": lambda x, v, u, a, b: norm(ag.conv2d(norm(ag.conv2d(x, u), a, b), v, padding=1), b, a, x),
    "its own residual": lambda x, v, u, a, b: ag.conv2d(norm(x, a, b, x), u),
    "a result as its own residual": lambda x, v, u, a, b: next(norm(h, a, b, h) for h in [ag.conv2d(x, v)]),
    "one conv twice": lambda x, v, u, a, b: ag.conv2d(norm(ag.conv2d(x, v, b, padding=1), a, b), v, b, padding=1),
    "one norm twice": lambda x, v, u, a, b: norm(ag.conv2d(norm(x, a, b), u), a, b),
    "gain for shift": lambda x, v, u, a, b: norm(x, a, a, x),
    "weights as images": lambda x, v, u, a, b: ag.conv2d(v, v, padding=1, stride=2),
    "two convs of one": lambda x, v, u, a, b: ag.conv2d(x, v, padding=1) * ag.conv2d(x, u),
    "stages of a net": lambda x, v, u, a, b: ag.linear(
        ag.mean(ag.conv2d(ag.max_pool2d(norm(ag.conv2d(x, v, padding=1), a, b), 3, 2, 1), u), (2, 3)), u[:, :, 0, 0]
    ),
    "flattened": lambda x, v, u, a, b: ag.reshape(ag.conv2d(x, u), (2, -1))[:, ::7] * 2.0,
    "slices of a result": lambda x, v, u, a, b: next(h[:, 1:, :3] * h[:, :2, 1:4] for h in [ag.conv2d(x, u)]),
    "a slice of images": lambda x, v, u, a, b: ag.conv2d(x[:, :, 1:, ::2], u, b) + ag.conv2d(x[:, :, :4, 1::2], u),
    "turned": lambda x, v, u, a, b: ag.conv2d(ag.conv2d(x, u).transpose(0, 1, 3, 2), v) + x[:, :, :2, 1:],
    "joined": lambda x, v, u, a, b: ag.concat([ag.conv2d(x, u), norm(x, a, b)], axis=1).sum(axis=2),
    "means": lambda x, v, u, a, b: ag.avg_pool2d(ag.conv2d(x, u, b), 2, 1, 1, False) * ag.avg_pool2d(x, 2, 1, 1),
    "slices of weights": lambda x, v, u, a, b: ag.conv2d(x, v[1:, :, 1:, ::2], a[1:], groups=1),
    "groups": lambda x, v, u, a, b: ag.conv2d(x, v[:, :1], b, (2, 1), (1, 2), (1, 2), 3),
    "one pixel": lambda x, v, u, a, b: norm(ag.conv2d(x[:, :, :1, :1], v, padding=1), a, b, x[:, :, 1:2, 1:2]),
}  # fmt: skip


def drawn():
    """Numbers of which no ReLU's input is near 0."""
    draw = np.random.default_rng(3)
    return [draw.normal(size=shape) for shape in ((2, 3, 5, 4), (3, 3, 3, 3), (3, 3, 1, 1), (3,), (3,))]


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_equal_differences_along_directions(name):
    """Of each argument alone, so that none makes up for another; used beside the graph too, before it and after."""
    arrays, draw, eps = drawn(), np.random.default_rng(4), 1e-6
    nodes = [ag.param(ownt.Tensor(array)) for array in arrays]
    before = [node * 2.0 for node in nodes]
    y = GRAPHS[name](*nodes)
    weights = draw.normal(size=y.shape)
    total = ag.sum(y * weights)
    for node in (*before, *nodes):
        total = total + ag.sum(node)
    total.backward()

    def value(at):
        with ag.no_grad():
            return float((GRAPHS[name](*map(ownt.Tensor, at)).numpy() * weights).sum())

    for i, node in enumerate(nodes):
        for _ in range(3):
            direction = draw.normal(size=node.shape)
            ends = [
                value([a + step * direction if j == i else a for j, a in enumerate(arrays)]) for step in (eps, -eps)
            ]
            expected = (ends[0] - ends[1]) / (2 * eps) + 3 * direction.sum()
            assert (node.grad.numpy() * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_float32_is_near_float64_and_so_is_float16(name):
    found = {}
    for dtype in ("float64", "float32", "float16"):
        nodes = [ag.param(ownt.Tensor(array.astype(dtype))) for array in drawn()]
        y = GRAPHS[name](*nodes)
        assert y.dtype == dtype
        y.backward(ownt.ones(y.shape, dtype=dtype))
        assert all(node.grad is None or node.grad.dtype == dtype for node in nodes)
        found[dtype] = np.concatenate(
            [y.numpy().ravel(), *(n.grad.numpy().ravel() for n in nodes if n.grad is not None)]
        )
    size = np.linalg.norm(found["float64"])
    for dtype, share in (("float32", 1e-5), ("float16", 2e-2)):
        assert np.linalg.norm(found[dtype] - found["float64"]) < share * size


def test_hooks_see_and_replace_gradients_between_layers():
    x, w, found = ag.param(drawn()[0]), ag.param(drawn()[1]), []
    for doubled in (False, True):
        seen = []

        def double(g, seen=seen):
            seen.append(g.shape)
            return ownt.Tensor(np.ascontiguousarray(2 * g.numpy()))  # whose channels lie first

        h = ag.conv2d(x, w, padding=1)
        y = ag.batch_norm(h, residual=x, relu=True)
        for node in (h, y) if doubled else ():
            node.register_hook(double)
        ag.zero_grad([x, w])
        ag.sum(ag.conv2d(y, w[:, :, :2])).backward()
        found.append(w.grad.numpy().copy())
    assert seen == [y.shape, h.shape]
    last = ag.param(w.tensor)  # the share of its gradient that comes by no hook
    ag.sum(ag.conv2d(y.detach(), last[:, :, :2])).backward()
    plain, doubled = (grad - last.grad.numpy() for grad in found)
    np.testing.assert_allclose(doubled, 4 * plain, rtol=1e-9, atol=1e-9)


# how images, and their gradients, lie in memory


def last(*shape):
    n, c, h, w = shape
    return ownt.randn(n, h, w, c).transpose(FROM_LAST).clone()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (1, 1, 1, 1), (0, 3, 2, 2)])
def test_scratch_alike(shape):
    first, turned = ownt.randn(*shape), ownt.empty(shape[0], *shape[2:], shape[1]).transpose(FROM_LAST)
    assert not channels_last(first.array)
    assert channels_last(turned.array) == (shape == (2, 3, 4, 5))  # of the others it is one order or the other
    for x in (first, turned, turned[:, :, ::2], first.transpose(1, 0, 2, 3)):
        made = ownt.scratch.alike(x)
        assert (made.shape, made.dtype) == (x.shape, x.dtype)
        assert channels_last(made.array) == channels_last(x.array)
        assert made.is_contiguous or channels_last(made.array)


def test_gradients_lie_as_their_leaves():
    for leaf in (ag.param(last(2, 3, 4, 5)), ag.param(ownt.randn(2, 3, 4, 5))):
        ag.sum(leaf * leaf).backward()
        assert leaf.grad.array.strides == leaf.tensor.array.strides
        for given in (last(2, 3, 4, 5), ownt.randn(2, 3, 4, 5)):
            leaf.grad = given
            assert leaf.grad.array.strides == leaf.tensor.array.strides
            np.testing.assert_array_equal(leaf.grad.numpy(), given.numpy())


@pytest.mark.parametrize("kind", [nn.SGD, nn.AdamW, nn.Lion])
def test_weights_in_either_layout_are_updated_alike(kind):
    found, values = [], last(4, 3, 3, 5)
    for tensor in (values.clone(), ownt.Tensor(values.numpy().copy(order="C"))):
        leaf = ag.param(tensor)
        optimizer = kind([leaf], lr=0.1)
        for _ in range(3):
            ag.sum(leaf * leaf * leaf).backward()
            nn.clip_grad_norm_([leaf], 0.5)
            optimizer.step()
            optimizer.zero_grad()
        found.append(leaf.numpy())
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)
