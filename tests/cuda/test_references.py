"""What still runs by CuPy's functions on a GPU, which no graph can take: of floats, only what is named here."""

from __future__ import annotations

import pytest
from cases import CASES, Place
from compile_for_cpu import missing
from simulated import simulated

import ag
from ownt.kernel import Kernel

pytestmark = [pytest.mark.cuda_check, pytest.mark.skipif(bool(missing()), reason=missing())]
LEFT = {
    "add": "more than four axes that do not merge",
    "sub": "more than four axes that do not merge",
    "mul": "more than four axes that do not merge",
    "div": "more than four axes that do not merge",
    "sum": "more than four axes that do not merge, in its gradient",
    "index": "keys of lists, masks and slices",
    "argtopk": "integers",
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(ag.registry))
def test_ops_of_floats_run_by_kernels(name, dtype, monkeypatch):
    found, run = set(), Kernel._run_reference

    def noted(kernel, reference, place, arrays, outs):
        written = next(out for out in outs.values() if out is not None)
        if place is simulated and written.array.size:
            found.add(kernel.name)
        run(kernel, reference, place, arrays, outs)

    monkeypatch.setattr(Kernel, "_run_reference", noted)
    for case in CASES[name]:
        case(Place(simulated, dtype, dtype))
    assert bool(found) == (name in LEFT), found
