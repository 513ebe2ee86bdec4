"""Results that are made again for gradients: less memory, the very same bits, and errors where they would be wrong."""

from __future__ import annotations

import numpy as np
import pytest

import ag
import ownt
from ag.ops.batch_norm import batch_norm_kernel
from ownt.memory import ledger

IMAGES = (2, 6, 8, 8)


@pytest.fixture
def kept(monkeypatch):
    """The control: a function after which these results are kept as any others."""
    return lambda: [monkeypatch.setattr(op, "remake", None) for op in (ag.batch_norm, ag.conv2d)]


def weights(count, size=3):
    """The same whenever they are asked for."""
    ownt.manual_seed(1)
    x = ag.param(ownt.randn(*IMAGES))
    made = [ag.param(ownt.randn(6, 6, size, size)) for _ in range(count)]
    return x, made, ag.param(ownt.rand(6)), ag.param(ownt.randn(6))


def norm(x, gain, shift, residual=None):
    return ag.batch_norm(x, gain, shift, residual, relu=True)


def conv(x, w):
    return ag.conv2d(x, w, padding=w.shape[2] // 2)


def chain(x, made, gain, shift):
    for w in made:
        x = norm(conv(x, w), gain, shift)
    return x * x


def residual_chain(x, made, gain, shift):
    for w in made:
        x = norm(conv(x, w), gain, shift, x)
    return x * x


def its_own_residual(x, made, gain, shift):
    for w in made:
        h = conv(x, w)
        x = norm(h, gain, shift, h)
    return conv(x, made[0])


def two_that_save_it(x, made, gain, shift):
    y = norm(conv(x, made[0]), gain, shift)
    return conv(y, made[1]) * y + ag.exp(conv(y, made[2]) * 0.01)


def given_twice(x, made, gain, shift):
    y = norm(conv(x, made[0]), gain, shift)
    return y * y + y.transpose(0, 1, 3, 2) * y


def views(x, made, gain, shift):
    y = norm(conv(x, made[0]), gain, shift)
    parts = [y[:, ::2], y[1:], y.reshape(2, -1), y.transpose(1, 0, 3, 2), y[::-1, :, ::-1], y[...], y[:, :6, None]]
    total = ag.sum(conv(y[:, :, 2:-1], made[1]))
    for part in parts:
        total = total + ag.sum(part * part)
    return total


def flattened(x, made, gain, shift):
    y = norm(conv(x, made[0]), gain, shift).reshape(2, -1)
    return ag.linear(y, made[1].reshape(-1)[:128].reshape(1, 128).repeat((1, 3)))


def norm_of_norm(x, made, gain, shift):
    for _ in made:
        x = norm(x, gain, shift, norm(x, shift, gain))
    return ag.max_pool2d(conv(x, made[0]), 2)


def in_rows(x, made, gain, shift):
    """Of matrices (N, C)."""
    h = x.transpose(0, 2, 3, 1).reshape(-1, 6)
    for w in made:
        h = norm(ag.linear(h, w.mean(axis=(2, 3))), gain, shift, h)
    return h * h


def in_checkpoints(x, made, gain, shift):
    for w in made:
        x = ag.checkpoint(lambda x, w=w: norm(conv(norm(conv(x, w), gain, shift), w), gain, shift, x), x)
    return x * x


def convolutions_too(x, made, gain, shift):
    for w in made:
        x = norm(ag.conv2d(x, w, gain, padding=1, recompute=True), gain, shift, x)
    return x * x


def convolutions_of_views(x, made, gain, shift):
    h = ag.conv2d(x, made[0], shift, recompute=True)
    y = ag.conv2d(h[:, :, 1:], made[1], recompute=True)
    return y * y * ag.exp(y * 0.1) + ag.max_pool2d(h * h, 3, 1)[:, :, 1:]


def saved_by_a_checkpoint(x, made, gain, shift):
    y = norm(conv(x, made[0]), gain, shift)
    return ag.checkpoint(lambda y: conv(y, made[1]) * y, y)


GRAPHS = (
    chain, residual_chain, its_own_residual, two_that_save_it, given_twice, views, flattened, norm_of_norm, in_rows,
    in_checkpoints, saved_by_a_checkpoint, convolutions_too, convolutions_of_views,
)  # fmt: skip


def gradients(graph, count=3):
    x, made, gain, shift = weights(count)
    ag.sum(graph(x, made, gain, shift)).backward()
    return [node.grad.numpy().tobytes() for node in (x, gain, shift, *made) if node.grad is not None]


@pytest.mark.parametrize("graph", GRAPHS)
def test_gradients_are_those_of_what_is_kept_bit_for_bit(graph, kept):
    found = gradients(graph)
    kept()
    assert found == gradients(graph)


@pytest.mark.parametrize("graph", GRAPHS)
def test_nothing_is_left_behind(graph):
    with ownt.scratch.mark():
        gradients(graph)


# memory


def held(graph, count):
    """Bytes of activations that a graph holds before backward, and at the peak of it."""
    x, made, gain, shift = weights(count)
    before = ledger.by_kind()["activation"]
    ownt.memory.reset_peak()
    loss = ag.sum(graph(x, made, gain, shift))
    bytes_held = ledger.by_kind()["activation"] - before
    loss.backward()
    return bytes_held, ledger.by_kind(at_peak=True)["activation"] - before, x.nbytes


@pytest.mark.memory
@pytest.mark.parametrize("graph", [chain, residual_chain])
def test_each_result_but_the_last_needs_no_memory_of_its_own(graph, kept):
    """To the byte; the last is squared, by an op that saves it, and it too is not kept."""
    held_by_recipes, peak, image = held(graph, 8)
    kept()
    held_by_results, peak_of_results, _ = held(graph, 8)
    assert held_by_results - held_by_recipes == 8 * image
    assert peak_of_results - peak >= 5 * image


@pytest.mark.memory
def test_of_a_convolution_only_if_it_is_asked_for(kept):
    """Its result, and with it that of the norm after it, each block."""
    bytes_held, _, image = held(convolutions_too, 4)
    kept()
    assert held(convolutions_too, 4)[0] - bytes_held == 2 * 4 * image


@pytest.mark.memory
def test_a_long_chain_of_residuals_has_two_results_at_a_time():
    """Each is made of the one before it; those in between are dropped at once."""
    for count in (4, 16):
        bytes_held, peak, image = held(residual_chain, count)
        assert peak - bytes_held <= 5 * image  # gradients of two, and two results beside what was held


def launches(graph, count=3):
    """How often a result of batch norm is made."""
    x, made, gain, shift = weights(count)
    reference, times = type(batch_norm_kernel)._bind, []

    def counting(kernel, *rest):
        times.append(kernel is batch_norm_kernel)
        return reference(kernel, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(batch_norm_kernel), "_bind", counting)
        ag.sum(graph(x, made, gain, shift)).backward()
    return sum(times)


def test_two_that_need_a_result_share_it_and_nobody_makes_it_who_does_not():
    assert launches(two_that_save_it) == 2
    assert launches(chain) == 6
    assert launches(lambda x, made, gain, shift: norm(conv(x, made[0]), gain, shift) + 1.0) == 1
    assert launches(lambda x, made, gain, shift: conv(norm(x, gain, shift), made[0].detach())) == 1  # w alone is needed


def test_without_gradients_there_is_no_recipe():
    x, (w,), gain, shift = weights(1)
    with ag.no_grad():
        assert norm(conv(x, w), gain, shift).tensor.block.recipe is None
    assert norm(x.detach(), gain.detach(), shift.detach()).tensor.block.recipe is None
    assert norm(x, gain, shift).tensor.block.recipe is not None


# writes in place


@pytest.mark.parametrize("written", ["x", "gain", "residual"])
def test_a_write_to_what_a_result_is_made_of_is_an_error(written):
    x, (w,), gain, shift = weights(1)
    h, residual = conv(x, w), ag.constant(ownt.randn(*IMAGES))
    loss = ag.sum(conv(norm(h, gain, shift, residual), w))
    tensor = {"x": h, "gain": gain, "residual": residual}[written].tensor
    tensor += 1
    with pytest.raises(
        RuntimeError, match=r"^batch_norm: expected the tensor of shape .* unchanged .*written in place"
    ):
        loss.backward()


def test_a_result_whose_graph_is_gone_is_kept():
    """So that a write to what it was made of does not matter."""
    found = []
    for change in (0, 1):
        ownt.manual_seed(0)
        x, (w,), gain, shift = weights(1)
        loss = ag.sum(conv(norm(x, gain, shift).detach(), w))
        shift.tensor += change
        loss.backward()
        found.append(w.grad.numpy().copy())
    np.testing.assert_array_equal(*found)


def after_a_write(saved_before):
    """The gradient of w where y is written to before, or after, conv2d saves it."""
    x, (w,), gain, shift = weights(1)
    y = norm(x, gain, shift)
    if not saved_before:
        y.tensor[...] = 3
    loss = ag.sum(conv(y, w))
    if saved_before:
        y.tensor[...] = 3
    loss.backward()
    return w.grad.numpy()


def test_a_result_written_to_after_it_was_saved_is_made_again_as_it_was(kept):
    x, (w,), gain, shift = weights(1)
    ag.sum(conv(norm(x, gain, shift), w)).backward()
    np.testing.assert_array_equal(after_a_write(saved_before=True), w.grad.numpy())
    kept()
    with pytest.raises(RuntimeError, match="conv2d: .*written in place"):
        after_a_write(saved_before=True)


def test_a_result_written_to_before_it_is_saved_is_saved_as_it_is():
    w = ag.param(ownt.randn(6, 6, 3, 3))
    ag.sum(conv(ag.constant(ownt.full(IMAGES, 3.0)), w)).backward()
    np.testing.assert_allclose(after_a_write(saved_before=False), w.grad.numpy(), rtol=1e-5)


def test_a_view_that_was_saved_may_not_be_written_to():
    x, _, gain, shift = weights(1)
    y = norm(x, gain, shift)
    loss = ag.sum(y[:, :, 1:] * y[:, :, 1:])
    y.tensor += 1
    with pytest.raises(RuntimeError, match="mul: .*written in place"):
        loss.backward()


def test_statistics_that_run_on_are_not_in_the_way():
    """Two batches before a backward: the running mean and variance are written to in between."""
    x, (w,), gain, shift = weights(1)
    running, found = (ownt.zeros(6), ownt.ones(6)), []
    for training in (True, False):
        ag.zero_grad([w])
        losses = []
        for _ in range(2):
            losses.append(ag.sum(conv(ag.batch_norm(x, gain, shift, None, running, training, 0.5), w)))
            running[0].__iadd__(1)
        (losses[0] + losses[1]).backward()
        found.append(w.grad.numpy().copy())
    assert np.isfinite(found).all()
    assert not np.array_equal(*found)
