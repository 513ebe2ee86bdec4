"""Chains of compiled kernels against the same calls one by one."""

import gc
import threading
import weakref

import numpy
import pytest

pytest.importorskip("numba")

import ag
import nn
import ownt
from ownt import capture, chain_cpu, device
from ownt.calls import in_order
from ownt.compiled_cpu import compiled, prange
from ownt.launch import CaptureError


@compiled("void(real[:, :], float64, real, int64, boolean, UniTuple(real, 2), Tuple(()), int32[::1], real[:, ::1])")
def mixed(x, wide, narrow, whole, flag, pair, nothing, numbers, out):
    """Takes each kind of argument that there is"""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            value = x[i, j] * narrow + x.dtype.type(wide) + whole - pair[0] + pair[1] * numbers[i]
            out[i, j] += -value if flag else value


@compiled("void(real[::1])", parallel=True)
def doubled(x):
    for i in prange(x.size):
        x[i] *= x.dtype.type(2)


@compiled("void(real[::1], int64)")
def checked(x, limit):
    if x.size > limit:
        raise ValueError("more than the limit")


@compiled("void(real[::1])")
def one_more(x):
    for i in range(x.size):
        x[i] += 1


def gpt(**settings):
    return nn.GPT(nn.GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=16, **settings))


def run(function, *bound):
    for chained, rest in chain_cpu.joined([(function, bound)]):
        chained(*rest)


def arguments(dtype, out, flag=True):
    x = numpy.arange(24, dtype=dtype).reshape(4, 6)[::2, 1::2].T  # strides of both signs of order
    return x, 1 / 3, 0.1, -(2**40), flag, (0.3, -2.5), (), numpy.array([1, -2, 3], "int32"), out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_chain_gives_kernels_what_they_are_given_one_by_one(dtype):
    kind = numpy.dtype(dtype)
    outs = numpy.ones((3, 2), dtype), numpy.ones((3, 2), dtype)
    mixed[kind, False](*arguments(dtype, outs[0]))
    mixed[kind, False](*arguments(dtype, outs[0], flag=False))
    doubled[kind, True](outs[0].reshape(-1))
    calls = [
        (mixed[kind, False], arguments(dtype, outs[1])),
        in_order((mixed[kind, False], arguments(dtype, outs[1], False)), (doubled[kind, True], (outs[1].reshape(-1),))),
    ]
    chained = chain_cpu.joined(calls)
    assert [type(function) for function, _ in chained] == [chain_cpu.Chain]
    chained[0][0]()
    numpy.testing.assert_array_equal(outs[1], outs[0])


def test_negative_and_zero_strides_and_empty_arrays():
    kind = numpy.dtype("float32")
    source = numpy.arange(6, dtype="float32")
    repeated = numpy.lib.stride_tricks.as_strided(source, (3, 2), (4, 0))
    for given in (source[::-1].reshape(3, 2)[:, ::-1], source.reshape(2, 3).T[::-1], repeated):
        rest = (0.5, 2.0, 1, False, (1.0, 0.0), (), numpy.zeros(3, "int32"))
        expected, found = numpy.zeros((2, 3, 2), "float32")
        mixed[kind, False](given, *rest, expected)
        run(mixed[kind, False], given, *rest, found)
        numpy.testing.assert_array_equal(found, expected)
    run(one_more[kind, False], numpy.empty(0, "float32"))


def test_what_is_not_compiled_keeps_its_place():
    kind, x, seen = numpy.dtype("float32"), numpy.ones(3, "float32"), []
    more = one_more[kind, False], (x,)
    calls = chain_cpu.joined([more, more, (lambda array: seen.append(array.copy()), (x,)), more])
    assert len(calls) == 3
    for function, bound in calls:
        function(*bound)
    assert seen[0].tolist() == [3, 3, 3]
    assert x.tolist() == [4, 4, 4]


def test_a_long_run_is_several_chains_so_that_an_interrupt_is_seen():
    x = numpy.zeros(2, "float32")
    calls = chain_cpu.joined([(one_more[x.dtype, False], (x,))] * 200)
    assert 1 < len(calls) < 10
    for function, bound in calls:
        function(*bound)
    assert x.tolist() == [200, 200]


def test_an_error_is_raised_where_it_occurs():
    x = numpy.zeros(2, "float32")
    more, check = one_more[x.dtype, False], checked[x.dtype, False]
    ((chain, _),) = chain_cpu.joined([(more, (x,)), (check, (x, 2)), (check, (x, 1)), (more, (x,))])
    with pytest.raises(ValueError, match="more than the limit"):
        chain()
    assert x.tolist() == [1, 1]


def test_a_chain_keeps_the_arrays_it_writes_to():
    kind = numpy.dtype("float32")
    block = numpy.zeros(1000, "float32")
    alive = weakref.ref(block)
    calls = chain_cpu.joined([(one_more[kind, False], (block,))])
    del block
    gc.collect()
    assert alive() is not None
    calls[0][0]()
    assert alive()[0] == 1
    del calls
    gc.collect()
    assert alive() is None


@compiled("void(optional(int64), real[::1])")
def maybe(number, x):
    x[0] = 1 if number is None else number


def test_arguments_that_records_cannot_hold_are_left_to_python():
    x = numpy.zeros(1, "float32")
    function = maybe[x.dtype, False]
    call = getattr(function, "settled", function), (7, x)
    assert chain_cpu.joined([call]) == [call]


@pytest.mark.parametrize(("flag", "expected"), [(0.5, -1), (256, -1), (0, 1), (numpy.True_, -1)])
def test_a_flag_is_true_as_it_is_in_python(flag, expected):
    out = numpy.zeros((1, 1), "float32")
    given = numpy.ones((1, 1), "float32"), 0.0, 1.0, 0, flag, (0.0, 0.0), (), numpy.zeros(1, "int32"), out
    run(mixed[out.dtype, False], *given)
    assert out[0, 0] == expected


def test_a_parallel_kernel_in_a_thread_of_its_own():
    x = numpy.ones(1 << 15, "float32")
    thread = threading.Thread(target=run, args=(doubled[x.dtype, True], x))
    thread.start()
    thread.join()
    assert (x == 2).all()


def test_chains_run_in_threads_of_their_own():
    arrays = numpy.zeros((4, 64), "float32")
    chains = [chain_cpu.joined([(one_more[arrays.dtype, False], (array,))] * 50)[0][0] for array in arrays]
    threads = [threading.Thread(target=lambda chain=chain: [chain() for _ in range(20)]) for chain in chains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (arrays == 1000).all()


SETTINGS = [{}, {"dropout": 0.1}, {"checkpoint": True}, {"norm": "rms"}, {"activation": "relu"}, {"tied": False}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"fuse_optimizer": True}], ids=str)
def test_a_replay_of_a_gpt_calls_nothing_but_chains(settings, options):
    """A kernel of such a step that is not compiled is found here."""
    model = gpt(**settings)
    step = nn.Step(model.loss, nn.AdamW(nn.decay_groups(model, 0.1), lr=1e-3), **options)
    tokens = numpy.random.default_rng(0).integers(0, model.config.vocab_size, (2, model.config.block_size))
    for _ in range(3):
        step(tokens, tokens)
    assert not step.why_not
    halves = step._made[-1].recording._halves
    assert {type(function) for half in halves for function, _ in half} == {chain_cpu.Chain}
    assert sum(map(len, halves)) < 8


@pytest.mark.parametrize("fused", [False, True])
def test_an_index_out_of_range_in_a_replay_is_named_and_changes_nothing(fused):
    model = gpt()
    adam = nn.Adam(model.parameters(), lr=0.1)
    step = nn.Step(model.loss, adam, fuse_optimizer=fused)
    tokens = numpy.zeros((2, model.config.block_size), "int64")
    for _ in range(3):
        step(tokens, tokens)
    before = [node.numpy().copy() for node in model.parameters()]
    wrong = tokens.copy()
    wrong[1, 2] = model.config.vocab_size
    with pytest.raises(IndexError, match=rf"expected indices from 0 to .*; got {wrong[1, 2]} at \(1, 2\)"):
        step(wrong, tokens)
    with pytest.raises(IndexError, match=r"targets .*; got -5 at \(0, 0\)"):
        step(tokens, numpy.where(wrong > 0, 0, -5))
    for node, values in zip(model.parameters(), before, strict=True):
        numpy.testing.assert_array_equal(node.numpy(), values)
    assert {state["step"] for state in adam.state.values()} == {3}
    ignored = tokens.copy()
    ignored[0] = -100
    assert numpy.isfinite(step(tokens, ignored).item())
    assert not step.why_not


def recorded():
    """A model, a step of it that has been recorded and not replayed yet, and what it was given."""
    model = gpt()
    step = nn.Step(model.loss, nn.SGD(model.parameters(), lr=0.1))
    tokens = numpy.zeros((2, model.config.block_size), "int64")
    step(tokens, tokens)
    return model, step, tokens


def test_what_cannot_be_put_together_is_called_launch_by_launch(monkeypatch):
    """An error is raised once, before the replay has changed anything."""

    def fails(calls):
        raise MemoryError("no room")

    model, step, tokens = recorded()
    before = [node.numpy().copy() for node in model.parameters()]
    monkeypatch.setattr(device.cpu, "joined", fails, raising=False)
    with pytest.raises(MemoryError, match="no room"):
        step(tokens, tokens)
    for node, values in zip(model.parameters(), before, strict=True):
        numpy.testing.assert_array_equal(node.numpy(), values)
    first = step(tokens, tokens).item()
    assert not step.why_not
    assert step(tokens, tokens).item() < first


def test_why_there_is_no_graph_is_said_where_the_step_is_called(monkeypatch):
    def refuses(launches):
        raise CaptureError("fill: of no use here")

    _, step, tokens = recorded()
    monkeypatch.setattr(device.cpu, "graph", refuses, raising=False)
    monkeypatch.setattr(capture, "_warned", set())
    with pytest.warns(RuntimeWarning, match="because of fill: of no use here") as caught:
        first = step(tokens, tokens).item()
    assert caught[0].filename == __file__
    assert step(tokens, tokens).item() < first


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_indices_that_are_not_compiled_for_are_checked_too(dtype):
    table = ag.param(ownt.zeros(5, 3))
    step = nn.Step(lambda indices: ag.embedding(indices, table).sum(), nn.SGD([table], lr=0.1))
    for _ in range(3):
        step(numpy.array([0, 4], dtype))
    with pytest.raises(IndexError, match="got 5"):
        step(numpy.array([0, 5], dtype))
