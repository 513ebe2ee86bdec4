"""Walks, by which backwards are repeated, against gradients one by one: numbers to the bit, memory to the byte."""

import math

import numpy as np
import pytest

pytest.importorskip("numba")

import ag
import nn
import ownt
from ag import plans, walk
from ag.places import Places
from ag.walk import Walk
from ownt.thread import state

ROUNDS = 7  # ops followed by the second, gradients by the third, linked by it, watched in the fourth
CALLS = [(op, sample) for op in ag.registry.values() if op.rule for sample in op.samples]


def walks():
    return [found for found in state.plans.values() if type(found) is Walk]


def repeated():
    """Walks that write where they wrote before."""
    return [found for found in walks() if found._places]


def gpt(**settings):
    return nn.GPT(nn.GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=16, **settings))


def batch(number=0, size=(3, 6)):
    numbers = np.random.default_rng(number)
    return numbers.integers(0, 11, size), numbers.integers(0, 11, size)


def bits(tensor):
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.strides, tensor.numpy().tobytes())


def _of_block(tensor):
    return None if tensor is None else (repr(tensor.block), tensor.block.holders, tensor.block.version > 0)


def told(leaves, graph, rounds=ROUNDS, twice=False):
    """What rounds of backward leave behind: gradients, versions, peaks by account, and what is taken after each."""
    found = []
    arena, ledger = ownt.memory.scratch("cpu"), ownt.memory.ledger
    seed = graph(0).tensor.clone()
    for i in range(rounds):
        ag.zero_grad(leaves)
        assert arena.used == 0
        ownt.memory.reset_peak()
        before = ledger.live
        for _ in range(1 + twice):
            y = graph(i)
            y.backward(seed)
            del y
        used = arena.used
        peaks = {key: count for key, count in ledger.by_account(at_peak=True).items() if count}
        peak = arena.peak
        after = ownt.ones(3, 5).block
        found.append(
            (
                [bits(node.grad) for node in leaves],
                [_of_block(node.grad) for node in leaves],
                (ledger.peak - before, ledger.live - before, used, peaks, peak, after.nbytes),
            )
        )
    ag.zero_grad(leaves)
    return found


def compared(monkeypatch, make, **options):
    """The same graphs with and without walks; how many of them wrote where they had before."""
    found = []
    for often in (math.inf, 0):
        monkeypatch.setattr(plans, "OFTEN", often)
        state.plans.clear()
        ownt.manual_seed(1)
        arena = ownt.memory.scratch("cpu")
        arena.peak = arena.used
        found.append(told(*make(), **options))
    assert found[0] == found[1]
    return len(repeated())


def op_graph(op, sample):
    args, options = sample.make("float32")
    leaves = []

    def leaf(part):
        if isinstance(part, ownt.Tensor) and part.dtype == "float32":
            leaves.append(ag.param(part))
            return leaves[-1]
        return part

    args = [[leaf(part) for part in arg] if isinstance(arg, list) else leaf(arg) for arg in args]

    def graph(_):
        inner = [[_inner(part) for part in arg] if isinstance(arg, list) else _inner(arg) for arg in args]
        y = op(*inner, **options)
        return y * 0.5 if y.requires_grad else y

    return leaves, graph


def _inner(part):
    """A node that is computed, so that it takes gradients that are another's too."""
    return part * 1.5 if type(part) is ag.Node else part


@pytest.mark.parametrize(("op", "sample"), CALLS, ids=lambda part: getattr(part, "name", repr(part)))
@pytest.mark.parametrize("twice", [False, True], ids=["once", "added to"])
def test_a_walk_does_what_gradients_do_one_by_one(monkeypatch, op, sample, twice):
    leaves, graph = op_graph(op, sample)
    if not leaves or not graph(0).requires_grad:
        pytest.skip("no gradient in float32")
    compared(monkeypatch, lambda: op_graph(op, sample), twice=twice)


def test_ops_of_models_are_walked(monkeypatch):
    wanted = {"linear", "gelu", "layer_norm", "norm_linear", "gelu_linear", "causal_attention", "reshape", "embedding"}
    found = set()
    for op, sample in CALLS:
        if op.name in wanted and compared(monkeypatch, lambda op=op, sample=sample: op_graph(op, sample)):
            found.add(op.name)
    assert found == wanted


def gpt_graph():
    ownt.manual_seed(3)
    model = gpt()
    return model.parameters(), lambda i: model.loss(*batch(i))


def test_a_gpt_is_walked(monkeypatch):
    assert compared(monkeypatch, gpt_graph, rounds=12) == 1
    assert compared(monkeypatch, gpt_graph, rounds=12, twice=True) == 2


def train(rounds, held_in):
    """A GPT's losses, gradients and peaks; in some rounds logits are held meanwhile, which have to stay as they are."""
    ownt.manual_seed(3)
    model, found, ledger = gpt(), [], ownt.memory.ledger
    for i in range(rounds):
        ownt.memory.reset_peak()
        before = ledger.live
        x, y = batch(i)
        hidden = model.hidden(x)
        held = (hidden, hidden.numpy().copy()) if i in held_in else None
        loss = ag.cross_entropy(ag.linear(hidden, model.wte.weight), y)
        del hidden
        loss.backward()
        if held is not None:
            assert (held[0].numpy() == held[1]).all()
        gradients = [bits(node.grad) for node in model.parameters()]
        peaks = {key: count for key, count in ledger.by_account(at_peak=True).items() if count}
        found.append((loss.item(), gradients, ledger.peak - before, peaks))
        del held, loss
        ag.zero_grad(model.parameters())
    return found


def test_what_others_hold_is_not_written_to(monkeypatch):
    """Now and then somebody keeps what was given back in the walks before."""
    fits, places = [], Places.fits
    monkeypatch.setattr(plans, "OFTEN", math.inf)
    alone = train(14, ())
    monkeypatch.setattr(plans, "OFTEN", 0)
    monkeypatch.setattr(Places, "fits", lambda *given: fits.append(places(*given)) or fits[-1])
    state.plans.clear()
    assert train(14, ()) == alone
    assert fits.count(True) > 6


def test_what_others_hold_is_told_from_what_is_given_back(at_once):
    """By how many hold it. The control: whoever does not count is told what is still held, and nothing is written."""
    ownt.manual_seed(3)
    x, w = ag.param(np.ones((64, 64), "float32")), ag.param(np.ones((64, 64), "float32"))
    seed, held = ownt.ones(64, 64), []

    def run(keeps):
        inner = ag.gelu(x @ w)
        y = ag.gelu(ag.linear(ag.gelu(inner), w))
        held[:] = [inner] if keeps else []
        before = inner.numpy().tobytes()
        del inner
        y.backward(seed)
        assert not held or held[0].numpy().tobytes() == before
        found = bits(x.grad), bits(w.grad)
        held.clear()
        ag.zero_grad([x, w])
        return found

    first = run(keeps=False)
    for keeps in (False, False, False, False, True, False, True, True, False):
        assert run(keeps) == first
    assert len(repeated()) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk.Held, "known", property(lambda self: 0, lambda self, known: None))
        with pytest.raises(RuntimeError, match="expected what was saved to be given back"):
            for keeps in (False, False, True):
                run(keeps)
    assert x.grad is None
    held.clear()
    assert run(keeps=False) == first
