"""The device "cuda" on a GPU: memory, copies, streams and bytes of gradients. Skipped where there is none."""

from __future__ import annotations

import gc
import threading

import numpy
import pytest
from plain_step import Plain

import ag
import nn
import ownt
from ag.slot import GradSlot
from ownt import cudnn, memory
from ownt import device as devices
from ownt.cuda_watch import counter, no_allocation

pytestmark = pytest.mark.gpu
DRIVER_BYTES = 4 << 20  # what the driver adds to small allocations, which share pages of 2 MiB


@pytest.fixture
def gpu():
    try:
        place = devices.get("cuda")
    except ownt.DeviceError as error:
        pytest.skip(f"needs a GPU: {error}")
    gc.collect()
    return place


def rounded(size):
    return -(-size // 512) * 512


def model_on(device):
    ownt.manual_seed(1)
    shape = nn.GPTConfig(vocab_size=31, block_size=16, n_layer=2, n_head=2, n_embd=32)
    return nn.GPT(shape).to(device)


BATCH = numpy.arange(64).reshape(4, 16) % 31


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_numbers_go_there_and_back(gpu, dtype):
    values = numpy.arange(5_000_000).reshape(1000, -1).astype(dtype)
    there = ownt.asarray(values, device="cuda")
    assert (there.numpy() == values).all() and (there.T.to("cpu").numpy() == values.T).all()
    assert (there[::3, 1::2].numpy() == values[::3, 1::2]).all()


def test_what_is_sent_may_change_at_once(gpu):
    values = numpy.zeros(1 << 20, "float32")
    there = [ownt.asarray(values, device="cuda") for values[...] in range(64)]
    assert [tensor.numpy().max() for tensor in there] == [tensor.numpy().min() for tensor in there] == list(range(64))


def test_work_in_place_and_printing(gpu):
    x = ownt.ones(2, 3, device="cuda")
    x += 1
    x *= numpy.float32(3)
    x[0, 1:] = [7, 8]
    x[1] = ownt.zeros(3)
    assert x.tolist() == [[6, 7, 8], [0, 0, 0]]
    assert str(x).endswith("dtype=float32, device=cuda)")
    assert x[ownt.asarray([1, 0])].tolist() == [[0, 0, 0], [6, 7, 8]]


def test_random_numbers_are_the_cpus(gpu):
    for make in (ownt.rand, ownt.randn):
        ownt.manual_seed(5)
        here = make(1000, dtype="float64").numpy()
        ownt.manual_seed(5)
        assert numpy.allclose(make(1000, dtype="float64", device="cuda").numpy(), here, rtol=1e-12, atol=1e-14)


def test_the_pool_and_the_driver_agree_with_the_ledger(gpu):
    gpu.synchronize()
    before = memory.report("cuda").occupied
    live = gpu.ledger.live
    made = [ownt.empty(size, device="cuda") for size in (1, 1000, 12345, 50_000_000)]
    found = memory.report("cuda").occupied
    assert gpu.ledger.live - live == sum(tensor.nbytes for tensor in made)
    assert found["pool_used"] - before["pool_used"] == sum(rounded(tensor.nbytes) for tensor in made)
    assert abs(found["device"] - before["device"] - (found["pool"] - before["pool"])) <= DRIVER_BYTES


@pytest.mark.memory
@pytest.mark.parametrize("control", [False, True])
def test_gradient_bytes_are_parameter_bytes(gpu, monkeypatch, control):
    model, allocate, kept = model_on("cuda"), GradSlot.allocate, []

    def twice(slot):
        allocate(slot)
        kept.append(slot.tensor)
        allocate(slot)

    if control:
        monkeypatch.setattr(GradSlot, "allocate", twice)
    with counter(("allocate", "slot.py"), ("twice", "test_gpu.py")) as counted:
        model.loss(BATCH, BATCH).backward()
    parameters = sum(p.nbytes for p in model.parameters())
    assert (counted.live == parameters) is not control
    assert (gpu.ledger.by_kind()["gradient"] == parameters) is not control
    del kept[:]


def test_a_step_agrees_with_the_cpu_and_allocates_nothing_behind_the_ledger(gpu):
    losses = {}
    for device in ("cpu", "cuda"):
        model = model_on(device)
        step = nn.Step(model.loss, nn.AdamW(model.parameters(), lr=1e-2))
        losses[device] = [step(BATCH, BATCH).item() for _ in range(3)]
        if device == "cuda":
            live = gpu.ledger.live
            with no_allocation():
                step(BATCH, BATCH)
            assert gpu.ledger.live == live
    assert numpy.allclose(losses["cpu"], losses["cuda"], rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_step_is_a_graph_and_equals_the_plain_loop(gpu, monkeypatch, dropout):
    monkeypatch.setattr(cudnn, "enabled", False)  # its gradient of attention sums in no fixed order
    found = []
    for kind in (Plain, nn.Step):
        ownt.manual_seed(1)
        model = nn.GPT(nn.GPTConfig(31, 16, 2, 2, 32, dropout=dropout)).to("cuda")
        step = kind(model.loss, nn.AdamW(model.parameters(), lr=1e-2), max_norm=1.0)
        found.append([step(BATCH, (BATCH + i) % 31).item() for i in range(6)])
        found[-1] += [node.numpy().tolist() for node in model.parameters()]
    assert found[0] == found[1]
    assert [made.recording.is_graph for made in step._made] == [True]


def test_out_of_memory_and_on(gpu):
    total = memory.report("cuda").occupied["device"]
    with pytest.raises(ownt.OutOfMemoryError, match="is out of memory: .* bytes were requested"):
        ownt.empty(1 << 42, device="cuda")
    with ownt.scratch.mark("cuda"), pytest.raises(ownt.OutOfMemoryError):
        memory.scratch("cuda").empty((1 << 42,))
    assert ownt.ones(3, device="cuda").tolist() == [1, 1, 1]
    assert memory.report("cuda").occupied["device"] <= total + gpu.chunk_bytes + DRIVER_BYTES


def test_threads_work_in_one_order(gpu):
    x = ownt.zeros(1 << 20, device="cuda")

    def add():
        for _ in range(50):
            x.__iadd__(1)

    for _ in range(4):
        thread = threading.Thread(target=add)
        thread.start()
        thread.join()
    assert x.numpy().min() == x.numpy().max() == 200


def test_dlpack_both_ways(gpu):
    x = ownt.asarray(numpy.arange(6, dtype="float32").reshape(2, 3), device="cuda")
    theirs = gpu.xp.from_dlpack(x)
    assert theirs.data.ptr == gpu.pointer(x.array)
    back = ownt.from_dlpack(theirs)
    assert back.device == "cuda" and gpu.pointer(back.array) == gpu.pointer(x.array)
    scratch = memory.scratch("cuda").empty((4,), "float32")
    theirs, block = gpu.xp.from_dlpack(scratch), scratch.block
    serial, scratch = block.serial, None
    assert block in memory.scratch("cuda").held_since(serial - 1)
    ml_dtypes = pytest.importorskip("ml_dtypes")
    half = gpu.xp.ones(4, ml_dtypes.bfloat16)
    assert ownt.from_dlpack(half).dtype.name == "bfloat16"
    assert gpu.xp.from_dlpack(ownt.from_dlpack(half)).data.ptr == half.data.ptr


def test_a_model_is_saved_from_there(gpu, tmp_path):
    model = model_on("cuda")
    model.save(tmp_path)
    loss = model.loss(BATCH, BATCH).item()
    assert nn.GPT.load(tmp_path).to("cuda").loss(BATCH, BATCH).item() == pytest.approx(loss, rel=1e-6)
    ag.zero_grad(model.parameters())


def test_a_second_gpu_has_arrays_of_its_own(gpu):
    if gpu.xp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    x = ownt.ones(3, device="cuda:1")
    assert x.device == "cuda:1" and x.to("cuda").device == "cuda" and x.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="expected tensors on one device"):
        ag.add(x, ownt.ones(3, device="cuda"))
