"""Containers: ModuleList, Sequential and ModuleDict as list, list and dict, and the names of what they hold."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import nn
import ownt


def linears(*sizes):
    return [nn.Linear(1, size) for size in sizes]


def sizes(modules):
    return [module.out_features for module in modules]


def names(container):
    """The names of weights, which must be their paths."""
    assert all(node.name == path for path, node in container.named_parameters())
    return [path.removesuffix(".weight") for path, _ in container.named_parameters() if path.endswith("weight")]


def test_a_module_list_is_a_list_named_by_numbers():
    modules = nn.ModuleList(linears(1, 2, 3))
    assert modules.append(nn.Linear(1, 4)) is modules
    assert sizes(modules[1:]) == [2, 3, 4]
    assert modules[3].weight.name == "3.weight"
    assert modules.eval() is modules
    assert not any(module.training for module in modules.modules())
    assert all(module.training for module in modules.train().modules())


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda modules: nn.Sequential(*modules)])
def test_lists_change_as_lists_do_and_number_anew(kind):
    modules, plain = kind(linears(1, 2, 3, 4)), [1, 2, 3, 4]
    for change in (
        lambda a, make: a.insert(1, make(5)),
        lambda a, make: a.insert(-1, make(6)),
        lambda a, make: a.insert(99, make(7)),
        lambda a, make: a.extend([make(8), make(9)]),
        lambda a, make: a.__setitem__(-2, make(10)),
        lambda a, make: a.__setitem__(0, make(11)),
        lambda a, make: a.__delitem__(3),
        lambda a, make: a.__delitem__(slice(None, None, 3)),
        lambda a, make: a.pop(),
        lambda a, make: a.pop(1),
    ):
        change(modules, lambda size: nn.Linear(1, size))
        change(plain, lambda size: size)
        assert (sizes(modules), len(modules)) == (plain, len(plain))
        assert names(modules) == [str(i) for i in range(len(plain))]
        assert [modules[i].out_features for i in range(-len(plain), len(plain))] == plain * 2
    assert modules.pop().out_features == plain[-1]


def test_a_list_extended_by_itself_ends():
    modules = nn.ModuleList(linears(1, 2))
    assert sizes(modules.extend(modules)) == [1, 2, 1, 2]


@pytest.mark.parametrize("index", [3, -4])
@pytest.mark.parametrize(
    "use",
    [lambda m, i: m[i], lambda m, i: m.__setitem__(i, m[0]), lambda m, i: m.__delitem__(i), lambda m, i: m.pop(i)],
)
def test_indices_out_of_range(use, index):
    modules = nn.ModuleList(linears(1, 2, 3))
    with pytest.raises(IndexError, match=f"ModuleList: expected an index below its length, 3; got {index}"):
        use(modules, index)
    assert sizes(modules) == [1, 2, 3]


def test_slices_are_containers_whose_modules_keep_their_names():
    model = nn.Sequential(nn.ModuleList(linears(1, 2, 3)), nn.Sequential(*linears(1, 1, 1)))
    before = names(model)
    part = model[0][::2]
    assert (type(part), sizes(part)) == (nn.ModuleList, [1, 3])
    assert list(part.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    tail = model[1][1:]
    assert type(tail) is nn.Sequential
    assert list(tail.state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert tail[0] is model[1][1]
    x = ownt.ones(2, 1)
    assert np.array_equal(tail(x).numpy(), model[1][2](model[1][1](x)).numpy())
    assert names(model) == before


def test_a_slice_grows_without_losing_what_it_has():
    tail = nn.Sequential(*linears(1, 2, 3))[1:]
    tail.append(nn.Linear(1, 4))
    assert sizes(tail) == [2, 3, 4]


def test_slices_of_a_subclass_with_other_arguments():
    mlp = nn.MLP([4, 3, 2])
    assert [type(module) for module in mlp[1:]] == [nn.ReLU, nn.Linear]
    assert type(mlp[1:]) is nn.Sequential


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_a_sequential_takes_names(kind):
    model = nn.Sequential(kind(first=nn.Linear(2, 3), act=nn.ReLU(), last=nn.Linear(3, 1)))
    assert list(model.state_dict()) == ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert model.last is model[-1]
    assert [name for name, _ in model[1:].children()] == ["act", "last"]
    model[0] = nn.Linear(2, 3, bias=False)
    assert list(model.state_dict()) == ["first.weight", "last.weight", "last.bias"]
    model.append(nn.Tanh())
    assert [name for name, _ in model.children()] == ["first", "act", "last", "3"]


def test_a_module_dict_is_a_dict():
    modules = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 2)})
    a, b = modules["a"], modules.b
    assert (list(modules), list(modules.keys()), list(modules.values())) == (["a", "b"], ["a", "b"], [a, b])
    assert (list(modules.items()), len(modules)) == ([("a", a), ("b", b)], 2)
    assert "a" in modules and "c" not in modules and "training" not in modules
    modules.update([("c", nn.Linear(1, 3)), ("a", nn.Linear(1, 4))])
    modules.update(nn.ModuleDict({"d": nn.Linear(1, 5)}))
    assert sizes(modules.values()) == [4, 2, 3, 5]
    assert names(modules) == ["a", "b", "c", "d"]
    assert modules.pop("b") is b
    del modules["c"]
    assert list(modules) == ["a", "d"]
    modules.clear()
    assert (len(modules), list(modules.state_dict())) == (0, [])


@pytest.mark.parametrize("use", [lambda m: m["b"], lambda m: m.pop("b"), lambda m: m.__delitem__("b")])
def test_names_that_a_module_dict_does_not_have(use):
    with pytest.raises(KeyError, match="ModuleDict: expected one of a; got 'b'"):
        use(nn.ModuleDict({"a": nn.ReLU()}))
    with pytest.raises(KeyError, match="expected one of none"):
        use(nn.ModuleDict())


@pytest.mark.parametrize("name", ["", "a.b", 3, "keys", "training", "forward"])
def test_names_that_cannot_be(name):
    modules = nn.ModuleDict()
    with pytest.raises(KeyError, match=f"ModuleDict: expected a name .*; got {name!r}"):
        modules[name] = nn.ReLU()
    assert len(modules) == 0


def test_names_that_a_sequential_cannot_have():
    with pytest.raises(KeyError, match="Sequential: expected a name that is no attribute of it; got 'append'"):
        nn.Sequential({"append": nn.ReLU()})


@pytest.mark.parametrize(
    "use",
    [
        lambda: nn.ModuleList([ownt.ones(1)]),
        lambda: nn.ModuleList().append(ownt.ones(1)),
        lambda: nn.ModuleList().insert(0, ownt.ones(1)),
        lambda: nn.ModuleList([nn.ReLU()]).__setitem__(0, ownt.ones(1)),
        lambda: nn.ModuleDict({"a": ownt.ones(1)}),
    ],
)
def test_what_is_no_module(use):
    with pytest.raises(TypeError, match=r"Module(List|Dict): expected modules; got Tensor"):
        use()


def test_a_module_taken_out_is_a_model_of_its_own():
    model = nn.ModuleDict({"body": nn.Sequential(*linears(1, 1)), "head": nn.Linear(1, 2)})
    body = model.pop("body")
    assert names(body) == ["0", "1"]
    body.append(nn.Linear(1, 3))
    assert (names(body), names(model)) == (["0", "1", "2"], ["head"])
