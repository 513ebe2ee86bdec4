"""An estimate for a GPU is what the simulated device holds, where both have the same library of products."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from compile_for_cpu import missing
from plain_step import batch, gpt, loss_of, mlp
from simulated import simulated

import nn
from ownt import cudnn, memory, meta_cuda

pytestmark = [pytest.mark.memory, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.mark.filterwarnings("ignore:a recorded step is no CUDA graph")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", [mlp, gpt])
@pytest.mark.parametrize("extra", [0, 4])
def test_an_estimate_is_what_is_measured(monkeypatch, model, dtype, extra):
    """`extra` bytes of workspace for each product are the control."""

    class Products:
        def product(self, problem):
            found = simulated.gemm.product(problem).workspace_bytes
            return meta_cuda._Product(found + extra * (1 << 20))

    monkeypatch.setattr(cudnn, "enabled", False)
    monkeypatch.setattr(meta_cuda.device, "gemm", Products())
    gc.collect()  # models of other tests
    made = model(dtype=dtype).to("simulated")
    step = nn.Step(loss_of(made), nn.AdamW(made.parameters()), max_norm=1.0)
    loss_of(made)(*batch(made, 0))  # after which the device has its table of faults
    elsewhere = simulated.ledger.live - sum(p.nbytes for p in made.parameters())
    estimated = nn.estimate(step, *batch(made, 0), device="cuda").peak_bytes
    for number in range(4):
        step(*batch(made, 3 * number))
    memory.reset_peak("simulated")
    step(*batch(made, 0))
    found = memory.report("simulated").peak_bytes - elsewhere
    assert (found == estimated) is (extra == 0)
    assert np.isfinite(step(*batch(made, 0)).item())
