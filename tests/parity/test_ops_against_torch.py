"""Every op against PyTorch: values and gradients for many shapes, layouts and extreme numbers; and what it refuses."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from torch_functions import CASES, LEFT_OUT, TABLE, Values, as_torch, heads_of
from torch_routes import placed, routes_of, seen

import ag
import ownt
from ag import pieces
from ag.sample import Sample, Spec, integers, normal
from ownt import Tensor

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity

CALLS = [(name, sample) for name, more in CASES.items() for sample in [*ag.registry[name].samples, *more]]
every_call = pytest.mark.parametrize(
    ("name", "sample"), CALLS, ids=[" ".join(f"{name}-{sample}".split())[:60] for name, sample in CALLS]
)


def arguments(sample, dtype):
    """Arguments of a call: tensors for Specs and Values; a list of tensors, as for concat, is spread."""
    args = sample.args[0] if isinstance(sample.args[0], list) else sample.args
    return [arg.make(dtype) if isinstance(arg, (Spec, Values)) else arg for arg in args], sample.options


def run_torch(name, args, options):
    """The op in torch: its value, the gradient of each argument, None if it has none, and its own random gradient."""
    tensors = [as_torch(arg, requires_grad=True) for arg in args]
    y = TABLE[name](*tensors, **options)
    g = ownt.randn(tuple(y.shape), dtype=str(y.dtype).removeprefix("torch."))
    y.backward(as_torch(g))
    return y.detach().numpy(), [t.grad.numpy() if getattr(t, "grad", None) is not None else None for t in tensors], g


def test_every_op_is_in_the_table_or_left_out_for_a_reason():
    ours = {name for name, op in ag.registry.items() if op.forward.__module__.startswith("ag.")}
    assert ours == TABLE.keys() | LEFT_OUT.keys()
    assert not TABLE.keys() & LEFT_OUT.keys()
    assert TABLE.keys() == CASES.keys()


def test_every_op_has_thirty_cases_or_more():
    counts = {name: len(more) + len(ag.registry[name].samples) for name, more in CASES.items()}
    assert {name: count for name, count in counts.items() if count < 30} == {}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_call
def test_value_and_gradients(name, sample, dtype, same):
    args, options = arguments(sample, dtype)
    value, gradients, g = run_torch(name, args, options)
    floats = [i for i, gradient in enumerate(gradients) if gradient is not None]
    each = [[i] for i in floats if len(floats) > 1]
    for route, wanted in product(routes_of(args), [floats, *each]):
        pairs = {i: seen(arg.numpy(), route, i in wanted) for i, arg in enumerate(args) if type(arg) is Tensor}
        y = ag.registry[name](*(pairs[i][1] if i in pairs else arg for i, arg in enumerate(args)), **options)
        same(y.detach(), value, f"{name} value, by {route}")
        y.backward(g)
        for i in wanted:
            same(pairs[i][0].grad, placed(gradients[i], route), f"{name} gradient {i} of {wanted}, by {route}")


def test_linear_cross_entropy_in_pieces(monkeypatch, same):
    monkeypatch.setitem(pieces.LOGITS, "cpu", pieces.Size(0, 64))
    sample = Sample(normal(150, 3), normal(4, 3), integers(4, 150), ignore_index=1)
    test_value_and_gradients("linear_cross_entropy", sample, "float64", same)


@every_call
def test_gradients_add_to_what_is_there(name, sample, same):
    """Of other uses of the same inputs, before and after, and of an earlier backward."""
    args, options = arguments(sample, "float64")
    _, gradients, g = run_torch(name, args, options)
    leaves = {i: ag.param(args[i]) for i, gradient in enumerate(gradients) if gradient is not None}
    for _ in range(2):
        used = {i: leaf * 1.0 for i, leaf in leaves.items()}
        before = [x * 5.0 for x in used.values()]
        y = ag.registry[name](*(used.get(i, arg) for i, arg in enumerate(args)), **options)
        after = [x * 3.0 for x in used.values()]
        total = (y * g).sum()
        for other in (*before, *after):
            total = total + other.sum()
        total.backward()
    for i, leaf in leaves.items():
        same(leaf.grad, 2 * (gradients[i] + 8), f"{name} gradient {i}")


STARTS = {
    "a leaf": lambda x: x,
    "a result": lambda x: x * 1.5,
    "a view of a leaf": lambda x: x.reshape(4, 4).T,
    "a view of a result": lambda x: x.exp()[0:4, 0:4].T,
}
USES = {  # of x (4, 4), through views that share elements; what is tapped may have a hook
    "square": lambda x, tap: x * x,
    "sum with itself": lambda x, tap: tap(x) + x,
    "difference from itself": lambda x, tap: x - x,
    "quotient": lambda x, tap: x / (tap(x[0:1]) * x[0:1] + 1),
    "gram": lambda x, tap: tap(x.T) @ x,
    "cube": lambda x, tap: tap(x) @ x @ tap(x.T),
    "overlap": lambda x, tap: tap(x[0:3]) * x[1:4] + tap(x[0:3]),
    "columns": lambda x, tap: x[:, 1:3] + tap(x[:, 2:4].relu()) * x[:, 0:2],
    "chain": lambda x, tap: tap(x.T[1:3]).reshape(-1).exp(),
    "chain of hooks": lambda x, tap: tap(tap(tap(x[1:])[1:])[:, ::2]).T.tanh() * 2,
    "two shapes": lambda x, tap: tap(x.reshape(-1)[4:12].reshape(2, 4)) * x[1:3],
    "rows": lambda x, tap: x[1] * tap(x[1, 2]) + tap(x[-1]) * x[1],
    "softmax of a view": lambda x, tap: tap(x.reshape(2, 8).T)[3:7].softmax(-1) * tap(x[:, 0:2]),
    "sums": lambda x, tap: tap(x.sum(0)) * tap(x.T).sum(1) + x.mean(1, True),
    "copies": lambda x, tap: tap(x[[0, 2, 2]]) * x[1:4],
    "lent on": lambda x, tap: tap(x.reshape(16) + x.T.reshape(16)).reshape(2, 8) + x.reshape(2, 8),
}


def with_hooks(use, x, g, hook):
    """The value, the gradient of the leaf, and what hooks saw at each tap."""
    taps, saw = [], {}

    def tap(part):
        number = len(taps)
        taps.append(part)
        if hook:
            part.register_hook(lambda grad: saw.update({number: grad.numpy().copy()}) or hook(grad))
        return part

    y = use(x, tap)
    y.backward(g)
    return y.detach(), x.grad, saw


@pytest.mark.parametrize("factor", [None, 1, 2], ids=["unwatched", "watched", "doubled"])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", USES)
def test_shared_views(name, start, factor, same):
    values = ownt.randn(4, 4, dtype="float64")
    use = lambda x, tap: USES[name](STARTS[start](x), tap)
    g = ownt.randn(tuple(use(as_torch(values), lambda part: part).shape), dtype="float64")
    theirs = with_hooks(use, as_torch(values, True), as_torch(g), factor and (lambda grad: grad * factor))
    ours = with_hooks(use, ag.param(values), g, factor and (lambda grad: ownt.Tensor(grad.numpy() * factor)))
    same(ours[0], theirs[0], "views value")
    same(ours[1], theirs[1], "views gradient")
    assert ours[2].keys() == theirs[2].keys()
    for number, gradient in theirs[2].items():
        same(ours[2][number], gradient, f"views hook {number}")


def test_a_hook_on_a_leaf_sees_each_backward_alone(same):
    grads = []
    for x in (ag.param(np.ones(3)), torch.ones(3, dtype=torch.float64, requires_grad=True)):
        x.register_hook(lambda grad: ownt.Tensor(grad.numpy() * 2) if type(grad) is Tensor else grad * 2)
        (x * 3).sum().backward()
        (x * 5).sum().backward()
        grads.append(x.grad)
    same(*grads, "hooks gradient")


TWICE = {name: lambda x: (x, x) for name in ("add", "sub", "mul", "div", "pow", "matmul", "linear")} | {
    "concat": lambda x: (x, x, x),
    "layer_norm": lambda x: (x.reshape(16),) * 3,
    "rms_norm": lambda x: (x.reshape(16),) * 2,
    "gelu_linear": lambda x: (x, x.T),
    "norm_linear": lambda x: (x, None, None, x),
    "conv2d": lambda x: (x.reshape(4, 4, 1, 1),) * 2,
    "batch_norm": lambda x: (x, None, None, x),
    "linear_cross_entropy": lambda x: (x, x, np.array([1, 0, 3, 3])),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", TWICE)
def test_one_input_given_twice(name, start, same):
    values = ownt.rand(4, 4, dtype="float64")
    x, leaf = as_torch(values, True), ag.param(values)
    expected = TABLE[name](*map(as_torch, TWICE[name](STARTS[start](x))))
    g = ownt.randn(tuple(expected.shape), dtype="float64")
    expected.backward(as_torch(g))
    y = ag.registry[name](*TWICE[name](STARTS[start](leaf)))
    y.backward(g)
    same(y.detach(), expected.detach(), f"{name} value")
    same(leaf.grad, x.grad, f"{name} gradient")


@pytest.mark.parametrize("chunks", [(9,), (1,) * 9, (4, 1, 1, 3), (1, 8)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cached_attention(chunks, dtype, same):
    qkv = ownt.randn(2, 9, 24, dtype=dtype)
    kept = [ownt.full((2, 2, 11, 4), math.nan, dtype=dtype) for _ in range(2)]  # NaN where nothing may be read
    starts = np.cumsum((0, *chunks))
    parts = [ag.cached_attention(qkv[:, a:b], *kept, int(a)).numpy() for a, b in zip(starts, starts[1:])]
    same(np.concatenate(parts, 1), TABLE["causal_attention"](as_torch(qkv), 2), "cached_attention value")
    for mine, theirs in zip(kept, heads_of(as_torch(qkv), 2)[1:]):
        same(mine[:, :, :9], theirs, "cached_attention cache")


REFUSED = {
    "add": [Sample(normal(2, 3), normal(4)), Sample(normal(0, 3), normal(2, 3))],
    "pow": [Sample(normal(2, 1, 2), normal(3, 3))],
    "gelu": [Sample(normal(3), approximate="erf")],
    "softmax": [Sample(normal(2, 3), 2), Sample(integers(9, 2, 3))],
    "sum": [Sample(normal(2, 3), axis=2), Sample(normal(2, 3), axis=(0, -2))],
    "mean": [Sample(normal(2, 3), axis=-3), Sample(integers(9, 2, 3))],
    "reshape": [*(Sample(normal(6), shape) for shape in [(4,), (-1, -1), (-1, 4)]), Sample(normal(0), (-1, 0))],
    "transpose": [Sample(normal(2, 3), axes) for axes in [(0, 0), (0,), (0, 2)]],
    "getitem": [Sample(normal(3), key) for key in [(3,), (0, 0), (slice(None, None, 0),)]],
    "index": [Sample(normal(3, 3), key) for key in [([0, 3],), ([True, False],), ([0, 1], [0, 1, 2])]],
    "concat": [
        Sample(parts) for parts in [[], [normal(2, 3), normal(2, 4)], [normal(2, 3), normal(2)], [normal()] * 2]
    ],
    "matmul": [
        Sample(normal(2, 3), normal(4, 5)),
        Sample(normal(2, 3, 4), normal(3, 4, 5)),
        Sample(normal(), normal(3)),
    ],
    "linear": [Sample(normal(2, 3), normal(4, 5)), Sample(normal(2, 3), normal(4, 3), normal(3))],
    "gelu_linear": [Sample(normal(2, 3), normal(3, 4))],
    "norm_linear": [Sample(normal(2, 3), normal(2), normal(3), normal(5, 3))],
    "layer_norm": [Sample(normal(2, 3), normal(2)), Sample(normal(2, 3), normal(3), normal(1))],
    "rms_norm": [Sample(normal(2, 3), normal(2))],
    "embedding": [Sample(Values(given), normal(3, 2)) for given in ([0, 3], [-1], [0.5])],
    "cross_entropy": [Sample(normal(2, 3), Values(given)) for given in ([0, 3], [-1, 0], [0, 1, 2])],
    "linear_cross_entropy": [
        Sample(normal(2, 3), normal(5, 3), Values([0, 5])),
        Sample(normal(2), normal(5, 3), Values(0)),
    ],
    "causal_attention": [Sample(normal(1, 2, 12), 3), Sample(normal(2, 12), 2)],
    "conv2d": [
        *(Sample(normal(1, 3, 4, 4), normal(*w)) for w in [(2, 4, 3, 3), (2, 3, 5, 1), (2, 3, 3)]),
        *(Sample(normal(1, 3, 4, 4), normal(2, 3, 3, 3), None, *rest) for rest in [(0,), (1, -1), (1, 0, 0)]),
        *(Sample(normal(1, 4, 4, 4), normal(3, 2, 1, 1), groups=groups) for groups in (2, 0)),
        Sample(normal(1, 3, 4, 4), normal(2, 3, 1, 1), normal(3)),
    ],
    "batch_norm": [
        *(Sample(normal(*shape), normal(3)) for shape in [(1, 3), (1, 3, 1, 1), (2, 4)]),
        Sample(normal(2, 3), training=False),
    ],
    "max_pool2d": [Sample(normal(1, 1, 4, 4), *rest) for rest in [(5,), (0,), (3, 0), (3, 1, 2), (2, 1, 0, 4)]],
    "avg_pool2d": [Sample(normal(1, 1, 4, 4), *rest) for rest in [(5,), (0,), (3, 0), (3, 1, 2)]],
}


@pytest.mark.parametrize(("name", "sample"), [(name, sample) for name, wrong in REFUSED.items() for sample in wrong])
def test_wrong_arguments_are_refused_by_both(name, sample):
    args, options = arguments(sample, "float32")
    with pytest.raises((ValueError, TypeError, IndexError)):
        ag.registry[name](*args, **options)
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError)):
        TABLE[name](*map(as_torch, args), **options)


@pytest.mark.parametrize("name", ["matmul", "linear"])
def test_mixed_dtypes_are_refused_by_both(name):
    a, b = ownt.ones(3, 3, dtype="float32"), ownt.ones(3, 3, dtype="float64")
    with pytest.raises(TypeError):
        ag.registry[name](a, b)
    with pytest.raises(RuntimeError):
        TABLE[name](as_torch(a), as_torch(b))


def overwritten(x):
    y = x.exp()
    data = y.detach()  # of the same memory
    (data.tensor if isinstance(data, ag.Node) else data)[...] = 2
    y.sum().backward()


WRONG = {
    "of a vector": lambda x: x.exp().backward(),
    "twice": lambda x: [y.backward() for y in [x.exp().sum()] * 2],
    "of a constant": lambda x: x.detach().sum().backward(),
    "gradient of another shape": lambda x: x.exp().backward(x.detach()[:2]),
    "hook on a constant": lambda x: x.detach().register_hook(print),
    "what was saved is overwritten": overwritten,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_backwards_are_refused_by_both(wrong):
    for x in (ag.param(np.ones(3)), torch.ones(3, requires_grad=True)):
        with pytest.raises((RuntimeError, ValueError)):
            WRONG[wrong](x)
