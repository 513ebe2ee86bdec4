"""Optimizers and clipping on the simulated device: bits, tables, replays."""

from __future__ import annotations

import numpy as np
import pytest
from compile_for_cpu import missing
from optimizers import RULES, SHAPES, drawn
from simulated import simulated

import ag
import nn
import ownt
from nn.optim import clip, clip_cuda, table_cuda
from ownt.kernel import Kernel

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]


def given(values, device, dtype):
    return ownt.asarray(np.asarray(values, "float32").astype(ownt.dtype.get(dtype))).to(device)


def trained(optimizer, options, device, dtype, steps=3):
    """Weights, and what is kept, after some steps."""
    ownt.manual_seed(1)
    nodes = [ag.param(given(drawn(shape, seed), device, dtype)) for seed, shape in enumerate(SHAPES)]
    used = optimizer(nodes, lr=0.01, **options)
    for seed in range(1, steps + 1):
        for node in nodes:
            node.grad = given(drawn(node.shape, seed), device, dtype)
        used.step()
    kept = [value for node in nodes for name, value in used.state[node].items() if name != "step"]
    return [part.numpy().copy() for part in (*nodes, *kept)]


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("rule", ["sgd", "sgd-momentum", "lion"])
def test_rounding_at_random_has_the_bits_of_the_cpu(rule, monkeypatch):
    """Rules whose arithmetic is the same, operation by operation."""
    optimizer, options = nn.SGD if "sgd" in rule else nn.Lion, {"momentum": 0.5} if "momentum" in rule else {}
    options["stochastic_rounding"] = True
    found = trained(optimizer, options, "simulated", "bfloat16")
    assert same(found, trained(optimizer, options, "cpu", "bfloat16"))
    assert not same(found[:4], trained(optimizer, {**options, "stochastic_rounding": False}, "cpu", "bfloat16")[:4])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rule", RULES)
def test_bits_do_not_depend_on_how_the_work_is_cut(rule, dtype, monkeypatch):
    optimizer, options = RULES[rule]
    found = trained(optimizer, options, "simulated", dtype)
    for most, threads in ((1 << 11, 64), (1 << 14, 96)):
        monkeypatch.setattr(table_cuda, "MOST", most)
        monkeypatch.setattr(table_cuda, "THREADS", threads)
        assert same(found, trained(optimizer, options, "simulated", dtype))


@pytest.mark.parametrize(("dtype", "offset"), [("float32", 0), ("float32", 1), ("bfloat16", 0), ("bfloat16", 3)])
def test_nothing_beside_the_arrays_is_written(dtype, offset):
    wholes = [given(np.full(np.prod(shape, dtype=int) + 32, 7.0), "simulated", dtype) for shape in SHAPES]
    nodes, grads = [], []
    for shape, whole in zip(SHAPES, wholes):
        size = int(np.prod(shape))
        whole[8 + offset : 8 + offset + size] = drawn(size, 1)
        nodes.append(ag.param(whole[8 + offset : 8 + offset + size].view(shape)))
        grads.append(given(np.full(size + 32, 7.0), "simulated", dtype))
        nodes[-1].slot.tensor = grads[-1][8 : 8 + size].view(shape)  # given as `grad`, it would be copied
    used = nn.AdamW(nodes, lr=0.1)
    nn.clip_grad_norm_(nodes, 1e-3)
    nn.clip_grad_value_(nodes, 1e-6)
    used.step()
    for shape, whole, grad in zip(SHAPES, wholes, grads):
        size = int(np.prod(shape))
        for array, begin in ((whole.numpy(), 8 + offset), (grad.numpy(), 8)):
            around = np.concatenate([array[:begin], array[begin + size :]]).astype("float32")
            assert (around == 7).all()
            assert not (array[begin : begin + size].astype("float32") == 7).any()


def test_a_table_is_made_again_only_when_an_address_changes(monkeypatch):
    made, make = [], table_cuda._made
    monkeypatch.setattr(table_cuda, "_made", lambda *given: made.append(1) or make(*given))
    node = ag.param(given(np.ones(5), "simulated", "float32"))
    grads = [given(np.ones(5), "simulated", "float32") for _ in range(2)]
    used = nn.AdamW([node], lr=0.1)
    for number, count in ((0, 1), (0, 1), (1, 2), (1, 2), (0, 3)):
        node.slot.tensor = grads[number]
        used.step()
        assert len(made) == count
    kept = used.state[node]
    kept["exp_avg"] = kept["exp_avg"].clone()
    used.step()
    assert len(made) == 4


class Model(nn.Module):
    def __init__(self, dtype):
        self.w = ag.param(given(drawn((9, 6), 0), "simulated", dtype))
        self.v = ag.param(given(drawn((6,), 1), "simulated", dtype))

    def loss(self, x):
        return (ag.tanh(ag.mul(x, self.w) + self.v)).sum()


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5}, {"fuse_optimizer": True}], ids=str)
@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replays_equal_eager_steps(dtype, rounding, options):
    """At rates that change, of two recordings that share what the optimizer keeps."""

    def train(replays):
        ownt.manual_seed(2)
        model = Model(dtype)
        used = nn.AdamW(model.parameters(), stochastic_rounding=rounding)
        step, seen = nn.Step(model.loss, used, **options), 0
        for number, rows in enumerate((9, 9, 1, 9, 1, 9)):
            used.lr = 0.1 / (number + 1)
            if not replays:
                step = nn.Step(model.loss, used, **options)
            step(given(drawn((rows, 6), number), "simulated", dtype))
            seen += step.why_not == ""
        assert seen == (4 if replays else 0)
        return [node.numpy().copy() for node in model.parameters()]

    assert same(train(True), train(False))


@pytest.mark.parametrize("value", [1.0, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_scaler_finds_what_is_not_finite_by_one_read(value, dtype, monkeypatch):
    nodes = [ag.param(given(np.zeros(shape), "simulated", dtype)) for shape in SHAPES]
    for node in nodes:
        node.grad = given(np.ones(node.shape), "simulated", dtype)
    nodes[-1].grad[-1, -1] = value
    reads, read = [], simulated.to_host
    monkeypatch.setattr(simulated, "to_host", lambda array: reads.append(array.size) or read(array))
    optimizer, scaler = nn.SGD(nodes, lr=1.0), nn.GradScaler(init_scale=2.0)
    simulated.launched.clear()
    scaler.step(optimizer)
    assert reads == [1]
    assert {name for _, name, _ in simulated.launched} == {"norm_of_pieces", "norm_of_parts"} | (
        {"sgd"} if value == 1 else set()
    )
    assert nodes[0].numpy()[0, 0] == (-0.5 if value == 1 else 0)


def test_clipping_reads_the_norm_once_at_its_end(monkeypatch):
    node = ag.param(given(np.zeros(9000), "simulated", "float32"))
    node.grad = given(np.ones(9000), "simulated", "float32")
    order, read, run = [], simulated.to_host, simulated._run
    monkeypatch.setattr(simulated, "to_host", lambda array: order.append("read") or read(array))
    monkeypatch.setattr(Kernel, "_run_reference", lambda *_: pytest.fail("expected no reference"))
    monkeypatch.setattr(clip_cuda._source, "_compiled", {})
    for kernel in clip_cuda._source.kernels.values():
        monkeypatch.setattr(kernel, "_ready", {})
    monkeypatch.setattr(simulated, "_run", lambda *given: order.append(given[3]) or run(*given))
    assert nn.clip_grad_norm_([node], 1.0) == pytest.approx(9000**0.5)
    assert order == ["norm_of_pieces", "norm_of_parts", "limit_norm", "read"]
    assert clip.norm_of([node.grad]).item() == pytest.approx(1, rel=1e-6)
