"""Containers, state in part and hooks, beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from torch_functions import as_torch
from torch_models import assert_parameters_alike

import nn
import ownt

torch = pytest.importorskip("torch", reason="needs torch: make parity")
pytestmark = pytest.mark.parity


def sized(nn, size):
    return nn.Linear(1, size)


LIST_CHANGES = {
    "append": lambda m, nn: m.append(sized(nn, 9)),
    "extend": lambda m, nn: m.extend([sized(nn, 8), sized(nn, 9)]),
    "insert": lambda m, nn: m.insert(1, sized(nn, 9)),
    "assign": lambda m, nn: m.__setitem__(-2, sized(nn, 9)),
    "delete": lambda m, nn: m.__delitem__(1),
    "delete a slice": lambda m, nn: m.__delitem__(slice(0, None, 2)),
    "pop": lambda m, nn: m.pop(0),
    "slice": lambda m, nn: m[1:],
    "negative slice": lambda m, nn: m[-2:3],
}
DICT_CHANGES = {
    "update": lambda m, nn: m.update({"c": sized(nn, 8), "a": sized(nn, 9)}),
    "update by pairs": lambda m, nn: m.update([("c", sized(nn, 8)), ("a", sized(nn, 9))]),
    "assign": lambda m, nn: m.__setitem__("b", sized(nn, 9)),
    "delete": lambda m, nn: m.__delitem__("a"),
    "pop": lambda m, nn: m.pop("b"),
    "clear": lambda m, nn: m.clear(),
}
CONTAINERS = {
    "ModuleList": (lambda nn: nn.ModuleList(sized(nn, n) for n in (1, 2, 3, 4)), LIST_CHANGES),
    "Sequential": (lambda nn: nn.Sequential(*(sized(nn, n) for n in (1, 2, 3, 4))), LIST_CHANGES),
    "ModuleDict": (lambda nn: nn.ModuleDict({"b": sized(nn, 1), "a": sized(nn, 2)}), DICT_CHANGES),
}


@pytest.mark.parametrize(("kind", "change"), [(k, c) for k, (_, changes) in CONTAINERS.items() for c in changes])
def test_containers_change_as_torchs_do(kind, change):
    make, changes = CONTAINERS[kind]
    ours, theirs = make(nn), make(torch.nn)
    made, expected = changes[change](ours, nn), changes[change](theirs, torch.nn)
    assert_parameters_alike(ours, theirs)
    assert len(ours) == len(theirs)
    if isinstance(expected, torch.nn.Module):
        assert type(made).__name__ == type(expected).__name__
        assert_parameters_alike(made, expected)
    assert [str(key) for key in ours] == list(theirs) if kind == "ModuleDict" else len(list(ours)) == len(list(theirs))


def test_state_that_fits_in_part():
    make = lambda nn: nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    ours, theirs = make(nn), make(torch.nn)
    given = {"0.bias": np.ones(3, "float32"), "1.weight": np.zeros(3, "float32"), "other": np.ones(2, "float32")}
    mine = ours.load_state_dict(given, strict=False)
    other = theirs.load_state_dict({path: torch.from_numpy(value) for path, value in given.items()}, strict=False)
    assert (mine.missing_keys, mine.unexpected_keys) == (other.missing_keys, other.unexpected_keys)
    for path in given:
        if path != "other":
            assert np.array_equal(ours.state_dict()[path].numpy(), theirs.state_dict()[path].numpy())


# hooks


def hooked(nn, seen):
    """A model whose hooks note what they see, in order, and change some of it."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 4)), nn.Tanh())
    note = lambda what: (
        lambda module, args, *output: seen.append(
            (what, type(module).__name__, [tuple(x.shape) for x in (*args, *output)])
        )
    )
    removers = []
    for _, module in model.named_modules():
        removers.append(module.register_forward_pre_hook(note("before")))
        removers.append(module.register_forward_hook(note("after")))
    model[0].register_forward_pre_hook(lambda module, args: args[0][:2])
    model[1].register_forward_hook(lambda module, args, output: output[:1])
    model[1].register_forward_hook(note("after the change"))
    model.register_forward_pre_hook(lambda module, args: (args[0],))
    model[2].register_forward_pre_hook(note("last"))
    return model, removers


def test_hooks_see_what_torchs_see():
    mine, other = [], []
    ours, ours_removers = hooked(nn, mine)
    theirs, theirs_removers = hooked(torch.nn, other)
    x = ownt.randn(3, 2)
    ours(x)
    theirs(as_torch(x))
    assert len(mine) == 14
    assert mine == other
    for remove, handle in zip(ours_removers[1::3], theirs_removers[1::3]):
        remove()
        handle.remove()
    ours(x)
    theirs(as_torch(x))
    assert mine == other
