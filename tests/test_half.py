"""Half precision: every op on every sample against float32, sums that are added up in float32, and what it costs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from test_ops import GRADIENTS, arguments, call, gradients, leaves

import ag
import nn
import ownt
from ag import kernels, pieces
from ag.ops import linear_loss
from ag.ops.embedding import embedding_vjp
from ag.ops.loss import row_loss_vjp
from ag.ops.matmul import affine_kernel, matmul_kernel
from nn import saving
from ownt import dtype as dtypes
from ownt import random
from ownt.kernel import Out

EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # the largest relative error of a number that is rounded once
HALVES = list(EPS)
LOSSES = ("cross_entropy", "linear_cross_entropy")  # which are float32, that one may see them fall
ROUNDINGS = 4  # of an op's result and gradients: of what goes on in between, such as a norm's result


def alike(found, expected, eps):
    """To the last digits of the largest number: what is next to 0 is a difference of such."""
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.01)
    np.testing.assert_allclose(found.astype("float64"), expected, rtol=ROUNDINGS * eps, atol=ROUNDINGS * eps * scale)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("op", "sample"), GRADIENTS)
def test_every_op_is_near_float32(op, sample, dtype):
    """Of the same numbers, those that half precision holds: op and gradient differ by a few roundings."""
    ownt.manual_seed(1)
    args, options = arguments(op, sample, dtype)
    state, found = random.generator.state, []
    weight = None
    for wanted in (dtype, "float32"):
        random.generator.state = state
        given = [a.astype(wanted) if isinstance(a, ownt.Tensor) and dtypes.is_float(a.dtype) else a for a in args]
        given = [ag.constant(a.tensor.astype(wanted)) if isinstance(a, ag.Node) else a for a in given]
        nodes = leaves(given)
        y = call(op, nodes, options)
        if weight is None:
            weight = np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype)
        assert y.dtype == ("float32" if op.name in LOSSES else wanted)
        y.backward(ownt.asarray(weight.astype(y.dtype)))
        found.append([y.numpy().copy(), *gradients(nodes)])
        assert all(n.grad is None or n.grad.dtype == wanted for n in nodes if isinstance(n, ag.Node))
    for half, single in zip(*found, strict=True):
        alike(half, single, EPS[dtype])


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_are_added_up_in_float32(dtype):
    """Of ten thousand ones a sum in bfloat16 stops at 256, as NumPy's does: the control."""
    ones = ownt.ones((10_000, 2), dtype=dtype)
    assert np.ones(10_000, ml_dtypes.bfloat16).sum() == 256
    rounded = np.asarray(10_000, dtype).item()
    assert ag.sum(ones[:, 0]).item() == rounded
    found = [ag.sum(ones, 0), ag.cumsum(ones, 0)[-1], ag.matmul(ones.T, ones)[0], ag.linear(ones.T, ones.T)[0]]
    assert all(node.numpy().tolist() == [rounded] * 2 for node in found)
    table = ag.param(ownt.zeros((3, 2), dtype=dtype))
    ag.sum(ag.embedding(np.ones(10_000, "int64"), table)).backward()
    assert table.grad.tolist() == [[0, 0], [rounded] * 2, [0, 0]]


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_many_pieces_are_rounded_once(dtype):
    """A layer that takes its rows in pieces adds up what each gives to the weights in float32."""
    drawn = np.random.default_rng(0).standard_normal
    arrays = [drawn((4000, 8)), drawn(8), drawn(8), drawn((5, 8))]
    wanted = []
    for kind in (dtype, "float32"):
        x, *rest = (ag.param(ownt.asarray(a.astype(dtype)).astype(kind)) for a in arrays)
        ag.norm_linear(x, *rest).backward(ownt.ones((4000, 5), dtype=kind))
        targets = np.arange(4000) % 5
        heads = ag.param(rest[2].tensor)
        ag.linear_cross_entropy(ag.constant(x.tensor), heads, targets, reduction="sum").backward()
        wanted.append([node.grad.numpy().astype("float64") for node in (*rest, heads)])
    for half, single in zip(*wanted, strict=True):
        alike(half, single, EPS[dtype])


@pytest.mark.parametrize("dtype", HALVES)
def test_a_destination_that_is_added_to_counts(dtype):
    x = ownt.asarray([[1.0, 2.0]], dtype=dtype)
    for launch in (
        lambda out: kernels.scale(x, 3.0, out=out),
        lambda out: matmul_kernel(x, ownt.asarray([[3.0, 0.0], [0.0, 3.0]], dtype=dtype), out=out),
        lambda out: affine_kernel(x, ownt.asarray([[3.0, 0.0], [0.0, 3.0]], dtype=dtype), None, out=out),
    ):
        y = ownt.asarray([[np.nan, np.nan]], dtype=dtype)
        launch(Out(y))
        launch(Out(y, 1))
        assert y.tolist() == [[6, 12]]


def test_an_input_that_is_written_over_is_what_is_written():
    """The same array as input and destination: of logits, which become their gradient, one copy is made."""
    logits = ownt.asarray([[1.0, 2.0, -1.0], [3.0, 4.0, 0.5]], dtype="bfloat16")
    apart, scratch = ownt.empty(2, 3, dtype="bfloat16"), ownt.memory.scratch()
    share, targets = ownt.ones(2), ownt.asarray([0, 2])
    stats = ownt.asarray([[2.0, 0.0], [4.0, 0.0]])
    taken = []
    for target in (apart, logits):
        scratch.trace = []
        row_loss_vjp(share, logits, targets, None, stats, -100, 0.0, out=Out(target))
        taken.append(len(scratch.trace))
        scratch.trace = None
    assert logits.tolist() == apart.tolist() != [[0, 0, 0], [0, 0, 0]]
    assert taken == [2, 1]


def test_strides_are_kept():
    """Images with their channels last stay so, and windows of any strides are read and written."""
    x = ag.param(ownt.randn(2, 5, 4, 3, dtype="bfloat16").transpose(0, 3, 1, 2))
    w = ownt.randn(4, 3, 3, 3, dtype="bfloat16")
    y = ag.conv2d(x, w, padding=1)
    assert y.tensor.transpose(0, 2, 3, 1).is_contiguous
    wide = ownt.full((2, 9), 5.0, dtype="bfloat16")
    matmul_kernel(ownt.ones((2, 2), dtype="bfloat16"), ownt.ones((2, 4), dtype="bfloat16"), out=Out(wide[:, 1::2], 1))
    assert wide.tolist() == [[5, *[7, 5] * 4]] * 2


def test_what_only_moves_takes_no_workspace():
    """A table of embeddings is not copied for a few rows of it; a product's operands are (the control)."""
    table, scratch = ownt.ones((1000, 64), dtype="bfloat16"), ownt.memory.scratch()
    held = []
    for function in (lambda: ag.embedding([1, 2], table), lambda: ag.matmul(table[:2], table.T)):
        scratch.trace = []
        y = function()
        held.append(max(size for _, size in scratch.trace))
        scratch.trace = None
        del y
    assert held[0] <= 2 * 64 * 4 < 1000 * 64 * 4 <= held[1]


def test_embeddings_that_meet_in_a_row_add_up_in_float32():
    total = ownt.zeros((2, 1), dtype="bfloat16")
    embedding_vjp(ownt.full((300, 1), 1.0, dtype="bfloat16"), ownt.zeros((300,), dtype="int64"), out=Out(total, 1))
    embedding_vjp(ownt.full((300, 1), 1.0, dtype="bfloat16"), ownt.zeros((300,), dtype="int64"), out=Out(total, 1))
    assert total.tolist() == [[600], [0]]


def test_float32_and_float64_still_do_not_meet():
    with pytest.raises(TypeError, match="kernel scale: expected float32 like its output; got float64"):
        kernels.scale(ownt.ones(3, dtype="float64"), 2.0, out=Out(ownt.ones(3)))
    with pytest.raises(TypeError, match="kernel scale: expected bfloat16 like its output; got float64"):
        kernels.scale(ownt.ones(3, dtype="float64"), 2.0, out=Out(ownt.ones(3, dtype="bfloat16")))
    with pytest.raises(TypeError, match="add: expected tensors of one dtype; got bfloat16 and float32"):
        ag.add(ownt.ones(3, dtype="bfloat16"), ownt.ones(3))


def trained(dtype, steps=60, **options):
    """Losses and the final weights of a small GPT that learns a fixed text."""
    ownt.manual_seed(0)
    config = nn.GPTConfig(vocab_size=65, block_size=24, n_layer=2, n_head=2, n_embd=32, **options)
    model = nn.GPT(config).to(dtype=dtype)
    tokens = np.random.default_rng(0).integers(0, 65, (3, 24))
    step = nn.Step(model.loss, nn.AdamW(model.parameters(), lr=1e-3))
    losses = [step(tokens, tokens).item() for _ in range(steps)]
    assert steps < 3 or not step.why_not
    return losses, model


def test_a_gpt_of_bfloat16_trains_as_one_of_float32():
    """Loss by loss within 1 %, though the weights have eight binary digits: their masters are float32."""
    half, model = trained("bfloat16")
    single, _ = trained("float32")
    assert {node.dtype for node in model.parameters()} == {dtypes.bfloat16}
    assert single[-1] < 0.6 * single[0]
    np.testing.assert_allclose(half, single, rtol=0.01)


def test_bytes_of_gradients_are_bytes_of_parameters():
    _, model = trained("bfloat16", steps=1)
    model.loss(np.zeros((1, 4), "int64"), np.zeros((1, 4), "int64")).backward()
    weights = list(model.parameters())
    assert sum(w.grad.nbytes for w in weights) == sum(w.tensor.nbytes for w in weights)
    assert sum(w.tensor.nbytes for w in weights) == 2 * sum(w.size for w in weights)


def test_a_model_of_bfloat16_is_saved_and_loaded(tmp_path):
    _, model = trained("bfloat16", steps=2)
    saving.save(model, tmp_path)
    again = saving.load(tmp_path)
    assert again.wte.weight.dtype == "bfloat16"
    for name, tensor in model.state_dict().items():
        assert np.array_equal(tensor.numpy(), again.state_dict()[name].numpy()), name


def losses_and_gradients(dtype, arrays, g, **options):
    """Of linear_cross_entropy; weights and inputs wanted as `frozen`, if given, leaves them."""
    frozen = options.pop("frozen", None)
    nodes = [ag.param(ownt.asarray(array).astype(dtype)) for array in arrays]
    given = [ag.constant(node.tensor) if name == frozen else node for name, node in zip("xw", nodes, strict=True)]
    for _ in range(2):  # the second time it is added
        y = ag.linear_cross_entropy(*given, np.arange(60) % 7, **options)
        y.backward(ownt.asarray(g, dtype=y.dtype))
    return [y.numpy(), *(node.grad.numpy().astype("float64") for node in nodes if node.grad is not None)]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("g", "options"),
    [
        (1.0, {}),
        (65536.0, {"ignore_index": 3}),
        (1.0, {"reduction": "sum"}),
        (1.0, {"frozen": "x", "label_smoothing": 0.1}),
        (1.0, {"frozen": "w"}),
        (1.0, {"ignore_index": 3, "reduction": "sum"}),
    ],
)
def test_gradients_made_with_the_logits_are_those_made_later(dtype, g, options, monkeypatch):
    drawn = np.random.default_rng(0).standard_normal
    arrays = [drawn((60, 8)).astype(dtype), drawn((7, 8)).astype(dtype)]
    monkeypatch.setitem(pieces.LOGITS, "cpu", pieces.Size(0, 16))
    ahead = losses_and_gradients(dtype, arrays, g, **options)
    wanted = losses_and_gradients("float32", arrays, g, **options)
    assert len(ahead) == len(wanted) == (2 if "frozen" in options else 3)
    for half, single in zip(ahead, wanted, strict=True):
        alike(half, single, 2 * EPS[dtype])


def test_logits_are_made_once_and_gradients_ahead_only_where_they_will_be_wanted(monkeypatch):
    made, product = [], linear_loss.matmul_kernel
    monkeypatch.setattr(linear_loss, "matmul_kernel", lambda *a, out: (made.append(out), product(*a, out=out)))
    monkeypatch.setitem(pieces.LOGITS, "cpu", pieces.Size(0, 16))
    x, w = (ag.param(ownt.ones(shape, dtype="bfloat16")) for shape in ((64, 8), (7, 8)))
    targets = np.zeros(64, "int64")
    with ag.no_grad():
        ag.linear_cross_entropy(x, w, targets)
    assert len(made) == 4
    ag.linear_cross_entropy(x, w, targets).backward()
    assert len(made) == 4 + 12
    ag.linear_cross_entropy(x, ag.constant(w.tensor), targets).backward()
    assert len(made) == 4 + 12 + 8
    ag.linear_cross_entropy(x, w, targets, reduction="none").backward(ownt.ones(64))
    assert len(made) == 4 + 12 + 8 + 16  # made again: each row has a g of its own
