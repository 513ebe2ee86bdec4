"""checkpoint: less memory, the very same bits."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import ag
import ownt


def layers(count: int, width: int = 16):
    return [ag.param(ownt.randn(width, width)) for _ in range(count)]


def block(w):
    return lambda x: ag.dropout(ag.tanh(ag.linear(ag.gelu(ag.linear(x, w)), w)), 0.3) + x


def run(weights, wrap, x):
    """Gradients of the input and of all weights, as bytes, and the peak of activations."""
    ag.zero_grad([*weights, x])
    ownt.manual_seed(7)
    ownt.memory.reset_peak()
    h = x
    for w in weights:
        h = wrap(block(w), h)
    ag.sum(h * h).backward()
    del h
    drawn_after = ownt.random.generator.offset
    peak = ownt.memory.ledger.by_kind(at_peak=True)["activation"]
    return [n.grad.numpy().tobytes() for n in (x, *weights)], peak, drawn_after


def plain(f, x):
    return f(x)


def nested(f, x):
    return ag.checkpoint(lambda h: ag.checkpoint(f, h), x)


@pytest.mark.parametrize("wrap", [ag.checkpoint, nested])
def test_gradients_are_bit_identical_with_dropout(wrap):
    weights, x = layers(8), ag.param(ownt.randn(32, 16))
    expected, _, offset = run(weights, plain, x)
    found, _, offset_after = run(weights, wrap, x)
    assert found == expected
    assert offset == offset_after


def test_activations_at_the_peak_are_fewer():
    weights, x = layers(12), ag.param(ownt.randn(256, 16))
    _, kept, _ = run(weights, plain, x)
    _, again, _ = run(weights, ag.checkpoint, x)
    assert again < 0.5 * kept


def test_a_checkpoint_of_several_blocks_nested_in_blocks():
    weights, x = layers(6), ag.param(ownt.randn(8, 16))
    expected, _, _ = run(weights, plain, x)

    def halves(h):
        for half in (weights[:3], weights[3:]):
            h = ag.checkpoint(lambda h, half=half: chain(half, h), h)
        return h

    def chain(part, h):
        for w in part:
            h = ag.checkpoint(block(w), h)
        return h

    ag.zero_grad([*weights, x])
    ownt.manual_seed(7)
    h = halves(x)
    ag.sum(h * h).backward()
    assert [n.grad.numpy().tobytes() for n in (x, *weights)] == expected


def test_parameters_closed_over_get_gradients_though_the_input_needs_none():
    w, x = ag.param(ownt.randn(4, 4)), ownt.randn(3, 4)
    ag.sum(ag.checkpoint(lambda h: ag.linear(h, w), ag.constant(x))).backward()
    checked = w.grad.numpy().copy()
    ag.zero_grad([w])
    ag.sum(ag.linear(x, w)).backward()
    np.testing.assert_array_equal(w.grad.numpy(), checked)


def test_several_inputs_options_and_inputs_used_outside_too():
    a, b = ag.param([1.0, 2.0]), ag.param([3.0, 4.0])
    y = ag.checkpoint(lambda p, factor, q, power=1: (p * q * factor) ** power, a, 2.0, b, power=2)
    ag.sum(y + a).backward()
    np.testing.assert_allclose(a.grad.numpy(), [2 * 4 * 1 * 9 + 1, 2 * 4 * 2 * 16 + 1])
    np.testing.assert_allclose(b.grad.numpy(), [2 * 4 * 3 * 1, 2 * 4 * 4 * 4])


def test_an_input_that_is_a_view_of_a_parameter():
    w = ag.param(ownt.arange(6, dtype="float32").reshape(2, 3))
    ag.sum(ag.checkpoint(lambda row: row * row, w[1])).backward()
    np.testing.assert_array_equal(w.grad.numpy(), [[0, 0, 0], [6, 8, 10]])


def test_hooks_of_parameters_inside_run_once_when_backward_ends():
    w, seen = ag.param([2.0]), []
    w.register_hook(lambda g: seen.append(g.item()))
    h = ag.checkpoint(lambda x: x * w, ag.param([3.0]))
    ag.sum(h * w).backward()
    assert seen == [12.0]


def test_without_recording_it_just_calls():
    calls = []

    def function(x):
        calls.append(x)
        return x * 2

    with ag.no_grad():
        assert not ag.checkpoint(function, ag.param([1.0])).requires_grad
    assert not ag.checkpoint(function, ag.constant([1.0])).requires_grad
    assert len(calls) == 2


def test_a_changed_input_is_seen():
    x, w = ownt.Tensor([1.0, 2.0]), ag.param([3.0, 4.0])
    loss = ag.sum(ag.checkpoint(lambda h: h * w, ag.constant(x)))
    x += 1
    with pytest.raises(RuntimeError, match=r"checkpoint: .* written in place"):
        loss.backward()


def test_nodes_computed_outside_that_the_function_uses():
    """Whether closed over or given by name, and whatever else of the graph outside uses them."""

    def gradient(wrap, by_name):
        x = ag.param([1.0, 2.0])
        h = x * 2
        k = h * 3
        function = (lambda a, mask: a * mask) if by_name else (lambda a: a * h)
        y = wrap(function, x, **({"mask": h} if by_name else {}))
        ag.sum(y + k).backward()
        return x.grad.tolist()

    for by_name in (False, True):
        expected = gradient(lambda f, *a, **o: f(*a, **o), by_name)
        assert gradient(ag.checkpoint, by_name) == expected
        assert gradient(lambda f, *a, **o: ag.checkpoint(lambda: ag.checkpoint(f, *a, **o)), by_name) == expected


def test_backward_inside_no_grad():
    w = ag.param([2.0])
    loss = ag.sum(ag.checkpoint(lambda x: x * w, ag.constant([3.0])))
    with ag.no_grad():
        loss.backward()
    assert w.grad.tolist() == [3]


def test_a_plain_tensor_changed_before_backward_is_seen():
    x, w = ownt.Tensor([1.0, 2.0]), ag.param([3.0, 4.0])
    loss = ag.sum(ag.checkpoint(lambda h: w * h, x))
    x += 1
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


def test_computing_again_leaves_the_random_stream_of_others_alone():
    """While one thread draws again, another draws what is next."""
    drawn, x = [], ag.param(ownt.ones(4))

    def function(h):
        if drawn:
            thread = threading.Thread(target=lambda: drawn.append(ownt.rand(3).tolist()))
            thread.start()
            thread.join()
        return ag.dropout(h, 0.5)

    y = ag.sum(ag.checkpoint(function, x))
    drawn.append(ownt.rand(3).tolist())
    y.backward()
    drawn.append(ownt.rand(3).tolist())
    assert len(drawn) == 3
    assert len({str(d) for d in drawn}) == 3
