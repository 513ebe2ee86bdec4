"""What the device "cuda" captures as a graph, and what it refuses, with CuPy's arrays on the host: see cuda_host.py."""

from __future__ import annotations

import contextlib
import gc
import threading

import numpy
import pytest
from cuda_host import Stream, numbers

import ownt
from ownt import cuda_graph
from ownt.cuda import Cuda
from ownt.half import _converted
from ownt.launch import CaptureError, Launch
from ownt.thread import state


def empty(shape=(4,)):
    return ownt.empty(shape, device="cuda").array


def add(gpu, array, value):
    """A launch that adds a number to an array, as a kernel on the device's stream."""

    def launch(array, value):
        def run():
            numbers(gpu, array)[...] += value

        gpu.stream.do(f"add {value}", run)

    return Launch("add", launch, (array, value))


def test_a_graph_does_what_was_captured_and_capturing_does_nothing(gpu):
    array = empty()
    numbers(gpu, array)[...] = 1
    stream = gpu.stream
    graph = gpu.graph([add(gpu, array, 2), add(gpu, array, 3)])
    assert numbers(gpu, array).tolist() == [1] * 4 and not stream.done
    graph(), graph()
    assert numbers(gpu, array).tolist() == [11] * 4
    assert gpu.stream is stream and stream.done == ["add 2", "add 3"] * 2


def test_what_another_thread_launches_meanwhile_is_done_and_not_captured(gpu):
    array, other = empty(), empty()
    numbers(gpu, array)[...] = numbers(gpu, other)[...] = 0
    launch, streams = add(gpu, other, 1), []

    def meanwhile():
        thread = threading.Thread(target=lambda: (streams.append(gpu.stream), launch.function(*launch.bound)))
        thread.start()
        thread.join()
        streams.append(gpu.stream)

    graph = gpu.graph([add(gpu, array, 1), Launch("meanwhile", meanwhile, ())])
    assert numbers(gpu, other).tolist() == [1] * 4
    assert streams[0] is gpu.stream is not streams[1]
    graph()
    assert numbers(gpu, array).tolist() == numbers(gpu, other).tolist() == [1] * 4


def read(gpu, array):
    return lambda: gpu.to_host(array)


def send(gpu, array):
    return lambda: gpu.write(array, ..., [1, 2, 3, 4])


def allocate(gpu, array):
    return lambda: gpu.xp.empty(3, "float32")


def reference(gpu, array):
    def run():
        with gpu.quiet():
            gpu.xp.empty(3, "float32")

    return run


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (read, "a value is read"),
        (send, "a value is sent"),
        (allocate, "it takes 12 bytes"),
        (reference, "expected no allocations; got one of 12 bytes"),
    ],
)
def test_what_cannot_be_captured_is_named_and_leaves_no_trace(gpu, refused, why):
    array, stream, current = empty(), gpu.stream, Stream.current
    with pytest.raises(CaptureError, match=f"the kernel: .*{why}"):
        gpu.graph([add(gpu, array, 1), Launch("the kernel", refused(gpu, array), ())])
    assert gpu.stream is stream and Stream.current is current and not state.capturing
    with gpu.quiet():
        refused(gpu, array)()


def test_an_array_of_the_host_would_not_be_seen_to_change(gpu):
    for bound in (numpy.zeros(2),), ((len, (empty(), numpy.zeros(2))),), ({"out": [numpy.zeros(2)]},):
        with pytest.raises(CaptureError, match="the kernel: it takes an array that is not on cuda"):
            gpu.graph([Launch("the kernel", print, bound)])
    cuda_graph.check(gpu, [Launch("the kernel", print, (empty(), 3, None, "text", {"out": ownt.kernel.Out}))])


def test_a_capture_that_comes_to_nothing_is_an_error(gpu, monkeypatch):
    def fail(_):
        raise gpu.xp.cuda.runtime.CUDARuntimeError(901)

    monkeypatch.setattr(Stream, "end_capture", fail)
    with pytest.raises(CaptureError, match="no kernel by itself: "):
        gpu.graph([add(gpu, empty(), 1)])
    with pytest.raises(CaptureError, match="the kernel: division by zero"):
        gpu.graph([Launch("the kernel", lambda: 1 / 0, ())])
    assert not state.capturing


def test_a_graph_is_given_up_when_it_has_run(gpu):
    graph = gpu.graph([add(gpu, empty(), 1)])
    waits = gpu.stream.waits
    del graph
    gc.collect()
    assert gpu.stream.waits == waits + 1


def test_launches_mean_their_gpu(gpu, held, monkeypatch):
    second = Cuda(1, gpu.xp, 90)
    told, held.chosen[:] = held.chosen, []
    assert gpu.here(lambda x: [x, *told], 1) == [1]
    assert second.here(lambda x: [x, *told], 1) == [1, 1] and told == [1, 0]
    told.clear()
    second.graph([Launch("nothing", lambda: None, ())])()
    assert set(told) == {0, 1} and told[-1] == 0


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_capture_the_stream_is_current_that_was(gpu, fails):
    array = empty()
    numbers(gpu, array)[...] = 0
    with gpu.working():
        before = Stream.current
    launches = [Launch("allocate", allocate(gpu, array), ())] if fails else [add(gpu, array, 1)]
    with pytest.raises(CaptureError) if fails else contextlib.nullcontext():
        gpu.graph(launches)
    assert Stream.current is before is gpu.stream


def test_half_precision_is_converted_on_the_devices_stream(gpu):
    """Also where a user left another stream current."""
    half, wide = ownt.empty(4, dtype="float16", device="cuda"), ownt.empty(4, device="cuda")
    Stream().use()
    with contextlib.suppress(gpu.xp.cuda.runtime.CUDARuntimeError):  # there is no kernel that could do it
        _converted([(half.array, wide.array)], [], lambda: None)
    assert Stream.current is gpu.stream
