"""Estimates of a training step: to the byte what it then holds, and nothing is computed, allocated or changed."""

from __future__ import annotations

import time

import numpy as np
import pytest

import ag
import nn
import ownt
from nn import memory_report
from nn.errors import InputError
from ownt import cublaslt

pytestmark = pytest.mark.memory
STREAM = np.random.default_rng(0)
TOKENS = STREAM.integers(0, 65, (3, 24))
IMAGES, LABELS = STREAM.standard_normal((2, 3, 40, 40), "float32"), np.array([1, 2])


def mlp():
    model = nn.MLP([12, 30, 5])
    x, y = STREAM.standard_normal((7, 12), "float32"), STREAM.integers(0, 5, 7)
    return model, lambda x, y: ag.cross_entropy(model(x), y), (x, y)


def gpt(**options):
    model = nn.GPT(nn.GPTConfig(vocab_size=65, block_size=24, n_layer=3, n_head=2, n_embd=32, **options))
    return model, lambda x, y: model.loss(x, y), (TOKENS, TOKENS)


def gpt_in(dtype, **options):
    model, loss, inputs = gpt(**options)
    model.to(dtype=dtype)
    return model, loss, inputs


def resnet(**options):
    model = nn.ResNet(nn.resnet.Bottleneck, (1, 2, 1, 1), 10, **options)
    return model, lambda x, y: model.loss(x, y), (IMAGES, LABELS)


MODELS = {
    "mlp": mlp,
    "gpt": gpt,
    "gpt with dropout": lambda: gpt(dropout=0.2),
    "gpt checkpointed": lambda: gpt(checkpoint=True),
    "gpt in float64": lambda: gpt(dtype="float64"),
    "gpt in float16": lambda: gpt_in("float16"),
    "gpt in bfloat16": lambda: gpt_in("bfloat16"),
    "gpt in bfloat16, checkpointed": lambda: gpt_in("bfloat16", checkpoint=True, dropout=0.1),
    "resnet": resnet,
    "resnet checkpointed": lambda: resnet(checkpoint=True),
}
STEPS = {
    "plain": {},
    "captured": {},
    "clipped": {"max_norm": 1.0},
    "fused": {"fuse_optimizer": True},
    "accumulated": {},
}


def tables(report):
    """Live and at the peak, by kind and path, without what holds nothing."""
    return [
        {(kind, path): size for kind, paths in table.items() for path, size in paths.items() if size}
        for table in (report.live, report.peak)
    ]


def run_for(kind, loss, optimizer):
    """(what is estimated, how it is run, batches in a step)"""
    if kind == "plain":

        def run(*inputs):
            loss(*inputs).backward()
            optimizer.step()
            optimizer.zero_grad()

        return loss, run, 1
    step = nn.Step(loss, optimizer, **STEPS[kind])
    if kind == "accumulated":
        return step, lambda *inputs: step.accumulate([inputs] * 2), 2
    return step, step, 1


def measured(run, inputs):
    for _ in range(4):  # until the optimizer's state is there, memory has its place and the step is replayed
        run(*inputs)
    ownt.memory.reset_peak()
    run(*inputs)
    return ownt.memory.report()


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("name", MODELS)
def test_an_estimate_is_what_is_measured(name, kind):
    model, loss, inputs = MODELS[name]()
    optimizer = nn.AdamW(model.parameters(), lr=1e-3)
    function, run, batches = run_for(kind, loss, optimizer)
    estimated = nn.estimate(function, *inputs, optimizer=optimizer, accumulate=batches)
    elsewhere = tables(ownt.memory.report())[0]
    found = measured(run, inputs)
    ours = {key: size for key, size in tables(found)[0].items() if key not in elsewhere or elsewhere[key] != size}
    assert ours.items() <= tables(estimated)[0].items()  # the ledger has other tests' leftovers, too
    rest = sum(elsewhere.values()) - sum(p.nbytes for p in model.parameters())
    rest -= sum(buffer.nbytes for _, buffer in model.named_buffers())
    assert estimated.peak_bytes == found.peak_bytes - rest
    assert estimated.peak_bytes > estimated.live_bytes > sum(p.nbytes for p in model.parameters())


def test_the_control_that_something_else_is_held_is_seen():
    """As much as one number more, and the figures differ."""
    model, loss, inputs = gpt()
    optimizer = nn.AdamW(model.parameters())
    held = []

    def greedy(x, y):
        held[:] = [ownt.zeros(1)]
        return loss(x, y)

    lean, fat = (nn.estimate(function, *inputs, optimizer=optimizer) for function in (loss, greedy))
    assert fat.peak_bytes == lean.peak_bytes + 4


def test_nothing_is_changed():
    model, loss, inputs = resnet()
    optimizer = nn.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = nn.Step(loss, optimizer)
    step(*inputs)
    state = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    moments = [t.numpy().copy() for values in optimizer.state.values() for t in values.values()]
    live, place = ownt.memory.ledger.by_account(), ownt.random.generator.state
    nn.estimate(step, *inputs)
    assert ownt.memory.ledger.by_account() == live
    assert ownt.random.generator.state == place
    assert all((state[name] == t.numpy()).all() for name, t in model.state_dict().items())
    after = [t.numpy() for values in optimizer.state.values() for t in values.values()]
    assert all((a == b).all() for a, b in zip(moments, after, strict=True))
    assert {p.device for p in model.parameters()} == {"cpu"}
    step(*inputs)


def test_a_failure_leaves_the_model_as_it_was():
    model, loss, inputs = mlp()
    with pytest.raises(RuntimeError, match="on the device 'meta' was read"):
        nn.estimate(lambda x, y: loss(x, y) * float(loss(x, y)), *inputs)
    assert {p.device for p in model.parameters()} == {"cpu"}
    assert np.isfinite(loss(*inputs).item())


def test_a_model_that_fits_no_machine():
    resident, began = ownt.memory.resident_bytes(), time.perf_counter()
    with ownt.device.use("meta"):
        model = nn.GPT(nn.GPTConfig(block_size=2048, n_layer=96, n_head=96, n_embd=12288))
        optimizer = nn.AdamW(model.parameters())
    tokens = np.zeros((1, 2048), "int64")
    report = nn.estimate(model.loss, tokens, tokens, optimizer=optimizer)
    assert sum(p.size for p in model.parameters()) == 174_604_259_328
    assert report.by_kind()["parameter"] == 4 * 174_604_259_328
    assert report.by_kind()["optimizer"] == 8 * 174_604_259_328
    assert time.perf_counter() - began < 60  # 5 s on a machine that does nothing else
    assert ownt.memory.resident_bytes() - resident < 1 << 29


def test_who_holds_most_and_when():
    model, loss, inputs = gpt()
    report = nn.estimate(loss, *inputs, optimizer=nn.AdamW(model.parameters()), title="a GPT")
    timeline = report.timeline
    assert [name for name, _, _ in timeline.phases][:2] == ["forward", "backward"]
    assert max(timeline.totals()) == report.peak_bytes
    largest = report.largest()
    assert len(largest) == 10
    assert [held.bytes for held in largest] == sorted((held.bytes for held in largest), reverse=True)
    assert all(held.line for held in largest if held.kind == "activation")
    text = str(report)
    assert "peak: " in text
    assert "in backward" in text or "in forward" in text


@pytest.mark.parametrize("budget", [0, 40_000, 41_000, 80_000, 1_000_000])
def test_the_largest_batch_fits_and_one_more_does_not(budget):
    model, loss, _ = mlp()
    optimizer = nn.Adam(model.parameters())

    def inputs(size):
        return np.zeros((size, 12), "float32"), np.zeros(size, "int64")

    def peak(size):
        return nn.estimate(loss, *inputs(size), optimizer=optimizer).peak_bytes

    most = nn.largest_batch(loss, inputs, budget, optimizer=optimizer)
    assert most == 0 or peak(most) <= budget
    assert peak(most + 1) > budget


def test_the_command(capsys, tmp_path):
    page = tmp_path / "page.html"
    config = memory_report.MemoryConfig("gpt2", 2, 64, budget="4GB", html=page)
    assert memory_report.run(config) == 0
    text = capsys.readouterr().out
    for part in ("gpt2, batch 2, float32", "largest batch within 4.00 GB: ", "of 60 batches"):
        assert part in text
    assert page.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "gpt5"}, "unknown preset"),
        ({"batch_size": 0}, "batch_size of 1 or more"),
        ({"dtype": "int3"}, "dtype among"),
        ({"budget": "much"}, "a number of bytes such as 80GB"),
        ({"preset": "resnet18", "optimizer": "best"}, "optimizer among"),
    ],
)
def test_bad_settings_of_the_command(options, message):
    with pytest.raises(InputError, match=message):
        memory_report.run(memory_report.MemoryConfig(**options))


@pytest.mark.parametrize(("text", "size"), [("80GB", 80 * 10**9), ("1.5 kb", 1500), ("2GiB", 2 << 30), ("7", 7)])
def test_sizes(text, size):
    assert memory_report.bytes_of(text) == size


# for a GPU, with none


def test_an_estimate_for_a_gpu_counts_its_workspaces_and_says_what_it_leaves_out(capsys):
    model, loss, inputs = gpt()
    step = nn.Step(loss, nn.AdamW(model.parameters()))
    here, there = (nn.estimate(step, *inputs, device=device) for device in ("cpu", "cuda"))
    assert there.by_kind()["parameter"] == here.by_kind()["parameter"] == sum(p.nbytes for p in model.parameters())
    assert there.by_kind(at_peak=True)["workspace"] >= cublaslt.WORKSPACE_BYTES > here.by_kind(True)["workspace"]
    assert "not counted are cuDNN's workspaces" in str(there) and "cuDNN" not in str(here)
    assert there.arenas[0].device == "meta:cuda" and {p.device for p in model.parameters()} == {"cpu"}
    config = memory_report.MemoryConfig("tiny", 2, device="cuda", dtype="bfloat16")
    assert memory_report.run(config) == 0
    assert "tiny, batch 2, bfloat16, cuda" in capsys.readouterr().out


def test_a_resnet_of_half_precision_on_a_gpu_and_the_largest_batch():
    model, loss, _ = resnet()
    model.to(dtype="bfloat16")

    def inputs(size):
        return np.zeros((size, 3, 40, 40), "float32").astype(ownt.bfloat16), np.zeros(size, "int64")

    def peak(size):
        return nn.estimate(loss, *inputs(size), device="cuda").peak_bytes

    budget = peak(3) + 1000
    assert nn.largest_batch(loss, inputs, budget, device="cuda") == 3


@pytest.mark.parametrize("device", ["meta", "cuda:x", "gpu", "cudax"])
def test_estimates_are_for_devices_that_compute(device):
    _, loss, inputs = mlp()
    with pytest.raises(ValueError, match="expected the device cpu or cuda; got"):
        nn.estimate(loss, *inputs, device=device)
    with pytest.raises(InputError, match="expected the device cpu or cuda; got"):
        memory_report.run(memory_report.MemoryConfig("tiny", device=device))
