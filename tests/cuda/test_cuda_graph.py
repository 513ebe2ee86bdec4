"""Steps that are CUDA graphs: on the simulated device, whose graphs know nothing but what they were made with."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from compile_for_cpu import missing
from plain_step import FIRST, alike, batch, gpt, loss_of, mlp, steps
from simulated import simulated

import ag
import nn
import ownt
from ownt import device as devices
from ownt import memory
from ownt.launch import CaptureError

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
MODELS = {
    "mlp": mlp,
    "gpt": gpt,
    "gpt-checkpoint": partial(gpt, checkpoint=True),
}


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that are made."""
    made = []
    monkeypatch.setattr(simulated, "graphs", made)
    return made


def there(model):
    """A function that makes a model on the simulated device."""
    return lambda: model().to("simulated")


@pytest.mark.parametrize("max_norm", [None, 0.1])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_graphs_equal_the_plain_loop(graphs, model, max_norm):
    run = alike(lambda run: steps(run, range(6)), there(model), max_norm=max_norm)
    assert run.whys == [FIRST, *[""] * 5]
    assert [graph.launched for graph in graphs] == [5]


@pytest.mark.filterwarnings("ignore:a recorded step is no CUDA graph, .* dropout")
@pytest.mark.parametrize("checkpoint", [False, True])
def test_random_numbers_are_new_ones_each_time(graphs, checkpoint):
    """In a graph if dropout reads its place in the random stream from the device, else launch by launch."""
    run = alike(lambda run: steps(run, range(6)), there(partial(gpt, dropout=0.2, checkpoint=checkpoint)))
    assert run.whys == [FIRST, *[""] * 5]
    assert [graph.launched for graph in graphs] == [5]


@pytest.mark.parametrize("kind", [nn.SGD, nn.AdamW, nn.Lion, nn.RMSprop])
def test_every_optimizer_gets_its_numbers(graphs, kind):
    alike(lambda run: steps(run, range(6)), there(mlp), lambda model: kind(model.parameters(), lr=0.01))
    assert [graph.launched for graph in graphs] == [5]


def test_accumulated_batches_are_one_graph(graphs):
    def drive(run):
        for number in range(5):
            batches = [batch(run.model, 10 * number + i, size) for i, size in enumerate((5, 3))]
            run.accumulate((x, y, np.float32(0.5 / (1 + number))) for x, y in batches)

    alike(drive, there(gpt), loss=lambda model: lambda x, y, share: loss_of(model)(x, y) * share)
    assert [graph.launched for graph in graphs] == [4]


def test_an_update_as_soon_as_a_gradient_is_there(graphs):
    found = []
    for fused in (False, True):
        ownt.manual_seed(0)
        model = mlp().to("simulated")
        step = nn.Step(loss_of(model), nn.AdamW(model.parameters(), lr=0.01), fuse_optimizer=fused)
        found.append([step(*batch(model, number)).item() for number in range(5)])
    assert found[0] == found[1]
    assert [graph.launched for graph in graphs] == [4, 4]


def test_each_shape_has_a_graph(graphs):
    alike(lambda run: [steps(run, [number], 4 + number % 2) for number in range(6)], there(mlp))
    assert [graph.launched for graph in graphs] == [2, 2]


def test_a_graph_goes_with_its_recording(graphs):
    model = mlp().to("simulated")
    step = nn.Step(loss_of(model), nn.SGD(model.parameters(), lr=0.01))
    for number in range(3):
        step(*batch(model, number))
    recording = step._made[0].recording
    assert recording.is_graph
    recording.forget()
    assert not recording.is_graph and not recording.launches
    step(*batch(model, 3))
    assert "has changed" in step.why_not and len(graphs) == 1
    step(*batch(model, 4))
    assert step.why_not == "" and len(graphs) == 2


def test_what_lies_in_the_way_of_a_graph_is_not_written_over(graphs):
    model = mlp().to("simulated")
    step = nn.Step(loss_of(model), nn.SGD(model.parameters(), lr=0.01))
    for number in range(3):
        step(*batch(model, number))
    kept = memory.scratch("simulated").empty((4096,))
    kept[...] = 7
    step(*batch(model, 3))
    assert step.why_not.startswith("in the way of a replay")
    assert (kept.numpy() == 7).all()


def test_while_launches_are_watched_they_are_launched_one_by_one(graphs):
    model = mlp().to("simulated")
    step = nn.Step(loss_of(model), nn.SGD(model.parameters(), lr=0.01))
    step(*batch(model, 0))
    with ag.detect_anomaly():
        step(*batch(model, 1))
    assert step.why_not == "" and not graphs
    step(*batch(model, 2))
    assert graphs[0].launched == 1


@pytest.fixture
def unsaid(monkeypatch):
    """Nothing has been said yet of kernels that cannot be part of a graph."""
    monkeypatch.setattr(ownt.capture, "_warned", set())


def test_a_launch_of_an_array_of_the_host_is_named_once_and_replayed_as_ever(graphs, unsaid):
    weights = np.ones(4, np.float32)

    def drive(run):
        for number in range(4):
            weights[...] = number  # a graph would not see it
            run(*batch(run.model, number))

    def loss(model):
        def function(x, y):
            factor = ownt.asarray(weights).to("simulated")
            return ag.cross_entropy(model(x) * factor, y)

        return function

    with pytest.warns(RuntimeWarning, match="no CUDA graph.*because of copy: it takes an array that is not on") as said:
        alike(drive, there(mlp), loss=loss)
    assert len(said) == 1 and not graphs


def test_a_launch_that_fails_in_a_capture_is_named_and_replayed_as_ever(monkeypatch, unsaid):
    def graph(launches):
        raise CaptureError(f"{launches[2].name}: it takes 8 bytes of memory")

    monkeypatch.setattr(simulated, "graph", graph)
    with pytest.warns(RuntimeWarning, match="because of .*: it takes 8 bytes of memory") as said:
        run = alike(lambda run: steps(run, range(4)), there(mlp))
    assert len(said) == 1 and run.whys == [FIRST, "", "", ""]


def test_new_tokens_are_a_graph(graphs):
    """One token more each time, from a cache: as the CPU chooses them, past a whole block too."""
    model, found = gpt(), []
    for place in ("cpu", "simulated"):
        decoder = nn.generate.Decoder(model.to(place), batch=2)
        source = nn.generate.stream(model, [[1, 2], [3, 4]], temperature=0, decoder=decoder)
        found.append([next(source) for _ in range(10)])
    assert found[0] == found[1]
    assert [graph.launched for graph in graphs] == [5]  # 8 tokens of context: 2 read, 1 recorded, then the graph


@pytest.mark.parametrize("start", [-1, 7, 1 << 40])
def test_new_positions_without_room_are_nan_and_not_kept(start):
    """On a device where a look at `start` would wait for all that was launched."""
    with devices.use(simulated):
        keys, values = ownt.zeros((1, 2, 8, 4)), ownt.zeros((1, 2, 8, 4))
        with ag.no_grad():
            y = ag.cached_attention(ownt.ones((1, 2, 24)), keys, values, ownt.asarray(start))
    assert np.isnan(y.numpy()).all() and not keys.numpy().any() and not values.numpy().any()
