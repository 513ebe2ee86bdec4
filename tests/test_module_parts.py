"""Modules: hooks, parts by path, state that fits in part."""

from __future__ import annotations

import copy

import pytest
from small_modules import CONFIG, Pair, Twice, assert_same, values_of

import ag
import nn
import ownt
from ownt.thread import state

# hooks


def test_hooks_run_in_order_see_what_is_passed_and_can_be_removed():
    model, seen = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), []
    note = lambda what: lambda module, *passed: seen.append((what, type(module).__name__, list(passed)))
    removers = [
        model.register_forward_hook(note("after")),
        model[0].register_forward_pre_hook(note("before")),
        model[0].register_forward_hook(note("first")),
        model[0].register_forward_hook(note("second")),
    ]
    x = ownt.ones(1, 2)
    y = model(x)
    assert [(what, name) for what, name, _ in seen] == [
        ("before", "Linear"), ("first", "Linear"), ("second", "Linear"), ("after", "Sequential")
    ]  # fmt: skip
    assert seen[0][2] == [(x,)]
    assert seen[1][2][0] == (x,) and seen[1][2][1].shape == (1, 3)
    assert seen[3][2][1] is y
    for remove in removers[1:]:
        remove()
        remove()
    model(x)
    assert [what for what, _, _ in seen[4:]] == ["after"]


def test_one_hook_registered_twice_runs_twice_and_is_removed_once():
    layer, seen = nn.ReLU(), []
    hook = lambda *_: seen.append(1)
    remove = layer.register_forward_hook(hook)
    layer.register_forward_hook(hook)
    layer(ownt.ones(1))
    remove()
    layer(ownt.ones(1))
    assert len(seen) == 3


def test_hooks_replace_arguments_and_outputs():
    layer = nn.Linear(2, 1, bias=False)
    layer.load_state_dict({"weight": [[1.0, 10.0]]})
    layer.register_forward_pre_hook(lambda module, args: args[0] * 2)
    layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    layer.register_forward_hook(lambda module, args, output: output + args[0].sum())
    assert layer(ag.constant([[1.0, 2.0]])).item() == (3 + 50) + (3 + 5)


def test_named_arguments_go_past_hooks():
    layer, seen = nn.MultiheadAttention(4, 2), []
    layer.register_forward_pre_hook(lambda module, args: seen.append(args))
    x = ownt.randn(1, 3, 4)
    layer(x, causal=True)
    assert seen == [(x,)]


def test_hooks_that_register_and_remove_others_during_a_call():
    layer, seen = nn.ReLU(), []

    def first(module, args):
        remove_second()
        module.register_forward_hook(lambda *_: seen.append("third"))

    layer.register_forward_pre_hook(first)
    remove_second = layer.register_forward_hook(lambda *_: seen.append("second"))
    layer(ownt.ones(1))
    assert seen == ["third"]


def test_hooks_see_the_path_of_their_module_and_are_no_state():
    model, paths = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Linear(1, 1)), []
    before = list(model.state_dict()), repr(model)
    model[0][0].register_forward_hook(lambda *_: paths.append(state.path))
    model(ownt.ones(1, 1))
    assert paths == ["0.0"]
    assert (list(model.state_dict()), repr(model)) == before


def test_a_copy_leaves_hooks_behind():
    layer, seen = nn.Linear(1, 1), []
    layer.register_forward_hook(lambda *_: seen.append(1))
    copy.deepcopy(layer)(ownt.ones(1, 1))
    assert seen == []
    layer(ownt.ones(1, 1))
    assert seen == [1]


# parts by path


def test_parts_by_path():
    model = nn.GPT(CONFIG)
    assert model.get_submodule("") is model
    assert model.get_submodule("blocks.1.mlp") is model.blocks[1].mlp
    assert model.get_parameter("blocks.1.mlp.up.weight") is model.blocks[1].mlp.up.weight
    assert model.get_parameter("head.weight") is model.wte.weight
    assert Pair().get_parameter("scale").name == "scale"


@pytest.mark.parametrize(
    ("get", "words"),
    [
        (lambda m: m.get_submodule("third"), "get_submodule: expected in Pair one of second, first; got 'third'"),
        (lambda m: m.get_submodule("second.x.y"), "expected in Linear one of none; got 'x' in 'second.x.y'"),
        (lambda m: m.get_submodule("scale"), "got 'scale'"),
        (lambda m: m.get_submodule("second."), "got '' in 'second.'"),
        (lambda m: m.get_parameter("second.x"), "get_parameter: expected in Linear one of weight, bias; got 'x'"),
        (lambda m: m.get_parameter("steps"), "get_parameter: expected in Pair one of scale; got 'steps'"),
        (lambda m: m.get_parameter("third.weight"), "get_submodule: .*got 'third' in 'third'"),
    ],
)
def test_paths_that_lead_nowhere(get, words):
    with pytest.raises(AttributeError, match=words):
        get(Pair())


def test_apply_goes_from_the_inside_out():
    model, seen = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Linear(1, 1)), []
    assert model.apply(lambda module: seen.append(module)) is model
    assert seen == [model[0][0], model[0], model[1], model]


def test_all_parameters_frozen_and_trained_again():
    model = nn.GPT(CONFIG)
    model.loss([[1, 2]], [[2, 3]]).backward()
    assert model.requires_grad_(False) is model
    assert not any(node.requires_grad or node.grad for node in model.parameters())
    model.requires_grad_()
    model.loss([[1, 2]], [[2, 3]]).backward()
    assert all(node.grad is not None for node in model.parameters())


def test_a_part_deleted_leaves_the_names_right():
    model = Twice()
    head = model.head
    del model.table
    assert [node.name for node in model.parameters()] == ["head.weight"]
    with pytest.raises(AttributeError, match="table"):
        del model.table
    model.head = None
    assert (model.parameters(), head.weight.name) == ([], "weight")


def test_a_part_of_two_models_deleted_from_one_keeps_its_names_in_the_other():
    part = nn.Sequential(nn.Linear(1, 1))
    first, second = nn.ModuleDict({"a": part}), nn.ModuleDict({"b": part})
    del first["a"]
    assert [node.name for node in second.parameters()] == ["b.0.weight", "b.0.bias"]
    assert part[0].path == "b.0"


# state that fits in part


def test_state_that_fits_in_part_is_loaded_in_part_if_not_strict():
    pair = Pair()
    keys = pair.load_state_dict(
        {"scale": [1.0, 2.0, 3.0], "other": [1.0], "second.bias": [4.0, 5.0, 6.0]}, strict=False
    )
    assert keys == (["second.weight", "first.weight", "steps"], ["other"])
    assert (keys.missing_keys, keys.unexpected_keys) == keys
    assert pair.scale.tensor.tolist() == [1, 2, 3]
    assert pair.second.bias.tensor.tolist() == [4, 5, 6]
    assert pair.load_state_dict(pair.state_dict()) == ([], [])


def test_state_of_another_shape_is_an_error_strict_or_not():
    pair = Pair()
    before = values_of(pair)
    with pytest.raises(
        ValueError, match=r"Pair.load_state_dict: nothing was loaded; of another shape: steps \(expected"
    ):
        pair.load_state_dict({"scale": [1.0, 2.0, 3.0], "steps": [1.0], "other": [1.0]}, strict=False)
    assert_same(pair, before)


def test_tensors_set_as_attributes_are_state():
    loss = nn.BCEWithLogitsLoss(pos_weight=[1.0, 2.0])
    twin = nn.BCEWithLogitsLoss(pos_weight=[0.0, 0.0])
    twin.load_state_dict(loss.state_dict())
    assert {path: tensor.tolist() for path, tensor in twin.state_dict().items()} == {"pos_weight": [1, 2]}
