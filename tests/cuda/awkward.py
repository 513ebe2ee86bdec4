"""What the kernels are run with beside the samples of their ops: shapes that no tile, warp or vector divides."""

from __future__ import annotations

from awkward_attention import ATTENTION, CACHED

from ag.sample import Sample, between, normal

ROWS = ((0, 8), (1, 1), (5, 3), (37, 33), (3, 257), (2, 1000), (3, 5001))
COUNTS = (0, 1, 255, 4099, 9001)

AWKWARD = {
    "layer_norm": [
        *(Sample(normal(n, c), normal(c), normal(c)) for n, c in ROWS if c > 1),
        Sample(normal(2, 1), normal(1), normal(1)),
        Sample(normal(7, 2056), None, normal(2056)),
        Sample(normal(2, 13000)),
    ],
    "rms_norm": [Sample(normal(n, c), normal(c)) for n, c in ROWS],
    **{
        name: [Sample(between(0.1, 3, n)) for n in COUNTS]
        for name in ("relu", "sigmoid", "silu", "mish", "leaky_relu", "elu", "softplus", "hardtanh", "tanh")
    },
    "gelu": [Sample(normal(n), kind) for n in COUNTS for kind in ("none", "tanh")],
    **ATTENTION,
    "cached_attention": CACHED,
}
