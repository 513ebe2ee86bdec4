"""Losses, softmax and fused layers on the simulated device: what no sample of an op comes to."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from cases import TOLERANCE, Place, close, references_only
from compile_for_cpu import missing
from simulated import simulated

import ag
import ownt
from ag import pieces
from ag.ops import fused, loss, nll
from ag.ops.softmax_cuda import _in_rows
from ownt import Tensor
from ownt.cuda_rows import fits
from ownt.kernel import Kernel, Out

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]

INF, NAN = np.inf, np.nan
ROWS = [[-INF, 1, 2, -INF, 3], [-INF] * 5, [1, INF, 2, -INF, 0], [INF] * 5, [0, NAN, 1, INF, 2], [3e38, -3e38, 0, 1, 2]]


def there(values, dtype="float32") -> Tensor:
    """A tensor on the simulated device."""
    return Place(simulated, dtype, dtype).tensor(values)


def targets_of(values, dtype="int64") -> Tensor:
    return Tensor(np.asarray(values, dtype)).to("simulated")


def by_references(function):
    """What a function gives without overrides."""
    bind, Kernel._bind = Kernel._bind, references_only
    try:
        return function()
    finally:
        Kernel._bind = bind


@pytest.mark.parametrize("copies", [1, 9, 300])  # the last are rows of a block
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_infinite_numbers_and_nan_go_their_way(name, dtype, copies):
    x = np.repeat(np.array(ROWS, "float32"), copies, axis=1)

    def run(x):
        leaf = ag.param(x)
        y = ag.registry[name](leaf, axis=1)
        y.backward(ownt.ones(y.shape, dtype=y.dtype.name).to(x.device))
        return y.numpy().astype("float32"), leaf.grad.numpy().astype("float32")

    wanted = by_references(lambda: run(Tensor(there(x, dtype).numpy().astype("float32"))))
    for found, by_reference in zip(run(there(x, dtype)), wanted, strict=True):
        close(found, by_reference, TOLERANCE[dtype], name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("copies", [1, 9, 3000])
def test_losses_of_infinite_logits_and_nan(dtype, copies):
    """Wherever in a row NaN is: a thread sees it beside the largest, another does not see it."""
    rows = np.repeat(np.array([*ROWS, [0, 1, NAN, 2, 1], [NAN] * 5, [2, 0, 1, 0, NAN]]), copies, axis=1)
    x, targets = there(rows, dtype), np.array([4, 0, 1, 1, 0, 0, 0, 1, 2]) * copies
    found = ag.cross_entropy(x, targets_of(targets), reduction="none").numpy()
    given = x.numpy().astype("float32")
    wanted = by_references(lambda: ag.cross_entropy(given, targets, reduction="none").numpy())
    close(found, wanted, TOLERANCE[dtype], "cross_entropy")


@pytest.mark.parametrize("weighted", [False, True])
def test_a_target_that_is_no_class_is_not_looked_up(weighted):
    """The op refuses it; the kernel neither reads nor writes outside of a row."""
    x, weight = there(np.ones((3, 4))), there(np.ones(4)) if weighted else None
    targets, stats, out = targets_of([1, 4, -1]), there(np.zeros((3, 2))), there(np.zeros(3))
    loss.row_loss_kernel(x, targets, weight, -100, 0.0, out=Out(out), stats=Out(stats))
    close(out.numpy(), np.array([np.log(4), NAN, NAN], "float32"), 1e-6, "row_loss_kernel")
    nll.nll_kernel(x, targets, weight, -100, out=Out(out))
    close(out.numpy(), np.array([-1, NAN, NAN], "float32"), 1e-6, "nll_kernel")
    slopes = there(np.zeros((3, 4)))
    nll.nll_vjp(there(np.ones(3)), targets, weight, -100, out=Out(slopes))
    assert slopes.numpy().tolist() == [[0, -1, 0, 0], [0] * 4, [0] * 4]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_become_their_gradient(dtype):
    """Over the logits as beside them, in rows that begin anywhere."""
    x = np.random.default_rng(1).standard_normal((5, 1001))
    targets, share, stats = targets_of([0, 7, 1000, -100, 3]), there([1, 0.5, 2, 0, 1]), there(np.zeros((5, 2)))
    logits, beside = there(x, dtype), there(x, dtype)
    loss.row_loss_kernel(logits, targets, None, -100, 0.1, out=Out(there(np.zeros(5))), stats=Out(stats))
    loss.row_loss_vjp(share, logits, targets, None, stats, -100, 0.1, out=Out(beside))
    loss.row_loss_vjp(share, logits, targets, None, stats, -100, 0.1, out=Out(logits))
    assert np.array_equal(logits.numpy(), beside.numpy())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["norm_linear", "gelu_linear", "linear_cross_entropy"])
def test_many_pieces_are_one(name, dtype, monkeypatch):
    """Of half precision sums over pieces are float32, so that only rounding of the pieces themselves is seen."""
    random = np.random.default_rng(1)
    x, w, gain = (random.standard_normal(shape) for shape in ((23, 16), (8, 16), 16))
    results = []
    for size in (pieces.Size(1 << 20, 1), pieces.Size(0, 5)):
        monkeypatch.setitem(pieces.HIDDEN, "cuda", size)
        monkeypatch.setitem(pieces.LOGITS, "cuda", size)
        leaves = [ag.param(there(values, dtype)) for values in (x, w, gain)]
        if name == "norm_linear":
            y = ag.norm_linear(leaves[0], leaves[2], None, leaves[1])
        elif name == "gelu_linear":
            y = ag.gelu_linear(*leaves[:2], approximate="tanh")
        else:
            y = ag.linear_cross_entropy(*leaves[:2], targets_of(np.arange(23) % 8))
        y.backward(ownt.ones(y.shape, dtype=y.dtype.name).to("simulated"))
        results.append([y.numpy(), *(leaf.grad.numpy() for leaf in leaves if leaf.grad is not None)])
    for whole, parts in zip(*results, strict=True):
        close(parts.astype("float64"), whole.astype("float64"), 1e-5 if dtype == "float32" else 1e-2, name)


@pytest.mark.parametrize(
    ("width", "beta", "approximate", "one"),
    [
        (16, 0, "tanh", True),
        (16, 1, "tanh", False),  # the library adds before the slope
        (15, 0, "tanh", False),  # and wants rows of x that begin 8 numbers apart
        (16, 0, "none", False),  # and knows one formula
    ],
)
def test_a_product_takes_the_slope_of_gelu_where_it_can(width, beta, approximate, one):
    random = np.random.default_rng(1)
    g, w, x, out = (random.standard_normal(shape) for shape in ((7, 8), (8, width), (7, width), (7, width)))
    arrays = [there(values).array for values in (g, w, x)]
    dx = there(out)
    function, arguments = fused.matmul_gelu_vjp.bind(*arrays, approximate, out=Out(dx, beta), hidden=None)
    assert (getattr(function, "problem", None) is not None) == one
    function(*arguments)
    wanted, wanted_hidden = Tensor(out.astype("float64")), Tensor(np.zeros((7, width)))
    rounded = [np.float32(values) for values in (g, w, x)]
    outs = {"out": Out(wanted, beta), "hidden": Out(wanted_hidden)}
    fused.matmul_gelu_vjp.reference(*rounded, approximate, **outs)
    close(dx.numpy().astype("float64"), wanted.numpy(), 1e-5, "matmul_gelu_vjp")
    dx, hidden = there(out), there(out)
    function, arguments = fused.matmul_gelu_vjp.bind(*arrays, approximate, out=Out(dx, beta), hidden=Out(hidden))
    function(*arguments)
    close(dx.numpy().astype("float64"), wanted.numpy(), 1e-5, "matmul_gelu_vjp with the GELU")
    close(hidden.numpy().astype("float64"), wanted_hidden.numpy(), 1e-5, "the GELU of matmul_gelu_vjp")


def test_rows_too_many_or_too_wide_are_left_to_the_reference():
    for shape in ((1 << 31, 1), (1, 1 << 31)):
        assert not fits(*shape)
        many = SimpleNamespace(array=np.empty(shape, "bool"))  # memory that nobody touches
        assert _in_rows(None, shape, (1,), (), many) is None
    assert fits(1 << 20, 3)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["mish", "softplus", "elu"])
def test_activations_of_what_overflows_and_of_what_is_near_0(name, dtype):
    near = np.logspace(-4, 4, 99)
    x = there([NAN, INF, -INF, 0, *near, *-near], dtype)

    def run(x):
        leaf = ag.param(x)
        y = ag.registry[name](leaf)
        y.backward(ownt.ones(y.shape, dtype=y.dtype.name).to(x.device))
        return y.numpy().astype("float64"), leaf.grad.numpy().astype("float64")

    wanted = by_references(lambda: run(Tensor(x.numpy().astype("float64"))))
    for found, by_reference in zip(run(x), wanted, strict=True):  # of each number, not of the largest
        digits = 1e-5 if dtype == "float32" else TOLERANCE[dtype] / 8
        np.testing.assert_allclose(found, by_reference, digits, 1e-7, err_msg=name)
