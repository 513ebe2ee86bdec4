"""A product, its bias and its workspace in a CUDA graph, whose replay reads what then lies in memory."""

from __future__ import annotations

import numpy as np
import pytest
from matrices import close, numbers, there

from ownt import device, gemm
from ownt.launch import Launch

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_graph_of_a_product_computes_it_again(dtype):
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("needs a GPU")
    place = device.get("cuda")
    first, later = numbers((2, 64, 256), dtype, 1)
    w, bias = numbers((256, 128), dtype, 2), numbers((128,), dtype, 3)
    x, out = there(place, first), there(place, np.zeros((64, 128), w.dtype))
    with place.working():
        function, arguments = gemm.bind(x, there(place, w), out, 0, "bias", there(place, bias))
        function(*arguments)  # what the library loads at first is loaded before
        x[...] = there(place, later)
        graph = place.graph([Launch("product", function, arguments)])
        wide = [part.astype("float64") for part in (first, later, w, bias)]
        close(place.to_host(out), wide[0] @ wide[2] + wide[3], dtype)  # a capture computes nothing
        graph()
        close(place.to_host(out), wide[1] @ wide[2] + wide[3], dtype)
