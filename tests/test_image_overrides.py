"""The compiled kernels of images against their references, in every layout of memory; see test_overrides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_overrides import ODD, TOLERANCE, references_only, results

import ag
import ownt
from ag.ops.batch_norm import batch_norm_kernel, batch_norm_vjp, batch_stats_kernel
from ag.ops.conv import conv_input_vjp, conv_kernel, conv_weight_vjp
from ag.ops.pool import avg_pool_kernel, avg_pool_vjp, max_pool_kernel, max_pool_vjp
from ag.ops.window import Window
from ag.sample import Spec
from ownt import Tensor
from ownt.kernel import Kernel, Out
from ownt.layout import FROM_LAST, TO_LAST

OPS = ("conv2d", "batch_norm", "max_pool2d", "avg_pool2d")
LAYOUTS = {  # the shape of the memory in which images (N, C, H, W) lie, and how they are seen in it
    "first": (lambda n, c, h, w: (n, c, h, w), lambda x: x),
    "last": (lambda n, c, h, w: (n, h, w, c), lambda x: x.transpose(FROM_LAST)),
    "some of the last": (lambda n, c, h, w: (n, h, w, c + 3), lambda x: x[..., 1:-2].transpose(FROM_LAST)),
    "every second": (lambda n, c, h, w: (n, c, 2 * h, 2 * w), lambda x: x[:, :, ::2, 1::2]),
    "turned": (lambda n, c, h, w: (w, h, c, n), lambda x: x.transpose((3, 2, 1, 0))),
}
WINDOW = Window((3, 2), (2, 1), (1, 1), (1, 1))
IMAGES, SEEN, WEIGHTS = (2, 18, 7, 5), (2, 34, 4, 6), (34, 9, 3, 2)  # and what a convolution in two groups sees of them
POOLED = (2, 18, 4, 6)
CHANNELS, STATS = (18,), (2, 18)
CALLS = {  # a kernel, shapes of tensors or other arguments, and shapes of destinations
    "conv": (conv_kernel, (IMAGES, WEIGHTS, SEEN[1:2], WINDOW, 2), {"out": SEEN}),
    "conv of one group": (conv_kernel, (IMAGES, (5, *IMAGES[1:2], 3, 2), None, WINDOW, 1), {"out": (2, 5, 4, 6)}),
    "conv of inputs": (conv_input_vjp, (SEEN, WEIGHTS, WINDOW, 2), {"out": IMAGES}),
    "conv of weights": (conv_weight_vjp, (SEEN, IMAGES, WINDOW, 2), {"out": WEIGHTS}),
    "statistics": (batch_stats_kernel, (IMAGES, 1e-5), {"stats": STATS, "variance": CHANNELS}),
    "norm": (batch_norm_kernel, (IMAGES, STATS, CHANNELS, CHANNELS, IMAGES, True), {"out": IMAGES}),
    "norm alone": (batch_norm_kernel, (IMAGES, STATS, None, None, None, False), {"out": IMAGES}),
    "gradients of a norm": (
        batch_norm_vjp, (IMAGES, IMAGES, STATS, CHANNELS, CHANNELS, IMAGES, True, True),
        {"dx": IMAGES, "dgain": CHANNELS, "dshift": CHANNELS, "dresidual": IMAGES},
    ),
    "gradients in evaluation": (
        batch_norm_vjp, (IMAGES, IMAGES, STATS, None, CHANNELS, None, True, False),
        {"dx": IMAGES, "dgain": None, "dshift": CHANNELS, "dresidual": None},
    ),
    "residual's gradient": (
        batch_norm_vjp, (IMAGES, IMAGES, STATS, CHANNELS, None, IMAGES, True, True),
        {"dx": None, "dgain": None, "dshift": None, "dresidual": IMAGES},
    ),
    "means": (avg_pool_kernel, (IMAGES, WINDOW, False), {"out": POOLED}),
    "gradients of means": (avg_pool_vjp, (POOLED, WINDOW, True), {"out": IMAGES}),
}  # fmt: skip


def shaped(part):
    return isinstance(part, tuple) and type(part) is not Window


def laid(values, layout):
    """The memory, NaN where there are no images, and the images in it, of these values. Fewer axes lie as ever."""
    if values.ndim != 4:
        made = ownt.Tensor(values.copy())
        return made, made
    shape, view = LAYOUTS[layout]
    memory = ownt.full(shape(*values.shape), np.nan if values.dtype.kind == "f" else 99, dtype=values.dtype)
    seen = view(memory)
    seen[...] = values
    return memory, seen


def run(kernel, inputs, outs, layouts, beta):
    """What the kernel makes of inputs and destinations so laid out, beside whose memory it writes nothing."""
    inputs = [laid(part, layouts[0])[1] if isinstance(part, np.ndarray) else part for part in inputs]
    places = {name: part if part is None else laid(part, layouts[1]) for name, part in outs.items()}
    kernel(*inputs, **{name: place and Out(place[1], beta) for name, place in places.items()})
    found = {name: place[1].numpy() for name, place in places.items() if place}
    for name, values in found.items():
        assert np.isnan(places[name][0].numpy()).sum() == places[name][0].size - values.size
    return found


def alike(found, expected, tolerance=1e-11):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("name", "beta"), [(n, b) for n in CALLS for b in (0, 1) if (n, b) != ("statistics", 1)])
def test_kernels_read_and_write_in_any_layout(name, beta, monkeypatch):
    kernel, inputs, outs = CALLS[name]
    draw = np.random.default_rng(1)
    inputs = [draw.normal(size=part) if shaped(part) else part for part in inputs]
    outs = {name: part and draw.normal(size=part) for name, part in outs.items()}
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "_bind", references_only)
        expected = run(kernel, inputs, outs, ("first", "first"), beta)
    for layouts in itertools.product(LAYOUTS, repeat=2):
        alike(run(kernel, inputs, outs, layouts, beta), expected)


@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, repeat=2)), ids=str)
def test_the_largest_and_its_gradient_in_any_layout(layouts):
    draw = np.random.default_rng(1)
    x = draw.choice([0.0, 1, 2, 3, np.inf, -np.inf, np.nan], IMAGES)  # many are equal
    made = {"out": np.zeros(POOLED), "tap": np.zeros(POOLED, "uint8")}
    g, found = draw.normal(size=POOLED), {}
    for kind in (("first", "first"), layouts):
        _, seen = laid(x, kind[0])
        places = {name: laid(part, kind[1])[1] for name, part in made.items()}
        max_pool_kernel(seen, WINDOW, **{name: Out(place) for name, place in places.items()})
        _, dx = laid(np.ones(IMAGES), kind[1])
        max_pool_vjp(laid(g, kind[0])[1], places["tap"], WINDOW, out=Out(dx, 1))
        found[kind] = {**{name: place.numpy() for name, place in places.items()}, "dx": dx.numpy()}
    alike(found[layouts], found["first", "first"])


# through the ops


def with_channels_last(name, args):
    """The arguments with images, but not the weights of a convolution, so laid out."""

    def turned(a):
        return ownt.empty([a.shape[i] for i in TO_LAST], dtype=a.dtype).transpose(FROM_LAST).copy_(a)

    images = [type(a) is Tensor and a.ndim == 4 and (i == 0 or name != "conv2d") for i, a in enumerate(args)]
    return [turned(a) if image else a for a, image in zip(args, images)]


def made(sample, dtype):
    return [part.make(dtype) if isinstance(part, Spec) else part for part in sample.args]


@pytest.mark.parametrize("first", [None, np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPS)
def test_images_with_their_channels_last(name, dtype, first, monkeypatch):
    for sample in ODD[name]:
        args = made(sample, dtype)
        if first is not None:
            args[0][(0,) * args[0].ndim] = first
        found = results(name, with_channels_last(name, args), sample.options, dtype)
        with monkeypatch.context() as patch:
            patch.setattr(Kernel, "_bind", references_only)
            expected = results(name, args, sample.options, dtype)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], err_msg=str(sample))


@pytest.mark.parametrize("name", OPS[:3])
def test_no_reference_runs_on_them(name, monkeypatch):
    """Else the comparisons above would be of references with themselves."""
    ran, reference = set(), Kernel._run_reference
    monkeypatch.setattr(Kernel, "_run_reference", lambda self, *rest: (ran.add(self.name), reference(self, *rest))[1])
    for sample in ODD[name]:
        if len(sample.args[0].shape) == 4 and (16, 17) not in sample.args:  # whose 272 places are too many for a byte
            results(name, with_channels_last(name, made(sample, "float32")), sample.options, "float32")
    assert not {kernel for kernel in ran if kernel.startswith(("conv", "batch", "max_pool"))}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPS)
def test_gradients_add_to_those_that_are_there(name, dtype):
    """In leaves of either layout."""
    for sample in ODD[name]:
        plain = made(sample, dtype)
        for args in (plain, with_channels_last(name, plain)):
            leaves = [ag.param(a) if type(a) is Tensor else a for a in args]
            nodes, found = [leaf for leaf in leaves if type(leaf) is ag.Node], []
            g = None
            for _ in range(2):
                y = ag.registry[name](*leaves, **sample.options)
                g = ownt.randn(y.shape, dtype=dtype) if g is None else g
                y.backward(g)
                found.append([node.grad.numpy().copy() for node in nodes])
            for once, twice in zip(*found):
                np.testing.assert_allclose(twice, 2 * once, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
