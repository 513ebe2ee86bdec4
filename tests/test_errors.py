"""Bad input to ops: the error names the op, what was expected, what came and the remedy."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import ownt

f32 = lambda *shape: ag.param(ownt.zeros(shape))
f64 = lambda *shape: ag.param(ownt.zeros(shape, dtype="float64"))
ints = lambda *shape: ownt.zeros(shape, dtype="int64")

SHAPES = [
    (lambda: f32(2, 3) + f32(2, 4), "add: expected shapes that broadcast.*got (2, 3) and (2, 4).*reshape"),
    (lambda: f32(2, 3) * f32(4), "mul: .*(2, 3) and (4,)"),
    (lambda: f32(3, 4) @ f32(5, 2),
     "matmul: expected a (..., M, K) and b (..., K, N); got (3, 4) and (5, 2). Transpose"),
    (lambda: f32() @ f32(2), "matmul: .*got () and (2,)"),
    (lambda: f32(2, 3, 4) @ f32(3, 4, 5), "matmul: expected shapes that broadcast.*(2,) and (3,)"),
    (lambda: ag.linear(f32(2, 3), f32(3, 2)),
     "linear: expected x (..., I), w (O, I), b (O,); got x (2, 3), w (3, 2).*transpose"),
    (lambda: ag.linear(f32(2, 3), f32(4, 3), f32(3)), "linear: .*b (3,)"),
    (lambda: ag.linear(f32(2, 3), f32(4, 3), None, f32(2, 3)), "residual of the result's shape (2, 4); got (2, 3)"),
    (lambda: ag.gelu_linear(f32(2, 3), f32(4, 3), None, "none", f32(4)), "gelu_linear: expected a residual"),
    (lambda: f32(2, 3).reshape(4), "reshape: expected a shape of 6 elements; got (4,)"),
    (lambda: f32(2, 3).transpose(0, 0), "transpose: expected each of 2 axes once; got (0, 0)"),
    (lambda: f32(2, 3).sum(axis=2), "sum: expected different axes from -2 to 1; got axis=2"),
    (lambda: f32(2, 3).mean(axis=(0, -2)), "mean: expected different axes"),
    (lambda: ag.softmax(f32(2, 3), axis=5), "softmax: expected different axes"),
    (lambda: ag.concat([f32(2, 3), f32(2, 4)]),
     "concat: expected shapes equal but along axis 0; got (2, 3) and (2, 4)"),
    (lambda: ag.concat([]), "concat: expected one tensor or more"),
    (lambda: ag.layer_norm(f32(2, 3), f32(2)),
     "layer_norm: expected x (..., C) with gain and shift (C,); got (2, 3), (2,)"),
    (lambda: ag.rms_norm(f32(2, 3), f32(4)), "rms_norm: .*(4,)"),
    (lambda: ag.embedding(ints(2), f32(3)), "embedding: expected a table w (V, C); got (3,)"),
    (lambda: ag.causal_attention(f32(1, 4, 10), 2),
     "causal_attention: expected qkv (B, T, 3C).*got (1, 4, 10) and 2 heads"),
    (lambda: ag.causal_attention(f32(4, 12), 2), "causal_attention: .*got (4, 12)"),
    (lambda: ag.cached_attention(f32(1, 4, 6), f32(1, 1, 3, 2), f32(1, 1, 3, 2), 0),
     "cached_attention: .*room for 4 positions at 0"),
    (lambda: ag.cross_entropy(f32(2, 3), ints(3)),
     "cross_entropy: expected logits (..., V) and targets (...); got (2, 3) and (3,)"),
    (lambda: ag.cross_entropy(f32(2, 3), ints(2), reduction="max"),
     "cross_entropy: expected reduction .*mean, sum, none; got 'max'"),
    (lambda: ag.linear_cross_entropy(f32(2, 3), f32(5, 4), ints(2)), "linear_cross_entropy: expected x"),
    (lambda: ag.norm_linear(f32(2, 3), None, None, f32(4, 2)), "norm_linear: expected x"),
    (lambda: ag.norm_linear(f32(2, 3), None, None, f32(4, 3), norm="batch"),
     "norm_linear: expected norm \"layer\", or \"rms\""),
    (lambda: ag.norm_linear(f32(2, 3), None, f32(3), f32(4, 3), norm="rms"), "norm_linear: .*'rms' with shift"),
    (lambda: ag.gelu(f32(2), approximate="fast"), "gelu: expected approximate to be one of none, tanh; got 'fast'"),
    (lambda: ag.gelu_linear(f32(2, 3), f32(4, 2)), "gelu_linear: expected x"),
    (lambda: ag.stack([]), "stack: expected one tensor or more, all of one shape; got none"),
    (lambda: ag.stack([f32(2), f32(3)]), "stack: .*got (2,) and (3,)"),
    (lambda: ag.stack([f32(2)], axis=2), "stack: expected different axes from -2 to 1; got axis=2"),
    (lambda: f32(2, 3).repeat((2,)), "repeat: expected 2 counts of 0 or more, or more counts; got (2,)"),
    (lambda: f32(2).repeat((-1,)), "repeat: .*got (-1,)"),
    (lambda: f32(2, 3).split(0), "split: expected a size of 1 or more; got 0"),
    (lambda: f32(5, 3).split([2, 2]), "split: expected sizes that add up to 5, that of axis 0; got [2, 2]"),
    (lambda: f32(5).split([6, -1]), "split: .*got [6, -1]"),
    (lambda: f32(5).split(2, axis=1), "split: expected different axes"),
    (lambda: f32(5).chunk(0), "chunk: expected 1 chunk or more; got 0"),
    (lambda: f32(3).pad((1,)), "pad: expected two widths an axis, the last axis first, for at most 1 axes; got (1,)"),
    (lambda: f32(3).pad((1, 1, 1, 1)), "pad: .*got (1, 1, 1, 1)"),
    (lambda: f32(3).pad((1, 1), "mirror"),
     "pad: expected mode to be one of constant, reflect, replicate, circular; got 'mirror'"),
    (lambda: f32(2, 3).pad((3, 0),
     "reflect"), "pad: expected widths that .*got (3, 0) for shape (2, 3) in mode reflect"),
    (lambda: f32(2, 3).pad((4, 0), "circular"), "pad: .*in mode circular"),
    (lambda: f32(2, 0).pad((1, 0), "replicate"), "pad: .*for shape (2, 0) in mode replicate"),
    (lambda: f32(2, 3).pad((-2, -2)), "pad: .*got (-2, -2) for shape (2, 3) in mode constant"),
    (lambda: ag.constant_pad(f32(2), ((-3, 0),)), "constant_pad: expected (before, after) for each axis"),
    (lambda: ag.constant_pad(f32(2), ()), "constant_pad: .*got () for shape (2,)"),
    (lambda: f32(2, 3).gather(0, ints(2)),
     "gather: expected an index of as many axes as x.*got index (2,) for x (2, 3)"),
    (lambda: f32(2, 3).gather(0, ints(1, 4)), "gather: .*no longer than x's but along axis 0; got index (1, 4)"),
    (lambda: f32(2, 3).topk(4), "argtopk: expected k from 0 to 3, the size of axis 1; got 4"),
    (lambda: f32(2, 3).topk(-1, 0), "argtopk: expected k from 0 to 2"),
    (lambda: f32(3).tril(), "tril: expected matrices (..., M, N); got shape (3,). Use reshape or unsqueeze"),
    (lambda: f32().triu(), "triu: .*got shape ()"),
    (lambda: f32(2, 3).prod(axis=2), "prod: expected different axes"),
    (lambda: f32(2, 3).cumsum(2), "cumsum: expected different axes"),
    (lambda: ag.group_norm(f32(2, 6), 4),
     "group_norm: expected x (N, C, ...) with C divisible by groups.*got (2, 6) and 4"),
    (lambda: ag.group_norm(f32(2, 6), 2, f32(2)), "group_norm: .*gain and shift (C,); got (2, 6), (2,) and 2 groups"),
    (lambda: ag.group_norm(f32(2), 1), "group_norm: .*got (2,)"),
    (lambda: ag.group_norm(f32(2, 4), 0), "group_norm: .*and 0 groups"),
    (lambda: ag.conv2d(f32(1, 3, 4, 4), f32(2, 4, 3, 3)),
     "conv2d: expected x (N, C, H, W), w (O, C / groups, KH, KW).*got (1, 3, 4, 4), (2, 4, 3, 3) and groups=1"),
    (lambda: ag.conv2d(f32(1, 4, 4, 4), f32(3, 2, 1, 1), groups=2), "conv2d: .*O divisible by groups.*and groups=2"),
    (lambda: ag.conv2d(f32(3, 4, 4), f32(2, 3, 1, 1)), "conv2d: .*got (3, 4, 4)"),
    (lambda: ag.conv2d(f32(1, 3, 4, 4), f32(2, 3, 1, 1), f32(3)), "conv2d: .*b (O,); got .*(3,) and groups=1"),
    (lambda: ag.conv2d(f32(1, 3, 4, 4), f32(2, 3, 3, 5)),
     "conv2d: expected images that a window of 3x5 fits on; got 4x4 with their padding"),
    (lambda: ag.conv2d(f32(1, 3, 4, 4), f32(2, 3, 3, 3), None, 1, (1, 0), 2), "conv2d: .*of 5x5 fits on; got 6x4"),
    (lambda: ag.conv2d(f32(1, 3, 4, 4), f32(2, 3, 3, 3), None, (1, 0)),
     "conv2d: expected stride to be an integer of 1 or more, or two; got (1, 0)"),
    (lambda: ag.conv2d(f32(1, 3, 4, 4), f32(2, 3, 3, 3), padding=-1), "conv2d: expected padding .*0 or more.*got -1"),
    (lambda: ag.conv2d(f32(1, 3, 4, 4), f32(2, 3, 3, 3), dilation=1.5), "conv2d: expected dilation .*got 1.5"),
    (lambda: ag.max_pool2d(f32(1, 1, 4, 4), 3, padding=2),
     "max_pool2d: expected padding of at most half of the window's size; got (2, 2) for (3, 3)"),
    (lambda: ag.avg_pool2d(f32(1, 1, 4, 4), (4, 2), padding=(0, 2)), "avg_pool2d: expected padding of at most half"),
    (lambda: ag.max_pool2d(f32(1, 1, 4, 4), 0), "max_pool2d: expected the kernel's size to be .*1 or more.*got 0"),
    (lambda: ag.max_pool2d(f32(1, 1, 4, 4), 2, stride=(1, 2, 3)), "max_pool2d: expected stride .*got (1, 2, 3)"),
    (lambda: ag.avg_pool2d(f32(1, 4, 4), 2), "avg_pool2d: expected images (N, C, H, W); got shape (1, 4, 4)"),
    (lambda: ag.avg_pool2d(f32(1, 1, 4, 3), 4), "avg_pool2d: .*a window of 4x4 fits on; got 4x3"),
    (lambda: ag.batch_norm(f32(2, 3), f32(2)),
     "batch_norm: expected x (N, C, ...), gain, shift and running statistics (C,).*got (2, 3), (2,)"),
    (lambda: ag.batch_norm(f32(3)), "batch_norm: expected x (N, C, ...).*got (3,)"),
    (lambda: ag.batch_norm(f32(2, 3), None, None, f32(2, 1)), "batch_norm: .*a residual like x; got (2, 3), (2, 1)"),
    (lambda: ag.batch_norm(f32(2, 3), running=(ownt.ones(3), ownt.ones(2))), "batch_norm: .*got (2, 3), (3,), (2,)"),
    (lambda: ag.batch_norm(f32(1, 3, 1, 1)),
     "batch_norm: expected two numbers a channel or more in training; got shape (1, 3, 1, 1)"),
    (lambda: ag.batch_norm(f32(2, 3), training=False), "batch_norm: expected running statistics, since .*; got none"),
    (lambda: ag.attention(f32(1, 2, 3, 4), f32(1, 2, 3, 5), f32(1, 2, 3, 4)),
     "attention: expected q (B, H, T, D), k (B, G, S, D) and v (B, G, S, E), H divisible by G; got (1, 2, 3, 4), "),
    (lambda: ag.attention(f32(1, 3, 3, 4), f32(1, 2, 3, 4), f32(1, 2, 3, 4)), "attention: .*(1, 3, 3, 4)"),
    (lambda: ag.attention(f32(2, 1, 3, 4), f32(1, 1, 3, 4), f32(1, 1, 3, 4)), "attention: .*(2, 1, 3, 4)"),
    (lambda: ag.attention(f32(3, 4), f32(5, 4), f32(6, 4)), "attention: .*(6, 4)"),
    (lambda: ag.attention(f32(3, 4), f32(5, 4), f32(5, 4), ints(2, 5)),
     "attention: expected shapes that broadcast"),
    (lambda: ag.attention(f32(3, 4), f32(5, 4), f32(5, 4), ints(2, 3, 5)),
     "attention: expected a mask that broadcasts to the scores (3, 5); got (2, 3, 5)"),
    (lambda: ag.nll_loss(f32(2, 3), ints(3)), "nll_loss: expected logits (..., V) and targets (...)"),
    (lambda: ag.nll_loss(f32(2, 3), ints(2), weight=f32(2)),
     "nll_loss: expected a weight for each of 3 classes; got (2,)"),
    (lambda: ag.nll_loss(f32(2, 3), ints(2), reduction="max"), "nll_loss: expected reduction"),
    (lambda: ag.cross_entropy(f32(2, 3), ints(2), weight=f32(3, 1)), "cross_entropy: expected a weight for each of 3"),
    (lambda: ag.cross_entropy(f32(2, 3), ints(2), label_smoothing=1.5),
     "cross_entropy: expected label_smoothing from 0 to 1; got 1.5"),
    (lambda: ag.linear_cross_entropy(f32(2, 3), f32(4, 3), ints(2), label_smoothing=-0.1),
     "linear_cross_entropy: expected label_smoothing from 0 to 1; got -0.1"),
    (lambda: ag.mse_loss(f32(2), f32(3)), "mse_loss: expected shapes that broadcast.*got (2,) and (3,)"),
    (lambda: ag.l1_loss(f32(2), f32(2), "batchmean"),
     "l1_loss: expected reduction to be one of mean, sum, none; got 'batchmean'"),
    (lambda: ag.kl_div(f32(2), f32(2), "max"),
     "kl_div: expected reduction to be one of mean, sum, none, batchmean; got 'max'"),
    (lambda: ag.smooth_l1_loss(f32(2), f32(2), beta=-1.0), "smooth_l1_loss: expected beta of 0 or more; got -1.0"),
    (lambda: ag.binary_cross_entropy_with_logits(f32(2), f32(1)),
     "binary_cross_entropy_with_logits: expected x and targets of one shape; got (2,) and (1,)"),
    (lambda: ag.binary_cross_entropy_with_logits(f32(2), f32(2), "mean", f32(3)),
     "binary_cross_entropy_with_logits: expected shapes that broadcast"),
    (lambda: ag.hardtanh(f32(2), 1.0, 0.5), "hardtanh: expected min_val no larger than max_val; got 1.0 and 0.5"),
    (lambda: ag.softplus(f32(2), 0.0), "softplus: expected beta above 0; got 0.0"),
    (lambda: ag.dropout(f32(2), 1.5), "dropout: expected a probability p from 0 to 1; got 1.5"),
]  # fmt: skip

DTYPES = [
    (lambda: f32(2) + f64(2),
     "add: expected tensors of one dtype; got float32 and float64. Convert one: tensor.astype('float32')"),
    (lambda: f32(2) * np.ones(2), "mul: expected tensors of one dtype; got float32 and float64"),
    (lambda: ag.linear(f32(2, 3), f64(4, 3)), "linear: expected tensors of one dtype"),
    (lambda: ag.concat([f32(2), f64(2)]), "concat: expected tensors of one dtype"),
    (lambda: f32(2) + ints(2), "add: expected tensors of one dtype; got float32 and int64"),
    (lambda: ag.add(ints(2), 0.5),
     "add: expected a number that int64 can hold; got 0.5. Convert the tensor: astype('float32')"),
    (lambda: ag.add(ownt.zeros(2, dtype="uint8"), 300), "add: expected a number that uint8 can hold; got 300. Convert"),
    (lambda: 1 - ag.constant([True]), "sub: expected a number that bool can hold; got 1. .*astype('int64')"),
    (lambda: -ag.constant([True]), "neg: expected numbers; got bool. Use 1 - x.astype('int64')"),
    (lambda: f32(2).masked_fill([True, False], 1j), "masked_fill: expected a number that float32 can hold; got 1j"),
    (lambda: ag.masked_fill(ints(2), [True, False], 0.5), "masked_fill: .*that int64 can hold; got 0.5"),
    (lambda: ag.clip(ints(2), 0.5, 2), "clip: expected a number that int64 can hold; got 0.5"),
    (lambda: ag.pad(ints(2), (1, 1), value=0.5), "constant_pad: expected a number that int64 can hold; got 0.5"),
    (lambda: ag.concat([f32(2), None]), "concat: expected a tensor, an array or numbers; got None"),
    (lambda: ag.exp(None), "exp: expected a tensor, an array or numbers; got None"),
    (lambda: ag.exp("x"), "exp: expected a tensor, an array or numbers; got 'x'"),
    (lambda: ag.div(ints(2), ints(2)), "div: expected a float tensor; got int64"),
    (lambda: ag.mean(ints(2)), "mean: expected a float tensor; got int64"),
    (lambda: ag.exp(ints(2)), "exp: expected a float tensor; got int64"),
    (lambda: ag.softmax(ints(2)), "softmax: expected a float tensor"),
    (lambda: ag.attention(f32(3, 4), f32(5, 4), f32(5, 4), f64(3, 5)),
     "attention: expected a mask of truth values or of float32; got float64. Use astype"),
    (lambda: ag.attention(f32(3, 4), f64(5, 4), f64(5, 4)), "attention: expected tensors of one dtype"),
    (lambda: ag.conv2d(f32(1, 1, 2, 2), f64(1, 1, 1, 1)), "conv2d: expected tensors of one dtype"),
    (lambda: ag.max_pool2d(ints(1, 1, 2, 2), 2), "max_pool2d: expected a float tensor; got int64"),
    (lambda: ag.batch_norm(f32(2, 3), f64(3)), "batch_norm: expected tensors of one dtype"),
    (lambda: ag.mse_loss(f32(2), f64(2)), "mse_loss: expected tensors of one dtype"),
    (lambda: ag.mse_loss(f32(2), ints(2)), "mse_loss: expected tensors of one dtype; got float32 and int64"),
    (lambda: f32(2).gather(0, f32(2)), "gather: expected integers for index; got float32. Use astype('int64')"),
    (lambda: ag.nll_loss(f32(2, 3), f32(2)), "nll_loss: expected integers for targets; got float32"),
    (lambda: ag.embedding(f32(2), f32(3, 2)),
     "embedding: expected integers for indices; got float32. Use astype('int64')"),
    (lambda: ag.cross_entropy(f32(2, 3), f32(2)), "cross_entropy: expected integers for targets; got float32"),
    (lambda: ag.add(1.0, 2.0), "add: expected a tensor among its arguments; got the numbers 1.0 and 2.0"),
]  # fmt: skip

RANGES = [
    (lambda: ag.embedding([0, 3], f32(3, 2)), "embedding: expected indices from 0 to 2; got 3 at (1,)"),
    (lambda: ag.embedding([[0, -1]], f32(3, 2)), "embedding: expected indices from 0 to 2; got -1 at (0, 1)"),
    (lambda: ag.cross_entropy(f32(2, 3), [0, 7]),
     "cross_entropy: expected targets (or -100, ignored) from 0 to 2; got 7 at (1,)"),
    (lambda: ag.linear_cross_entropy(f32(2, 3), f32(5, 3), [-1, 0]),
     "linear_cross_entropy: .*from 0 to 4; got -1 at (0,)"),
    (lambda: f32(2, 3).gather(1, [[0], [3]]), "gather: expected indices from 0 to 2; got 3 at (1, 0)"),
    (lambda: ag.nll_loss(f32(2, 3), [0, 3]),
     "nll_loss: expected targets (or -100, ignored) from 0 to 2; got 3 at (1,)"),
    (lambda: f32(2)[5], "out of bounds"),
    (lambda: f32(2)[[0, 5]], "out of bounds"),
]  # fmt: skip


def pattern(message: str) -> str:
    """The message as a pattern in which only .* is special."""
    import re

    return ".*".join(re.escape(part) for part in message.split(".*"))


@pytest.mark.parametrize(("call", "message"), SHAPES, ids=[m for _, m in SHAPES])
def test_shapes_and_settings(call, message):
    with pytest.raises(ValueError, match=pattern(message)):
        call()


@pytest.mark.parametrize(("call", "message"), DTYPES, ids=[m for _, m in DTYPES])
def test_dtypes(call, message):
    with pytest.raises(TypeError, match=pattern(message)):
        call()


@pytest.mark.parametrize(("call", "message"), RANGES, ids=[m for _, m in RANGES])
def test_indices_out_of_range(call, message):
    with pytest.raises(IndexError, match=pattern(message)):
        call()


def test_python_numbers_are_weak():
    assert (f32(2) * 0.5 + 1).dtype == "float32"
    assert (f64(2) * 0.5 + 1).dtype == "float64"
    assert ag.add(ints(2), 1).dtype == "int64"
    assert (f32(2) * np.float64(2)).dtype == "float32"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ag.log(ag.param([1.0, 0.0])), r"^log: .*got -inf at \(1,\)"),
        (lambda: ag.log(ag.param([[1.0], [-1.0]])), r"^log: .*got nan at \(1, 0\)"),
        (lambda: ag.exp(ag.param([0.0, 1000.0])), r"^exp: .*got inf at \(1,\)"),
        (lambda: ag.param([0.0]) / ag.constant([0.0]), r"^div: .*nan"),
        (lambda: ag.sum(ag.sqrt(ag.param([4.0, 0.0]))).backward(), r"^sqrt: .*inf at \(1,\).*kernel sqrt_vjp"),
    ],
)
def test_detect_anomaly_names_the_op_and_the_first_index(call, message):
    call()  # outside it NaN and Inf go their way, without a warning
    with ag.detect_anomaly(), pytest.raises(ag.AnomalyError, match=message):
        call()
    call()


def test_detect_anomaly_names_the_module():
    import nn

    model = nn.GPT(nn.GPTConfig(vocab_size=5, block_size=4, n_layer=2, n_head=1, n_embd=4))
    model.blocks[1].mlp.up.weight.tensor[0, 0] = float("nan")
    with ag.detect_anomaly(), pytest.raises(ag.AnomalyError, match=r"norm_linear in blocks\.1\.mlp"):
        model.loss([[1, 2]], [[2, 3]])


def test_gradcheck_catches_a_wrong_gradient():
    wrong = lambda x: x * ag.constant(x.tensor)  # the second x is taken for a constant
    with pytest.raises(AssertionError, match=r"gradcheck: expected .* input 0 at \(0,\); got"):
        ag.gradcheck(wrong, [ownt.Tensor([3.0], dtype="float64")])
    with pytest.raises(TypeError, match="expected a float64 input"):
        ag.gradcheck(ag.exp, [ownt.ones(2)])


def test_a_failed_op_leaves_nothing_behind():
    blocks = ownt.memory.scratch().blocks
    for _ in range(3):
        with pytest.raises(ValueError, match="matmul"):
            f32(2, 3) @ f32(2, 3)
    assert ownt.memory.scratch().blocks == blocks


def test_nodes_as_numbers():
    x = ag.param(2.5)
    assert (float(x), int(x), bool(x), bool(ag.constant([0.0]))) == (2.5, 2, True, False)


def test_integers():
    ints = ag.constant([100, 100])
    assert (ints + 1).dtype == "int64"
    assert ag.sum(ownt.Tensor(np.array([100, 100], "int8"))).item() == 200
    assert ag.sum(ownt.Tensor([True, True])).item() == 2
    for call in (ag.layer_norm, ag.dropout, ag.rms_norm, ag.exp, lambda x: ag.causal_attention(x, 1)):
        with pytest.raises(TypeError, match="expected a float tensor; got int64"):
            call(ownt.zeros(1, 2, 3, dtype="int64"))
    with pytest.raises(TypeError, match="that int64 can hold; got 2.5"):
        ints + np.float64(2.5)
