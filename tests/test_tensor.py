"""ownt.Tensor: a container of data, its views, writes and exports."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import ag
import ownt


def test_what_it_is():
    t = ownt.zeros((2, 3))
    assert (t.shape, t.dtype, t.device, t.strides, t.ndim, t.size, t.nbytes) == (
        (2, 3),
        "float32",
        "cpu",
        (12, 4),
        2,
        6,
        24,
    )
    assert len(t) == 2
    assert ownt.full((), 2.5).item() == 2.5
    assert "dtype=float32" in repr(t)
    assert "[[0., 0., 0.]" in repr(t)


def test_it_holds_no_gradient_and_says_whose_it_is():
    with pytest.raises(AttributeError, match="ag.Node"):
        _ = ownt.zeros(3).grad
    assert not hasattr(ownt.zeros(3), "requires_grad")


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.reshape(3, 2),
        lambda t: t.reshape((-1,)),
        lambda t: t.view((6,)),
        lambda t: t.transpose(),
        lambda t: t.T,
        lambda t: t[1:],
        lambda t: t[0],
        lambda t: t[1, 2],
        lambda t: t[..., ::-1],
        lambda t: t[None],
    ],
)
def test_views_share_the_block(view):
    t = ownt.arange(6, dtype="float32").reshape(2, 3)
    v = view(t)
    assert v.block is t.block
    before = v.numpy().copy()
    t += 1
    np.testing.assert_array_equal(v.numpy(), before + 1)


def test_reshape_copies_where_strides_forbid_a_view_and_view_refuses():
    t = ownt.arange(6).reshape(2, 3).T
    copied = t.reshape(6)
    assert copied.block is not t.block
    np.testing.assert_array_equal(copied.numpy(), [0, 3, 1, 4, 2, 5])
    with pytest.raises(ValueError, match=r"view: expected .* got \(6,\).*reshape"):
        t.view((6,))
    with pytest.raises(ValueError, match=r"expected a shape of 6 elements; got \(4,\)"):
        t.reshape(4)


def test_index_arrays_give_copies():
    t = ownt.arange(12).reshape(3, 4)
    for key in ([0, 2], np.array([True, False, True]), ownt.asarray([0, 2])):
        picked = t[key]
        assert picked.block is not t.block
        np.testing.assert_array_equal(picked.numpy(), t.numpy()[[0, 2]])
    with pytest.raises(IndexError):
        t[5]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda t: t.__setitem__(0, 5), [5, 1, 2]),
        (lambda t: t.__setitem__(slice(1, None), ownt.asarray([8.0, 9.0])), [0, 8, 9]),
        (lambda t: t.copy_([3, 2, 1]), [3, 2, 1]),
        (lambda t: t.fill_(7), [7, 7, 7]),
        (lambda t: t.__iadd__(1), [1, 2, 3]),
        (lambda t: t.__isub__(t), [0, 0, 0]),
        (lambda t: t.__imul__(ownt.asarray([2.0, 3.0, 4.0])), [0, 3, 8]),
        (lambda t: t.__itruediv__(2), [0, 0.5, 1]),
        (lambda t: t[1:].fill_(4), [0, 4, 4]),
    ],
)
def test_writes_in_place_bump_the_version_of_the_block(write, expected):
    t = ownt.arange(3, dtype="float32")
    view, before, address = t[:2], t.block.version, t.numpy().ctypes.data
    write(t)
    np.testing.assert_array_equal(t.numpy(), expected)
    assert t.block.version > before
    assert view.block.version == t.block.version
    assert t.numpy().ctypes.data == address


def test_casts_and_copies_own_their_bytes():
    t = ownt.arange(3)
    assert t.astype("int64") is t
    cast = t.astype("float64")
    assert (cast.dtype, cast.block is t.block) == ("float64", False)
    assert t.to("cpu") is t
    clone = t.clone()
    clone += 1
    np.testing.assert_array_equal(t.numpy(), [0, 1, 2])
    with pytest.raises(ValueError, match="unknown device 'tpu': expected one of cpu"):
        t.to("tpu")
    with pytest.raises(TypeError, match="unknown dtype 'float7': expected one of .*float32"):
        t.astype("float7")


def test_exported_arrays_keep_the_memory_alive():
    arena = ownt.Arena()
    t = arena.zeros((1000,))
    view = t[10:20]
    array = view.numpy()
    block = t.block
    del t, view
    gc.collect()
    assert arena.blocks == 1
    array[:] = 3
    del array, block
    assert arena.blocks == 0


def test_heap_memory_outlives_its_tensor_in_an_exported_array():
    array = ownt.full((1000,), 5.0).numpy()
    for _ in range(20):
        ownt.zeros((1000,))
    np.testing.assert_array_equal(array, 5.0)


def test_numpy_protocols():
    t = ownt.arange(4, dtype="float32")
    assert np.asarray(t).ctypes.data == t.numpy().ctypes.data
    assert np.asarray(t, dtype="float64").dtype == np.float64
    copied = np.array(t)
    copied[0] = 9
    assert t[0].item() == 0
    np.testing.assert_array_equal(np.add(t, 1), [1, 2, 3, 4])
    assert [float(x) for x in t] == [0, 1, 2, 3]
    assert (int(t[3]), bool(t[0]), t.tolist()) == (3, False, [0, 1, 2, 3])


def test_dlpack_shares_memory_both_ways():
    t = ownt.arange(4, dtype="float32")
    array = np.from_dlpack(t)
    array[0] = 7
    assert t[0].item() == 7
    back = ownt.from_dlpack(array)
    back += 1
    assert t[0].item() == 8


def test_constructor_shares_arrays_and_copies_lists():
    array = np.ones(3)
    shared = ownt.Tensor(array)
    shared += 1
    np.testing.assert_array_equal(array, 2)
    assert ownt.Tensor([1.5, 2]).dtype == "float32"
    assert ownt.Tensor([1, 2]).dtype == "int64"
    assert ownt.Tensor(array, dtype="float32").dtype == "float32"
    before = ownt.memory.ledger.live
    kept = ownt.asarray(array)
    assert ownt.memory.ledger.live == before  # the caller's bytes, not ours
    assert kept.nbytes == 24


def test_slices_of_all_rows_are_checked_as_others_are():
    x = ownt.zeros(4, 2)
    assert x[0:4].shape == (4, 2)
    x[0:4] = 1
    assert x.numpy().all()
    for key in (slice(0, 4.0), slice(0.0, 4), slice(np.array([0]), 4)):
        with pytest.raises(TypeError):
            x[key]
    with pytest.raises(IndexError):
        ownt.zeros()[0:1]


def test_a_read_only_array_is_copied():
    """Such as np.frombuffer and np.broadcast_to make: compiled kernels take what may be written to."""
    array = np.frombuffer(np.arange(3, dtype="float32").tobytes(), "float32")
    tensor = ownt.Tensor(array)
    tensor += 1
    assert (tensor.tolist(), array.tolist()) == ([1, 2, 3], [0, 1, 2])
    w = ag.param(np.ones((3, 3), "float32"))
    assert ag.linear(array, w).tensor.tolist() == [3, 3, 3]
    assert ag.embedding(np.broadcast_to(np.int64(1), (2,)), w).shape == (2, 3)
    assert ag.relu(ag.constant(array)).tensor.tolist() == [0, 1, 2]
