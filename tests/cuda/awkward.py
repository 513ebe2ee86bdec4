"""What the kernels are run with beside the samples of their ops: shapes that no tile, warp or vector divides."""

from __future__ import annotations

from awkward_attention import ATTENTION, CACHED
from awkward_data import DATA
from awkward_images import IMAGES

from ag.sample import Sample, between, fixed, integers, normal

ROWS = ((0, 8), (1, 1), (5, 3), (37, 33), (3, 257), (2, 1000), (3, 5001))
HELD = ((37, 256), (19, 520), (70, 768), (18, 1600), (9, 13000))  # by one, two, three packs of a thread; by too many
COUNTS = (0, 1, 255, 4099, 9001)
WIDE = (2, 20011)  # more than a block reads ahead
_REDUCTIONS = ("max", "min", "var", "std")

AWKWARD = {
    "layer_norm": [
        *(Sample(normal(n, c), normal(c), normal(c)) for n, c in ROWS if c > 1),
        Sample(normal(2, 1), normal(1), normal(1)),
        Sample(normal(7, 2056), None, normal(2056)),
        *(Sample(normal(n, c), normal(c), normal(c)) for n, c in HELD),
    ],
    "rms_norm": [Sample(normal(n, c), normal(c)) for n, c in (*ROWS, *HELD)],
    **{
        name: [Sample(between(0.1, 3, n)) for n in COUNTS]
        for name in ("relu", "sigmoid", "silu", "mish", "leaky_relu", "elu", "softplus", "hardtanh", "tanh", "erf")
    },
    **{name: [Sample(normal(5, 7, 300), axis=axis) for axis in (0, 1, 2, (0, 2), None)] for name in _REDUCTIONS},
    **{name: [Sample(normal(5, 70, 3), axis) for axis in (0, 1, 2)] for name in ("argmax", "argmin", "cumsum")},
    **{name: [Sample(normal(3, 16, 24), k) for k in (-20, -3, 2)] for name in ("tril", "triu")},
    "prod": [Sample(between(0.7, 1.3, 3, 70, 5), axis) for axis in (1, (1, 2))],
    "pow": [
        *(Sample(between(0.5, 2, 37, 40), between(-2, 2, *shape)) for shape in ((40,), (37, 1))),
        *(Sample(between(0.5, 2, 1029), number) for number in (1, 2, 3.5)),
    ],
    "gelu": [Sample(normal(n), kind) for n in COUNTS for kind in ("none", "tanh")],
    **{name: [Sample(normal(n, c)) for n, c in (*ROWS, WIDE)] for name in ("softmax", "log_softmax")},
    "logsumexp": [
        *(Sample(normal(n, c), axis=1) for n, c in (*ROWS, WIDE)),
        Sample(normal(3, 40, 70), axis=(1, 2)),
        Sample(normal(2, 3, 1, 5), axis=(1, 3)),
        Sample(normal(2, 3, 1, 5), axis=(3, 2)),
        Sample(normal(0, 5), axis=1),
        Sample(normal(5, 0), axis=1),
    ],
    "gelu_linear": [
        Sample(normal(37, 24), normal(9, 24), normal(9), approximate="tanh"),
        Sample(normal(37, 33), normal(9, 33), approximate="tanh"),
    ],
    "cross_entropy": [
        *(Sample(normal(n, c), integers(c, n)) for n, c in (*ROWS, WIDE)),
        *(Sample(normal(n, c), integers(c, n), 1, "sum", 0.2, fixed(0.5, 2, c)) for n, c in (*ROWS[1:], WIDE)),
        *(Sample(normal(n, c), integers(c, n), 1, label_smoothing=0.1) for n, c in ((3, 257), (3, 5001))),
        Sample(between(-800, 800, 3, 5001), integers(5001, 3), reduction="none"),
        Sample(normal(4500, 3), integers(3, 4500), 2, "mean", 0.0, fixed(0.5, 2, 3)),
        Sample(normal(3, 2), integers(1, 3), 0),  # no row is kept
    ],
    "linear_cross_entropy": [Sample(normal(37, 16), normal(257, 16), integers(257, 37), 3)],
    "nll_loss": [
        *(Sample(normal(n, c), integers(c, n), 1, "mean", fixed(0.5, 2, c)) for n, c in ROWS[1:]),
        Sample(normal(4500, 3), integers(3, 4500), 2),
    ],
    **ATTENTION,
    **DATA,
    **IMAGES,
    "cached_attention": CACHED,
}
