"""ownt.profile: what it counts of plain and of replayed steps, bytes and operations, tables, nesting, the option."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
from plain_step import Plain, adam, batch, gpt, loss_of, mlp
from test_cli import SMALL, in_process

import ag
import nn
import ownt
from ag.ops.matmul import affine_kernel, matmul_kernel
from ownt.kernel import Out
from ownt.thread import state


def counted(call, *args):
    """{kernel: (launches, bytes, operations)} of a call."""
    with ownt.profile() as profiled:
        call(*args)
    return {row.name: (row.count, row.traffic_bytes, row.operations) for row in profiled.rows}


# what is counted


@pytest.mark.parametrize("model", [mlp, lambda: gpt(dropout=0.1), lambda: gpt(dropout=0.1, checkpoint=True)])
def test_a_replay_launches_what_was_recorded_and_what_a_plain_step_does(model):
    model = model()
    optimizer = adam(model)
    step, plain = (kind(loss_of(model), optimizer, max_norm=1.0) for kind in (nn.Step, Plain))
    plain(*batch(model, 3))  # which makes the optimizer's state
    recorded, replayed, again, eager = (counted(used, *batch(model, 3)) for used in (step, step, step, plain))
    assert step.why_not == ""
    assert replayed == again
    copies = [found.pop("copy")[0] for found in (recorded, replayed, eager)]
    assert copies[0] == copies[1] + 2  # of the inputs
    assert recorded == replayed == eager
    assert {"adam_kernel", "norm_kernel", "limit_norm_kernel"} <= replayed.keys()


def test_time_is_measured_and_what_is_no_launch_is_other():
    with ownt.profile() as profiled:
        ag.matmul(ownt.ones(50, 50), ownt.ones(50, 50))
        time.sleep(0.05)
    (row,) = [row for row in profiled.rows if row.name == "matmul_kernel"]
    assert 0 < row.time_s < profiled.total_s < 60
    assert sum(row.time_s for row in profiled.rows) <= profiled.total_s - 0.05


def test_a_profile_goes_on_where_it_was():
    profiled, totals = ownt.profile(), []
    for _ in range(2):
        with profiled:
            ownt.zeros(3)
        ownt.zeros(3)  # in between: no part of it
        totals.append(profiled.total_s)
    assert [row.count for row in profiled.rows] == [2]
    assert totals[0] < totals[1]


def test_an_error_ends_it_and_other_threads_are_no_part_of_it():
    with pytest.raises(ZeroDivisionError), ownt.profile() as profiled:
        thread = threading.Thread(target=lambda: ownt.ones(3, 3).clone())
        thread.start()
        thread.join()
        ownt.zeros(3)
        _ = 1 / 0
    assert state.launch is None
    assert [(row.name, row.count) for row in profiled.rows] == [("write", 1)]


# bytes and operations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0, 1])
def test_a_product_of_matrices(dtype, beta):
    m, k, n = 7, 5, 3
    a, b, c = (ownt.zeros(shape, dtype=dtype) for shape in ((m, k), (k, n), (m, n)))
    found = counted(lambda: matmul_kernel(a, b, out=Out(c, beta)))
    numbers = m * k + k * n + m * n * (1 + beta)  # what is added to is read, too
    assert found == {"matmul_kernel": (1, numbers * a.dtype.itemsize, 2 * m * n * k)}


@pytest.mark.parametrize(
    ("left", "right", "operations"),
    [
        ((4, 7, 5), (4, 5, 3), 4 * 210),
        ((4, 7, 5), (5, 3), 4 * 210),
        ((2, 1, 7, 5), (4, 5, 3), 2 * 4 * 210),
        ((5,), (5, 3), 30),
        ((7, 5), (4, 5, 3), 4 * 210),
        ((2, 1, 7, 5), (1, 4, 5, 3), 2 * 4 * 210),
    ],
)
def test_stacks_of_matrices(left, right, operations):
    found = counted(ag.matmul, ownt.zeros(left), ownt.zeros(right))
    assert found["matmul_kernel"][2] == operations


def test_a_linear_layer_and_its_gradient():
    rows, inputs, outputs = 6, 5, 4
    x, w, b = ownt.zeros(rows, inputs), ownt.zeros(outputs, inputs), ownt.zeros(outputs)
    found = counted(lambda: affine_kernel(x, w, b, out=Out(ownt.zeros(rows, outputs))))
    assert found["affine_kernel"] == (1, 4 * (30 + 20 + 4 + 24), 2 * rows * inputs * outputs)
    y = ag.sum(ag.linear(ag.param(x), ag.param(w)))
    assert counted(y.backward)["matmul_kernel"][2] == 2 * 2 * rows * inputs * outputs  # of x and of w


def test_kernels_that_do_not_say_count_no_operations():
    assert counted(ag.relu, ownt.zeros(10)) == {"relu": (1, 2 * 40, 0)}


# tables


@pytest.fixture(scope="module")
def profiled():
    """A profile of three steps of a GPT."""
    model = gpt(dropout=0.1)
    step = nn.Step(model.loss, adam(model), max_norm=1.0)
    with ownt.profile() as profiled:
        for number in range(3):
            step(*batch(model, number))
    return profiled


def test_the_table_has_a_header_a_line_for_each_kernel_and_a_total(profiled):
    header, *lines, other, total = str(profiled).splitlines()
    assert header.split() == ["kernel", "count", "ms", "share", "MB", "GB/s", "GFLOP/s"]
    assert [line.split()[0] for line in lines] == [row.name for row in profiled.rows]
    assert [int(line.split()[1]) for line in lines] == [row.count for row in profiled.rows]
    assert (other.split()[0], total.split()[0]) == ("other", "total")
    assert int(total.split()[1]) == sum(row.count for row in profiled.rows)
    assert float(total.split()[2]) == pytest.approx(profiled.total_s * 1e3, abs=1e-3)
    assert len({len(line) for line in lines}) == 1
    times = [row.time_s for row in profiled.rows]
    assert times == sorted(times, reverse=True)


def test_shares_add_up_to_the_whole(profiled):
    shares = [float(share) for share in re.findall(r"([\d.]+)%", str(profiled))]
    assert len(shares) == len(profiled.rows) + 1
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares) + 1e-9)  # each is rounded


def test_only_kernels_that_say_have_a_rate_of_operations(profiled):
    lines = dict(zip((row.name for row in profiled.rows), str(profiled).splitlines()[1:]))
    assert len(lines["matmul_kernel"].split()) == 7
    assert len(lines["dropout_kernel"].split()) == 6


def test_nothing_is_a_table_too():
    with ownt.profile() as profiled:
        pass
    assert [line.split()[0] for line in str(profiled).splitlines()] == ["kernel", "other", "total"]
    assert [line.split()[0] for line in str(ownt.profile()).splitlines()] == ["kernel", "other", "total"]


def test_rows_by_module_are_cut_to_some_depth(profiled):
    names = {depth: {row.name for row in profiled.by_module(depth)} for depth in (1, 2, 3)}
    assert {"", "wte", "blocks", "dropout", "final_norm"} <= names[1]
    assert {"blocks.0", "blocks.1", "final_norm"} <= names[2]
    assert {"blocks.0.mlp", "blocks.1.attention"} <= names[3]
    assert not any("blocks.0" in name for name in names[1])
    assert {row.name for row in profiled.by_module()} == names[2]
    for depth in names:
        rows = profiled.by_module(depth)
        for figure in ("count", "traffic_bytes", "operations"):
            assert sum(getattr(row, figure) for row in rows) == sum(getattr(row, figure) for row in profiled.rows)
    (update,) = [row for row in profiled.by_module(1) if not row.name]
    assert update.count >= 3 * 3  # norm, limit, Adam


def test_plain_numbers_can_be_written_as_json(profiled):
    found = json.loads(json.dumps(profiled.as_dict()))
    assert found["total_s"] == profiled.total_s
    assert [row["name"] for row in found["kernels"]] == [row.name for row in profiled.rows]
    assert set(found["kernels"][0]) == {"name", "count", "time_s", "traffic_bytes", "operations"}


# one in another


def test_an_outer_profile_counts_what_an_inner_one_does():
    with ownt.profile() as outer:
        ag.relu(ownt.zeros(3))
        with ownt.profile() as inner:
            ag.tanh(ownt.zeros(3))
        ag.relu(ownt.zeros(3))
    counts = [{row.name: row.count for row in found.rows} for found in (outer, inner)]
    assert counts == [{"write": 3, "relu": 2, "tanh": 1}, {"write": 1, "tanh": 1}]
    assert state.launch is None


@pytest.mark.parametrize("inside", [True, False])
def test_anomalies_are_found_beside_it(inside):
    """Whichever of the two is the outer one."""
    profiled, anomaly = ownt.profile(), ag.detect_anomaly()
    first, second = (profiled, anomaly) if inside else (anomaly, profiled)
    with pytest.raises(ag.AnomalyError, match="log: expected finite numbers; got -inf"), first, second:
        ag.log(ag.relu(ownt.zeros(3)))
    assert {row.name for row in profiled.rows} >= {"write", "relu"}
    assert state.launch is None


# the command


@pytest.mark.parametrize(("given", "wanted"), [(["--profile"], True), (["--profile", "True"], True), ([], False)])
def test_training_prints_it_where_asked(capsys, tmp_path, given, wanted):
    arguments = ["train", "--steps", 4, *given, "--out", tmp_path, *SMALL]
    status, out, _ = in_process(capsys, *arguments)
    lines = out.splitlines()
    tables = [number for number, line in enumerate(lines) if re.match(r"kernel +count +ms +share", line)]
    assert (status, len(tables)) == (0, int(wanted))
    if wanted:
        steps = [number for number, line in enumerate(lines) if line.startswith("step")]
        samples = [number for number, line in enumerate(lines) if line.startswith("sample ")]
        assert max(steps) < tables[0] < min(samples)
        found = dict(line.split()[:2] for line in lines[tables[0] + 1 :] if re.search(r"\d%", line))
        assert found["adam_kernel"] == "8"  # matrices and vectors, four times
