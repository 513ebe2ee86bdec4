"""Modules: order, names, state, conversion, freezing, what people see."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from small_modules import CONFIG, Pair, Twice, assert_same, booked, more, values_of

import ag
import nn
import ownt

# order and names


def test_all_it_holds_comes_in_the_order_of_attributes_its_own_first():
    pair = Pair()
    assert [path for path, _ in pair.named_parameters()] == ["scale", "second.weight", "second.bias", "first.weight"]
    assert [path for path, _ in pair.named_buffers()] == ["steps"]
    assert [path for path, _ in pair.named_modules()] == ["", "second", "first"]
    assert list(pair.state_dict()) == ["scale", "second.weight", "second.bias", "first.weight", "steps"]
    assert pair.state_dict()["scale"] is pair.scale.tensor


def test_a_tied_weight_is_one_parameter_under_its_first_path():
    module = Twice()
    assert [path for path, _ in module.named_parameters()] == ["table.weight"]
    table = np.ones((5, 3), "float32")
    module.load_state_dict({"table.weight": table, "head.weight": table})
    assert_same(module, {"table.weight": table})


def test_the_memory_report_names_every_parameter_and_counts_each_byte_once():
    before = booked("parameter")
    model = nn.GPT(CONFIG)
    expected = {path: node.nbytes for path, node in model.named_parameters()}
    assert more(booked("parameter"), before) == expected
    assert "blocks.0.mlp.up.weight" in expected
    del model
    assert booked("parameter") == before


def test_buffers_and_gradients_are_booked_by_path_and_zero_grad_frees():
    before = booked("buffer"), booked("gradient")
    pair = Pair()
    assert more(booked("buffer"), before[0]) == {"steps": 8}
    pair.first(pair.second(ownt.ones(1, 2))).sum().backward()
    assert more(booked("gradient"), before[1]) == {"second.weight": 24, "second.bias": 12, "first.weight": 12}
    pair.zero_grad()
    assert booked("gradient") == before[1]


def test_a_module_put_in_place_later_gets_its_names():
    model = nn.GPT(CONFIG)
    model.blocks[1].mlp = nn.MLP([8, 4, 8])
    assert all(path == node.name for path, node in model.named_parameters())
    assert booked("parameter").get("blocks.1.mlp.2.weight") == 4 * 32


def test_a_parameter_added_to_a_tied_layer_leaves_the_tied_name_alone():
    model = nn.GPT(CONFIG)
    model.head.bias = ag.param(ownt.zeros(11))
    assert model.head.bias.name == "head.bias"
    assert model.wte.weight.name == "wte.weight"


def test_modules_that_change_places_change_their_names():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)])
    setattr(model, "0", nn.Sequential(model[1]))
    setattr(model, "1", nn.Linear(2, 4))
    assert [node.name for node in model.parameters()] == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]


# state


def test_state_goes_from_one_module_to_another():
    source, target = Pair(), Pair()
    source.steps.fill_(7)
    addresses = [tensor.numpy().ctypes.data for tensor in target.state_dict().values()]
    target.load_state_dict(source.state_dict())
    assert_same(target, values_of(source))
    assert [tensor.numpy().ctypes.data for tensor in target.state_dict().values()] == addresses


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"scale": None}, KeyError, ["missing: scale"]),
        ({"other": (1,)}, KeyError, ["unexpected: other"]),
        ({"scale": (2,)}, ValueError, ["of another shape: scale", "(3,)", "(2,)"]),
        ({"scale": None, "steps": None, "a": (1,)}, KeyError, ["missing: scale, steps", "unexpected: a"]),
        ({"scale": None, "second.bias": (4,), "first.weight": (3, 1)}, KeyError, ["second.bias (", "first.weight ("]),
    ],
)
def test_state_that_does_not_fit_is_listed_whole_and_changes_nothing(change, error, named):
    pair = Pair()
    before = values_of(pair)
    tensors = {path: np.full(value.shape, 9, "float32") for path, value in before.items()}
    tensors |= {path: np.ones(shape, "float32") for path, shape in change.items() if shape}
    tensors = {path: value for path, value in tensors.items() if change.get(path, ()) is not None}
    with pytest.raises(error) as caught:
        pair.load_state_dict(tensors)
    for words in named:
        assert words in str(caught.value)
    assert_same(pair, before)


def test_state_of_another_type_changes_nothing():
    layer = nn.Linear(2, 1)
    before = values_of(layer)
    with pytest.raises((TypeError, ValueError)):
        layer.load_state_dict({"weight": np.ones((1, 2)), "bias": np.array(["x"])})
    assert_same(layer, before)


def test_frozen_parameters_stay_in_the_state_and_get_no_gradient():
    pair = Pair()
    pair.second.weight.requires_grad = False
    assert list(pair.state_dict()) == list(Pair().state_dict())
    pair.first(pair.second(ownt.ones(1, 2))).sum().backward()
    assert pair.second.weight.grad is None
    assert pair.second.bias.grad is not None


def test_to_converts_floats_in_place_and_leaves_integers():
    pair = Pair()
    pair.counts = ownt.zeros(2, dtype="int64")
    pair.first.weight.requires_grad = False
    nodes, values = pair.parameters(), values_of(pair)
    assert pair.to(dtype="float64") is pair
    assert all(a is b for a, b in zip(pair.parameters(), nodes, strict=True))
    assert {path: str(t.dtype) for path, t in pair.state_dict().items()} == {
        path: "int64" if path == "counts" else "float64" for path in values
    }
    assert_same(pair, values)
    assert [node.requires_grad for node in nodes] == [True, True, True, False]
    assert [node.name for node in nodes] == [path for path, _ in pair.named_parameters()]


def test_to_keeps_ties_and_books_what_it_made_frozen_or_not():
    model = nn.GPT(CONFIG)
    model.wpe.weight.requires_grad = False
    model.loss([[1, 2]], [[2, 3]]).backward()
    before = booked("parameter")
    model.to(dtype="float64")
    assert model.head.weight is model.wte.weight
    assert more(booked("parameter"), before) == {path: node.nbytes // 2 for path, node in model.named_parameters()}
    model.loss([[1, 2]], [[2, 3]]).backward()
    assert {str(node.grad.dtype) for node in model.parameters() if node is not model.wpe.weight} == {"float64"}


# for people


def test_the_summary_has_a_row_for_each_module_and_the_totals():
    pair = Pair()
    pair.first.weight.requires_grad = False
    rows = [line.split() for line in pair.summary().splitlines()]
    assert rows[0] == ["module", "class", "parameters", "bytes", "gradient", "bytes"]
    assert rows[1] == ["(root)", "Pair", "3", "12", "B", "12", "B"]
    assert rows[2] == ["second", "Linear", "9", "36", "B", "36", "B"]
    assert rows[3] == ["first", "Linear", "3", "12", "B", "0", "B"]
    assert rows[4] == ["total", "Pair", "15", "60", "B", "48", "B"]


def test_the_rows_of_a_summary_add_up_to_its_total_with_tied_weights():
    rows = [line.split() for line in nn.GPT(CONFIG).summary().splitlines()[1:]]
    counts = [int(row[2].replace(",", "")) for row in rows]
    assert sum(counts[:-1]) == counts[-1]


def test_repr_is_nested_and_indented():
    tree = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.RMSNorm(3), nn.GELU("tanh")), nn.Dropout(0.25))
    assert repr(tree) == (
        "Sequential(\n"
        "  (0): Linear(2, 3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): RMSNorm(3, eps=1e-05, gain=True)\n"
        "    (1): GELU(approximate='tanh')\n"
        "  )\n"
        "  (2): Dropout(p=0.25)\n"
        ")"
    )


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match="Pair has no forward"):
        Pair()(1)


def test_a_deep_copy_is_a_model_of_its_own_with_ties_kept():
    model = nn.GPT(CONFIG)
    model.loss([[1, 2]], [[2, 3]]).backward()
    twin = copy.deepcopy(model)
    assert twin.head.weight is twin.wte.weight
    assert_same(twin, values_of(model))
    assert [path for path, _ in twin.named_parameters()] == [node.name for node in twin.parameters()]
    assert all(node.grad is None for node in twin.parameters())
    twin.wte.weight.tensor.fill_(0)
    assert model.wte.weight.numpy().any()
    with pytest.raises(RuntimeError, match="expected a leaf"):
        copy.deepcopy(model.wte.weight * 2)


def test_only_leaves_are_parameters_and_views_are_booked_with_their_whole():
    layer = nn.Linear(4, 4)
    layer.last = layer(ownt.ones(1, 4))
    layer.row = layer.weight.tensor[:1]
    assert [path for path, _ in layer.named_parameters()] == ["weight", "bias"]
    assert booked("parameter")["weight"] >= 64


def test_to_where_it_is_keeps_gradients_and_optimizers_follow_a_copy():
    layer = nn.Linear(2, 2)
    optimizer = nn.Adam(layer.parameters())
    ag.sum(layer(ownt.ones(1, 2))).backward()
    optimizer.step()
    layer.to("cpu")
    assert layer.weight.grad is not None
    twin, theirs = copy.deepcopy((layer, optimizer))
    for model, steps in ((layer, optimizer), (twin, theirs)):
        model.zero_grad()
        ag.sum(model(ownt.ones(1, 2))).backward()
        steps.step()
    assert_same(twin, values_of(layer))


def test_state_given_as_lists():
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": [[1.0, 2.0]], "bias": [3.0]})
    assert layer.weight.tensor.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=r"weight \(expected \(1, 2\), got \(2,\)\)"):
        layer.load_state_dict({"weight": [1.0, 2.0], "bias": [3.0]})
