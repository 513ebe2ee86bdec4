"""Plans, by which ops repeat what they did, against the ops' own programs: numbers to the bit, memory to the byte."""

import gc
import threading
import weakref

import numpy as np
import pytest

pytest.importorskip("numba")

import ag
import nn
import ownt
from ag import plans
from ag.plan import Plan
from ag.sample import Sample, normal
from ownt import Tensor
from ownt.kernel import Kernel
from ownt.thread import state

NEVER = 10**9
EXPECTED = {  # ops of models, whose launches are all compiled
    *("add", "mul", "linear", "matmul", "gelu", "relu", "silu", "sigmoid", "softmax", "layer_norm", "rms_norm"),
    *("norm_linear", "gelu_linear", "embedding", "causal_attention", "linear_cross_entropy", "cross_entropy"),
}
CALLS = [(op, sample) for op in ag.registry.values() for sample in op.samples]
ROUNDS = 4


def followed():
    """All plans there are, of gradients too."""
    return [plan for plan in state.plans.values() if type(plan) is Plan]


def leaf(*values):
    return ag.param(np.array(values, "float32"))


def gpt(**settings):
    return nn.GPT(nn.GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=16, **settings))


def batches(count, size=(3, 6)):
    numbers = np.random.default_rng(0)
    return [(numbers.integers(0, 11, size), numbers.integers(0, 11, size)) for _ in range(count)]


def bits(tensor):
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.strides, tensor.numpy().tobytes())


def run_op(op, sample, dtype):
    """Results, gradients (once, then added to), the peak and the requests, of an op that is run several times."""
    ownt.manual_seed(1)
    told = []
    arena, ledger = ownt.memory.scratch("cpu"), ownt.memory.ledger
    for _ in range(ROUNDS):
        args, options = sample.make(dtype)
        leaves = [ag.param(part) if part is not None and op.rule else None for part in _tensors(args)]
        args = _with(args, iter(leaves))
        ownt.memory.reset_peak()
        assert arena.used == 0  # and what was freed last is put among the free
        arena.trace, before = [], ledger.live
        y = op(*args, **options)
        found = [bits(y.tensor)]
        if y.slot is not None:
            for _ in range(2):
                g = ownt.randn(y.shape, dtype=str(y.dtype))
                y = op(*args, **options)
                y.backward(g)
                found += [bits(node.grad) for node in leaves if node is not None]
                del g
        y = None
        told.append((found, ledger.peak - before, arena.trace))
        arena.trace = None
    return told


def _tensors(args):
    parts = [part for arg in args for part in (arg if isinstance(arg, list) else [arg])]
    return [part if isinstance(part, Tensor) and part.dtype in ("float32", "float64") else None for part in parts]


def _with(args, leaves):
    def exchanged(part):
        made = next(leaves)
        return part if made is None else made

    return [[exchanged(part) for part in arg] if isinstance(arg, list) else exchanged(arg) for arg in args]


@pytest.mark.parametrize(("op", "sample"), CALLS, ids=lambda part: getattr(part, "name", repr(part)))
def test_a_plan_does_what_the_op_does(monkeypatch, op, sample):
    dtype = "float64" if sample is op.samples[0] else "float32"
    monkeypatch.setattr(plans, "OFTEN", NEVER)
    alone = run_op(op, sample, dtype)
    monkeypatch.setattr(plans, "OFTEN", 0)
    state.plans.clear()
    assert run_op(op, sample, dtype) == alone


def test_ops_of_models_have_plans(at_once):
    planned = set()
    for op, sample in CALLS:
        if op.name in EXPECTED:
            state.plans.clear()
            run_op(op, sample, "float32")
            found = {plan: key[0] for key, plan in state.plans.items() if type(plan) is Plan}
            planned |= {found[first].name for first in found.values() if type(first) is Plan}
    assert EXPECTED - planned == set()


def train(model, steps, often, monkeypatch, **options):
    monkeypatch.setattr(plans, "OFTEN", often)
    state.plans.clear()
    optimizer = nn.AdamW(model.parameters(), lr=1e-2)
    told = []
    for x, y in batches(steps):
        ownt.memory.reset_peak()
        loss = model.loss(x, y)
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        told.append((loss.item(), ownt.memory.ledger.peak))
        del loss
    return told, [bits(node.tensor) for node in model.parameters()]


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.1}], ids=["plain", "dropout"])
def test_training_by_plans_gives_the_same_weights_and_peaks(monkeypatch, settings):
    found = []
    for often in (NEVER, 2):
        ownt.manual_seed(3)
        before = ownt.memory.ledger.live
        told, weights = train(gpt(**settings), 20, often, monkeypatch)
        found.append(([(loss, peak - before) for loss, peak in told], weights))
    assert found[0] == found[1]
    assert len(followed()) > 10


def test_a_followed_plan_runs_none_of_the_ops_code(at_once, monkeypatch):
    """The control: an op whose plan is not followed does run it."""
    x, w, b = (ag.param(np.ones(shape, "float32")) for shape in ((3, 4), (5, 4), (5,)))
    seed = ownt.ones(3, 5)
    for _ in range(2):
        ag.linear(x, w, b).backward(seed)
        ag.zero_grad([x, w, b])

    def refuse(*_, **__):
        raise AssertionError("the op's own code was run")

    monkeypatch.setattr(ag.linear, "forward", refuse)
    monkeypatch.setattr(ag.linear, "rule", refuse)
    monkeypatch.setattr(Kernel, "__call__", refuse)
    y = ag.linear(x, w, b)
    with pytest.raises(AssertionError, match="own code"):
        ag.linear(x, w, ag.param(np.ones((6,), "float32")))
    with pytest.raises(AssertionError, match="own code"):
        ag.graph.run(y.slot, seed)  # for the gradient of the result is copied by a kernel


def test_an_index_out_of_range_is_named_and_leaves_nothing(at_once):
    table = ag.param(np.arange(12, dtype="float32").reshape(4, 3))
    for _ in range(3):
        assert ag.embedding(np.array([1, 3]), table).numpy().tolist() == [[3, 4, 5], [9, 10, 11]]
    before = ownt.memory.ledger.live
    ownt.memory.reset_peak()
    with pytest.raises(IndexError, match=r"expected .* from 0 to 3; got 4 at \(1,\)"):
        ag.embedding(np.array([1, 4]), table)
    gc.collect()
    assert ownt.memory.ledger.live == before
    assert ag.embedding(np.array([1, 3]), table).numpy().tolist() == [[3, 4, 5], [9, 10, 11]]


def test_a_timeline_is_told_the_same(at_once):
    x, w = ag.param(np.ones((4, 4), "float32")), ag.param(np.ones((4, 4), "float32"))
    told = []
    for _ in range(4):
        with ownt.memory.record() as timeline:
            y = ag.gelu(ag.linear(x, w))
            y.sum().backward()
            del y
            ag.zero_grad([x, w])
        told.append([(held.kind, held.op, held.bytes, held.shape) for held in timeline.held if held.start >= 0])
    assert told[0] == told[3]
    assert {"linear", "gelu"} <= {op for _, op, _, _ in told[3]}


def test_nothing_is_kept_by_plans(at_once):
    """The control: as long as the result is held, so are its bytes."""
    model = gpt()
    for x, y in batches(3):
        model.loss(x, y).backward()
        ag.zero_grad(model.parameters())
    gc.collect()
    before = ownt.memory.ledger.live
    loss = model.loss(*batches(1)[0])
    assert ownt.memory.ledger.live > before
    loss.backward()
    ag.zero_grad(model.parameters())
    del loss
    assert ownt.memory.ledger.live == before
    scratch = ownt.memory.scratch()
    assert scratch.used == 0


def test_threads_follow_plans_of_their_own(at_once):
    """At the same time, with numbers of their own: a plan is filled in anew at each run."""
    wrong, seen = [], []

    def work(number):
        w = ag.param(np.full((8, 8), number, "float32"))
        for i in range(300):
            x = ag.constant(np.full((4, 8), i, "float32"))
            y = ag.linear(x, w)
            if not (y.numpy() == 8 * i * number).all():
                wrong.append((number, i))
        seen.append(followed())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len({id(plan) for each in seen for plan in each}) == 4


def test_an_array_of_the_users_is_not_kept(at_once):
    array = np.ones((4, 1000), "float32")
    held = weakref.ref(array)
    for _ in range(3):
        ag.layer_norm(ag.constant(array))  # without a gain, for which the kernel takes ones
    del array
    assert held() is None


def test_out_of_memory_in_a_plan_leaves_nothing(at_once, monkeypatch):
    x, targets = ag.param(np.ones((4, 4), "float32")), ownt.asarray([0, 1, 2, 3])
    for _ in range(3):
        ag.cross_entropy(x, targets)  # takes memory for the losses, their rows' statistics and the mean
    before, arena = ownt.memory.ledger.live, ownt.memory.scratch()
    taken = iter((True, True, False))
    original = type(arena).make

    def make(self, *args, **options):
        if not next(taken):
            raise MemoryError("no more")
        return original(self, *args, **options)

    monkeypatch.setattr(type(arena), "make", make)
    with pytest.raises(MemoryError, match="no more"):
        ag.cross_entropy(x, targets)
    assert ownt.memory.ledger.live == before


def test_out_of_memory_in_the_plan_of_a_gradient_leaves_no_gradient(at_once, monkeypatch):
    x, w = ag.param(np.ones((4, 4), "float32")), ag.param(np.ones((4, 4), "float32"))
    for _ in range(3):
        ag.layer_norm(ag.linear(x, w)).sum().backward()
        ag.zero_grad([x, w])
    y = ag.linear(x, w)
    seed, before, arena = ownt.ones(4, 4), ownt.memory.ledger.live, ownt.memory.scratch()

    def empty(*_, **__):
        raise MemoryError("no more")

    monkeypatch.setattr(type(ownt.memory.heap()), "empty", empty)
    with pytest.raises(MemoryError, match="no more"):
        y.backward(seed)
    monkeypatch.undo()
    assert x.grad is None
    assert w.grad is None
    del y
    assert (ownt.memory.ledger.live, arena.used) == (before - 64, 0)


def test_shapes_of_no_elements(at_once):
    for _ in range(3):
        assert run_op(ag.linear, Sample(normal(0, 4), normal(5, 4), normal(5)), "float32")
