"""The executor itself: what it must find, it finds."""

from __future__ import annotations

import numpy as np
import pytest
from compile_for_cpu import ORDERS, missing, sanitized
from simulated import guarded, simulated

from ownt import dtype as dtypes
from ownt.cuda_source import Source

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]
BARRIERS_BEFORE = 2  # in what common.cuh includes
HEAD = '#include "common.cuh"\nextern "C" __global__ void test(real* x) {\n'


@pytest.fixture
def launch(tmp_path):
    """Runs a kernel's body on an array of 64 numbers, 0 at first, and gives it back."""

    def run(body, threads=64, order="forward", deleted=False, shared_bytes=0, blocks=1):
        path = tmp_path / "test.cu"
        path.write_text(f"{HEAD}{body}\n}}\n")
        simulated.order = order
        simulated.deleted = ("test.cu", BARRIERS_BEFORE) if deleted else None
        x = simulated.from_host(np.zeros(64, np.float32))
        try:
            Source(path).kernel("test").launch(simulated, dtypes.float32, blocks, threads, shared_bytes)(x)
        finally:
            simulated.order, simulated.deleted = "forward", None
        return np.asarray(x)

    return run


REVERSE = """
  __shared__ real kept[64];
  kept[threadIdx.x] = threadIdx.x + 1;
  __syncthreads();
  x[threadIdx.x] = kept[63 - threadIdx.x];
"""


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_holds_in_every_order_and_its_absence_shows(launch, order):
    assert launch(REVERSE, order=order).tolist() == list(range(64, 0, -1))
    found = launch(REVERSE, order=order, deleted=True)
    assert not np.array_equal(found, np.arange(64, 0, -1))


def test_shared_memory_begins_as_nan_in_every_block(launch):
    body = "__shared__ real kept[2]; if (threadIdx.x == 0) { x[blockIdx.x] = kept[1]; kept[1] = 7; }"
    assert np.isnan(launch(body, blocks=2)[:2]).all()
    body = "DYNAMIC_SHARED(real, kept); if (threadIdx.x == 0) { x[blockIdx.x] = kept[1]; kept[1] = 7; }"
    assert np.isnan(launch(body, blocks=2, shared_bytes=8)[:2]).all()


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("if (threadIdx.x < 32) __syncthreads();", "has ended, while"),
        ("if (threadIdx.x < 32) __syncthreads(); else { __syncthreads(); }", "wait at different barriers"),
        ("if (threadIdx.x == 3) __syncthreads(); else __syncwarp();", "that others do not come to"),
        ("if (threadIdx.x != 3) x[0] = warp_sum(x[1]);", "has ended, while"),
    ],
)
def test_barriers_that_not_all_come_to_are_reported(launch, body, match):
    with pytest.raises(RuntimeError, match=match):
        launch(body)


def test_shuffles_move_what_cuda_moves(launch):
    body = "const real lane = threadIdx.x % 32; x[threadIdx.x] = {};"
    lanes = np.arange(64) % 32
    for call, wanted in {
        "__shfl_sync(ALL_LANES, lane, 5)": np.full(64, 5),
        "__shfl_sync(ALL_LANES, lane, 3, 8)": lanes // 8 * 8 + 3,
        "__shfl_xor_sync(ALL_LANES, lane, 6)": lanes ^ 6,
        "__shfl_down_sync(ALL_LANES, lane, 4)": np.where(lanes + 4 < 32, lanes + 4, lanes),
        "__shfl_up_sync(ALL_LANES, lane, 4)": np.where(lanes < 4, lanes, lanes - 4),
        "__ballot_sync(ALL_LANES, lane == 3 || lane == 0)": np.full(64, 9),
        "__any_sync(ALL_LANES, threadIdx.x == 40)": np.arange(64) >= 32,
        "__all_sync(ALL_LANES, threadIdx.x < 40)": np.arange(64) < 32,
        "warp_sum(lane)": np.full(64, 496),
        "warp_max(lane)": np.full(64, 31),
        "block_reduce(Sum(), real(threadIdx.x))": np.full(64, 2016),
        "atomicAdd(x + 63, 1)": None,
    }.items():
        found = launch(body.replace("{}", call))
        if wanted is not None:
            np.testing.assert_array_equal(found, wanted, err_msg=call)


def test_what_a_gpu_refuses_is_refused(launch):
    with pytest.raises(AssertionError, match="threads"):
        launch("", threads=2048)
    with pytest.raises(AssertionError, match="shared"):
        launch("", shared_bytes=1 << 20)


def test_guarded_copies_keep_overlaps_alignment_and_what_is_written():
    base = np.arange(20, dtype=np.float32)
    with guarded([base[1:5], base[3:9], None, base[12:14]]) as (a, b, none, c):
        assert a.base is b.base
        assert c.base is not a.base
        assert none is None
        assert a.ctypes.data % 16 == base[1:5].ctypes.data % 16
        b[0] = 99
        assert a[2] == 99
    assert base[3] == 99


PAST = """
from pathlib import Path
import numpy as np
from simulated import simulated
from ownt import dtype as dtypes
from ownt.cuda_source import Source
simulated.sanitized = True
x = simulated.from_host(np.zeros(80, np.float32))[:64]
Source(Path({path!r})).kernel("past").launch(simulated, dtypes.float32, 1, 64)(x)
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x[threadIdx.x] = 1;", ""),
        ("x[1 + threadIdx.x] = 1;", "heap-buffer-overflow"),
        ("x[int(threadIdx.x) - 1] = 1;", "heap-buffer-overflow"),
        ("__shared__ real kept[63]; kept[threadIdx.x] = 1; x[0] = kept[0];", "global-buffer-overflow"),
        ("store<FULL>(x + 4, load<FULL>(x));", ""),
        ("store<FULL>(x, load<FULL>(x + 1));", "misaligned address"),
    ],
)
def test_what_memory_forbids_is_found_by_the_sanitizer(tmp_path, body, message):
    path = tmp_path / "past.cu"
    path.write_text(f"{HEAD.replace('test', 'past')}{body}\n}}\n")
    ran = sanitized("-c", PAST.format(path=str(path)))
    assert message in ran.stderr, ran.stderr
    assert (ran.returncode != 0) == bool(message), ran.stderr
