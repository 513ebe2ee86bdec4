"""Memory of a GPU, with CuPy's own arrays, on the host: see tests/cuda_host.py."""

from __future__ import annotations

import gc

import numpy
import pytest
from cuda_host import CAPACITY

import ag
import nn
import ownt
from ag.slot import GradSlot
from ownt import device as devices
from ownt import memory, scratch
from ownt.cuda import UNIT_BYTES, Cuda


def rounded(size):
    return -(-size // UNIT_BYTES) * UNIT_BYTES


def test_arrays_of_the_device_are_cupys(gpu):
    x = ownt.empty(3, 5, device="cuda")
    assert type(x.array) is gpu.xp.ndarray and x.device == "cuda" and x.shape == (3, 5)
    assert ownt.device.of(x.array) is gpu and ownt.device.module(x.array) is gpu.xp
    assert gpu.pointer(x.array) == x.array.data.ptr and gpu.pointer(x.array) % UNIT_BYTES == 0
    assert gpu.pointer(x[1, 2].array) == gpu.pointer(x.array) + 7 * 4


def test_the_heap_is_exact_and_agrees_with_the_pool(gpu, held):
    sizes = [1, 3, 128, 129, 5000]
    made = [ownt.empty(size, device="cuda", kind="parameter", path="part") for size in sizes]
    assert gpu.ledger.by_account() == {("parameter", "part"): 4 * sum(sizes)}
    assert gpu.pool.used_bytes() == sum(rounded(tensor.nbytes) for tensor in made)
    del made
    assert gpu.ledger.live == 0 and gpu.pool.used_bytes() == 0


def test_scratch_memory_is_carved_from_few_chunks(gpu, held):
    with ownt.scratch.mark("cuda"):
        made = [memory.scratch("cuda").empty((100, n), "float32") for n in (1, 7, 200)]
        addresses = [gpu.pointer(tensor.array) for tensor in made]
        assert held.requests == [gpu.chunk_bytes]
        assert all(address % UNIT_BYTES == 0 for address in addresses)
        ends = [address + tensor.nbytes for address, tensor in zip(addresses, made)]
        assert all(end <= after for end, after in zip(ends, addresses[1:]))
        del made
    with ownt.scratch.mark("cuda"):
        again = [memory.scratch("cuda").empty((100, n), "float32") for n in (1, 7, 200)]
        assert [gpu.pointer(tensor.array) for tensor in again] == addresses
        del again


def test_views_share_memory_and_no_view_copies(gpu, held):
    x = ownt.empty(4, 6, device="cuda")
    taken = held.used
    for view in (x.T, x[1:3, ::2], x.view((2, 12)), x.reshape(3, 8), x.T.reshape(3, 2, 4), x.transpose(1, 0)):
        assert view.block is x.block
    with pytest.raises(ValueError, match="that strides .* allow without a copy"):
        x.T.view((24,))
    assert held.used == taken


def test_images_with_their_channels_last(gpu):
    like = ownt.empty(1, device="cuda")
    image = scratch.images((2, 3, 4, 5), like)
    assert image.strides == (240, 4, 60, 12)
    assert ownt.scratch.alike(image).strides == image.strides


def test_out_of_memory_says_who_has_it_and_leaves_no_trace(gpu, held):
    kept = ownt.empty(1000, device="cuda", kind="parameter", path="blocks.0")
    live, used = gpu.ledger.live, held.used
    with pytest.raises(ownt.OutOfMemoryError) as caught:
        ownt.empty(CAPACITY, device="cuda")
    text = str(caught.value)
    for part in (
        f"{4 * CAPACITY:,} bytes were requested",
        "4,000 are live (parameter 4.00 kB; most in blocks.0 4.00 kB)",
        "largest free run",
        "smaller batch",
    ):
        assert part in text
    assert "\n" not in text and caught.value.__context__ is None
    assert (gpu.ledger.live, held.used) == (live, used)
    arena = memory.scratch("cuda")
    with ownt.scratch.mark("cuda"):
        first = arena.empty((10,))
        with pytest.raises(ownt.OutOfMemoryError):
            arena.empty((CAPACITY,))
        assert arena.blocks == 1 and gpu.ledger.live == live + 40 and arena.empty((5,)).shape == (5,)
        del first
    assert kept.nbytes == 4000 and arena.used == 0 and gpu.ledger.live == live


def test_a_step_out_of_memory_can_go_on_with_a_smaller_batch(gpu, not_run):
    model = nn.MLP([64, 64, 8]).to("cuda")
    parameters = sum(p.nbytes for p in model.parameters())
    step = nn.Step(lambda x, y: ag.cross_entropy(model(x), y), nn.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ownt.OutOfMemoryError):
        step(numpy.zeros((1 << 20, 64), "float32"), numpy.zeros(1 << 20, "int64"))
    gc.collect()
    assert all(p.grad is None for p in model.parameters())
    found = gpu.ledger.by_kind()
    assert found["parameter"] == parameters and found["gradient"] == found["activation"] == 0
    loss = step(numpy.zeros((16, 64), "float32"), numpy.zeros(16, "int64"))
    assert loss.device == "cuda"


@pytest.mark.parametrize("room", [2, 5])
def test_an_optimizer_out_of_memory_has_not_counted_the_step(gpu, held, not_run, room):
    model = nn.MLP([1000, 1000, 8]).to("cuda")
    optimizer = nn.AdamW(nn.optim.decay_groups(model, 0.1), lr=0.1)
    for p in model.parameters():
        p.grad = ownt.empty(p.shape, device="cuda")
    capacity, held.capacity = held.capacity, held.used + room * 1_000_000 + gpu.chunk_bytes
    with pytest.raises(ownt.OutOfMemoryError):
        optimizer.step()
    assert not any(optimizer.state.values()) and gpu.ledger.by_kind()["optimizer"] == 0
    held.capacity = capacity
    optimizer.step()
    assert {values["step"] for values in optimizer.state.values()} == {1}


def test_a_foreign_error_is_not_taken_for_a_lack_of_memory(gpu, monkeypatch):
    error = gpu.xp.cuda.runtime.CUDARuntimeError(700)

    def broken(size):
        raise error

    monkeypatch.setattr(gpu.xp.cuda, "Memory", broken)
    with pytest.raises(type(error), match="IllegalAddress"):
        memory.scratch("cuda").empty((10,))


def gradient_bytes(gpu):
    """Of a GPT after a backward, by the ledger, beside its parameters' bytes."""
    model = nn.GPT(nn.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16)).to("cuda")
    model.loss(numpy.zeros((2, 8), "int64"), numpy.zeros((2, 8), "int64")).backward()
    return gpu.ledger.by_kind()["gradient"], sum(p.nbytes for p in model.parameters()), model


@pytest.mark.memory
def test_gradient_bytes_are_parameter_bytes(gpu, held, not_run):
    before = held.used
    gradients, parameters, model = gradient_bytes(gpu)
    assert gradients == parameters > 0
    heap = [tensor for p in model.parameters() for tensor in (p.tensor, p.grad)]
    chunks = memory.scratch("cuda").capacity
    heap += gpu.faults.tables()
    assert held.used - before == sum(rounded(tensor.nbytes) for tensor in heap) + chunks


@pytest.mark.memory
def test_gradients_allocated_twice_are_seen(gpu, not_run, monkeypatch):
    allocate, kept = GradSlot.allocate, []

    def twice(slot):
        allocate(slot)
        if slot.leaf:
            kept.append(memory.heap(slot.device).empty(slot.shape, slot.dtype, "gradient"))

    monkeypatch.setattr(GradSlot, "allocate", twice)
    gradients, parameters, _ = gradient_bytes(gpu)
    assert gradients == 2 * parameters


def test_what_references_compute_on_the_way_is_workspace(gpu):
    with gpu.quiet():
        found = gpu.xp.empty((100,), "float32")
        assert gpu.ledger.by_kind()["workspace"] == 400
        view = found[3:]
        del found
        assert gpu.ledger.by_kind()["workspace"] == 400
        del view
    assert gpu.ledger.live == 0
    assert memory.report("cuda").arenas[-1].capacity == gpu.chunk_bytes


def test_no_allocation_is_refused_to_cupy(gpu):
    from ownt.cuda_watch import no_allocation

    with no_allocation():
        for context in (gpu.working, gpu.quiet):
            with context(), pytest.raises(RuntimeError, match="expected no allocations"):
                gpu.xp.empty(3)
        assert ownt.empty(3, device="cuda").shape == (3,)
    with gpu.quiet():
        gpu.xp.empty(3)


def test_the_report_states_units_and_pools(gpu):
    kept = ownt.empty(100, device="cuda", kind="parameter", path="part")
    text = str(memory.report("cuda"))
    assert "device: 512 B for models, in units of 512 bytes" in text and "resident" not in text
    assert memory.report("cuda").as_dict()["occupied"]["pool_used"] == 512
    del kept


def test_an_estimate_leaves_the_model_there(gpu, held):
    model = nn.MLP([64, 64, 8])
    inputs = numpy.zeros((16, 64), "float32"), numpy.zeros(16, "int64")
    step = nn.Step(lambda x, y: ag.cross_entropy(model(x), y), nn.AdamW(model.parameters(), lr=0.1))
    expected = nn.estimate(step, *inputs).peak_bytes
    model.to("cuda")
    used = held.used
    assert nn.estimate(step, *inputs).peak_bytes == expected and held.used == used
    assert {p.device for p in model.parameters()} == {"cuda"}


def test_two_gpus_have_arrays_of_one_type(gpu, held, not_run, monkeypatch):
    monkeypatch.setattr(devices, "several", False)
    second = devices.register(Cuda(1, gpu.xp, 90))
    assert devices.several and devices.get("cuda:1") is second and devices.get("cuda:0") is devices.get("cuda") is gpu
    x = ownt.empty(3, device="cuda")
    held.device_id = 1
    del held.chosen[:]
    y = ownt.empty(3, device="cuda:1")
    assert held.chosen == [1, 0]
    assert (x.device, y.device, y[1:].T.device) == ("cuda", "cuda:1", "cuda:1")
    assert ownt.asarray(y.array).device == "cuda:1" and second.ledger.live == 12
    with pytest.raises(ValueError, match="add: expected tensors on one device; got cuda and cuda:1"):
        ag.add(x, y)


def test_a_dtype_that_gpus_lack(gpu):
    with pytest.raises(TypeError, match="expected a dtype that GPUs compute with; got float128|longdouble"):
        gpu.empty((2,), numpy.longdouble)
