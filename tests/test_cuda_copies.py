"""What goes to a GPU and comes back, with CuPy's own arrays, on the host: see tests/cuda_host.py."""

from __future__ import annotations

import numpy
import pytest
from cuda_host import Event, Stream, numbers

import ag
import nn
import ownt
from nn.optim.update import Update
from ownt import memory, scratch
from ownt.pinned import Ring
from ownt.thread import state


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16", "float32", "float64"])
def test_numbers_go_there_and_back(gpu, dtype):
    values = numpy.arange(24).reshape(4, 6).astype(dtype)
    there = ownt.asarray(values, device="cuda")
    assert there.device == "cuda" and there.dtype == dtype
    assert (numbers(gpu, there.array) == values).all()
    back = there.to("cpu")
    assert back.device == "cpu" and (back.numpy() == values).all() and (there.numpy() == values).all()
    assert there.tolist() == values.tolist() and there[1, 2].item() == values[1, 2].item()
    assert (there.T.numpy() == values.T).all() and there.T.numpy().shape == (6, 4)
    assert str(there) == str(back).replace(")", ", device=cuda)")


def test_lists_numbers_and_other_layouts(gpu):
    assert ownt.asarray([[1.0, 2.0]], device="cuda").dtype == "float32"
    assert ownt.asarray(3.5, device="cuda").item() == 3.5
    image = scratch.images((2, 3, 2, 2), ownt.empty(1, device="cuda"))
    values = numpy.arange(24, dtype="float32").reshape(2, 3, 2, 2)
    image[...] = values
    assert (image.numpy() == values).all()
    image[1] = ownt.asarray(values[0] + 100)
    assert (image.numpy()[1] == values[0] + 100).all() and (image.numpy()[0] == values[0]).all()
    assert ownt.asarray(image.array).device == "cuda" and ownt.asarray(image.array).array is image.array


def test_a_transfer_takes_memory_once(gpu, held):
    before = len(held.requests)
    ownt.asarray(numpy.zeros(1000, "float32"), device="cuda")
    ownt.zeros(1000).to("cuda")
    assert held.requests[before:] == [4000, 4000]


def test_nothing_waits_for_the_gpu_but_reading(gpu):
    default = Stream.current
    x = ownt.asarray(numpy.zeros((3, 4), "float32"), device="cuda")
    assert gpu.stream.after == [default]
    x[...] = numpy.ones(4, "float32")
    y = memory.scratch("cuda").empty((5,), "float32")
    del y
    assert (
        gpu.stream.after == [default]
        and gpu.stream.waits == 0
        and gpu.stream.non_blocking
        and Stream.current is gpu.stream
    )
    x.numpy()
    assert gpu.stream.waits == 1


def test_a_ring_is_not_written_before_it_was_read(gpu, monkeypatch):
    monkeypatch.setattr(Event, "all_done", False)
    ring, target = Ring(gpu.xp.cuda, 1 << 12), numpy.zeros(1 << 14, numpy.uint8)
    values = numpy.arange(1 << 14).astype(numpy.uint8)
    ring.send(target.ctypes.data, values, gpu.stream)
    assert (target == values).all()
    flying = list(ring._flying)
    first = flying[0][0]
    assert sum(1 for _ in flying) == 4 and flying[-1][0] + (1 << 10) - first <= 1 << 12
    ring.send(target.ctypes.data, values[:64], gpu.stream)
    assert flying[0][1].waited and not flying[1][1].waited


def test_a_ring_of_stretches_that_do_not_fit_its_end(gpu, monkeypatch):
    monkeypatch.setattr(Event, "all_done", False)
    ring = Ring(gpu.xp.cuda, 1 << 12)
    for size in (1000, 700, 1024, 900, 333, 1) * 5:
        target, values = numpy.zeros(size, numpy.uint8), numpy.random.default_rng(size).integers(0, 255, size, "uint8")
        ring.send(target.ctypes.data, values, gpu.stream)
        assert (target == values).all()
        spans = [begin for begin, _ in ring._flying]
        assert ring._next - spans[0] <= ring.size_bytes


def test_a_model_is_saved_and_loaded_from_the_device(gpu, tmp_path):
    ownt.manual_seed(3)
    model = nn.GPT(nn.GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=16))
    there = nn.GPT(model.config).to("cuda")
    there.load_state_dict(model.state_dict())
    there.save(tmp_path)
    back = nn.GPT.load(tmp_path)
    for name, tensor in model.state_dict().items():
        assert (back.state_dict()[name].numpy() == tensor.numpy()).all()
    assert {tensor.device for tensor in there.state_dict().values()} == {"cuda"}


def test_an_optimizer_follows_its_model(gpu, not_run):
    model = nn.Linear(4, 3)
    optimizer = nn.AdamW(model.parameters(), lr=0.1)
    for device in ("cpu", "cuda"):
        model.to(device)
        ag.sum(model(numpy.ones((2, 4), "float32"))).backward()
        optimizer.step()
        optimizer.zero_grad()
        kept = [value for values in optimizer.state.values() for value in values.values() if type(value) is ownt.Tensor]
        assert {value.device for value in kept} == {device}


def test_batches_come_to_the_model_and_parameters_do_not(gpu, not_run):
    model = nn.Linear(4, 3).to("cuda")
    assert model(ownt.zeros(2, 4)).device == "cuda"
    with pytest.raises(ValueError, match="expected tensors on one device; got cuda and cpu"):
        ag.matmul(model.weight, ag.make_tensor(ownt.zeros(4, 2), requires_grad=True))


def test_an_export_keeps_the_memory(gpu):
    tensor = memory.scratch("cuda").empty((4,), "float32", name="x")
    exported = gpu.export(tensor.T.array, tensor.block)
    pointer = gpu.pointer(tensor.array)
    del tensor
    assert memory.scratch("cuda").blocks == 1 and gpu.pointer(exported) == pointer
    del exported
    assert memory.scratch("cuda").blocks == 0


class Late(Event):
    """An event of a GPU that lags behind: waiting for it has all done that was launched before."""

    queue: list = []  # of what is launched and not yet done

    def record(self, stream):
        self.last = len(Late.queue)

    @property
    def done(self):
        return all(task is None for task in Late.queue[: self.last])

    def synchronize(self):
        Late.work(self.last)

    @staticmethod
    def work(last):
        for number in range(last):
            task, Late.queue[number] = Late.queue[number], None
            if task is not None:
                task()


@pytest.mark.parametrize("ring_bytes", [1 << 9, 1 << 20])
def test_numbers_of_a_step_reach_its_kernels_however_far_the_host_runs_ahead(gpu, monkeypatch, ring_bytes):
    runtime = gpu.xp.cuda.runtime
    copy = runtime.memcpyAsync
    monkeypatch.setattr(Late, "queue", [])
    monkeypatch.setattr(gpu.xp.cuda, "Event", Late)
    monkeypatch.setattr(runtime, "memcpyAsync", lambda *given: Late.queue.append(lambda: copy(*given)))
    monkeypatch.setattr(gpu, "_ring", Ring(gpu.xp.cuda, ring_bytes))
    node = ag.param(ownt.empty(3, device="cuda"))
    used, seen = nn.AdamW([node], lr=1.0), []
    update = Update(used.param_groups[0], [node])
    update._states = [{}]
    for number in range(1, 41):
        used.lr = float(number)
        update.count(used, 1.0)
        Late.queue.append(
            lambda: seen.append(float(numbers(gpu, update.numbers)[0, 1]))
        )  # a kernel that reads the rate
    assert len(seen) < 40  # the control: the GPU lags behind
    Late.work(len(Late.queue))
    assert seen == [float(number) for number in range(1, 41)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rounding", [False, True])
def test_an_optimizers_launch_is_bound_to_addresses_on_the_gpu(gpu, monkeypatch, dtype, rounding):
    """With CuPy's own arrays; nothing is run."""
    monkeypatch.setattr(gpu, "kernels", "cuda")
    nodes = [ag.param(ownt.empty(size, dtype=dtype, device="cuda")) for size in (5, 9000)]
    used = nn.SGD(nodes, lr=0.5, stochastic_rounding=rounding)
    for kernel in (used.kernel, nn.optim.clip.norm_kernel):
        monkeypatch.setattr(kernel, "_by_array", {})  # what was found while this device had no kernels
    for node in nodes:
        node.slot.tensor = ownt.empty(node.shape, dtype=dtype, device="cuda")
    masters = used.has_master(nodes[0].dtype)
    for node in nodes:
        used.state[node] = {"master": ownt.empty(node.shape, device="cuda")} if masters else {}
    bound = []
    with monkeypatch.context() as patch:
        patch.setattr(state, "launch", lambda launch: bound.append(launch))
        used.step()
        nn.optim.clip.norm_of([node.grad for node in nodes])
    update, norm = bound
    table, rows, most, settings, position = update.bound[:5]
    expected = [
        [1, 5, 0, *(gpu.pointer(t.array) for t in (nodes[0].tensor, nodes[0].grad)), 0, 0],
        [3, 9000, 5, *(gpu.pointer(t.array) for t in (nodes[1].tensor, nodes[1].grad)), 0, 0],
    ]
    if masters:
        for row, node in zip(expected, nodes):
            row[5] = gpu.pointer(used.state[node]["master"].array)
    assert (rows, most, update.function.grid) == (2, 8192, (3,))
    assert numbers(gpu, table).tolist() == expected
    assert numbers(gpu, settings).tolist() == [[1, 0.5, 0, 0, 0]] * 2
    assert (position is None) == (not rounding or dtype == "float32")
    for launch, given in ((update.function, update.bound), *norm.bound):
        assert "refused, and then taken" in str(launch.kernel.mistake(given, gpu, launch.dtype))  # no mistake
