"""What kernels that move numbers, and those of arithmetic, are run with beside the samples of their ops: operands that
repeat along all kinds of axes, with rows that packs of 16 bytes fit and rows that they do not."""

from __future__ import annotations

from ag.sample import Sample, between, integers, normal

_SHAPES = (
    ((4099,), (4099,)),
    ((37, 64), (64,)),
    ((5, 9, 33), (33,)),
    ((64,), (37, 64)),
    ((48, 1), (1, 40)),
    ((48, 1), (48, 40)),
    ((3, 16, 24), (16, 1)),
    ((2, 3, 4, 16), (3, 1, 16)),
    ((2, 1, 3, 1, 8), (4, 1, 5, 8)),
    ((2, 1, 2, 1, 2, 1), (3, 1, 2, 1, 8)),
    ((1,), (1000,)),
)
_SUMS = (
    ((1100, 40), 0),
    ((1100, 37), 0),
    ((530, 3), 0),
    ((3, 700, 16), 1),
    ((5, 7, 9), (0, 2)),
    ((5, 64, 8), (0, 2)),
    ((9, 4099), 1),
    ((40, 64), 1),
    ((2, 3, 4, 5, 6), (1, 3)),
    ((0, 5), 0),
    ((5, 0), 0),
)

DATA = {
    **{
        name: [*(Sample(normal(*a), between(0.5, 2, *b)) for a, b in _SHAPES), Sample(normal(1029), 1.5)]
        for name in ("add", "sub", "mul", "div")
    },
    "sum": [
        *(Sample(normal(*shape), axis) for shape, axis in _SUMS),
        Sample(normal(4, 3000), 0, True),
        Sample(normal(70000)),
    ],
    "embedding": [
        Sample(integers(v, *shape), normal(v, c))
        for v, shape, c in (
            (1, (100,), 8),
            (3, (700,), 33),
            (5, (37, 3), 264),
            (300, (1100,), 16),
            (70000, (45,), 1),
            (9, (2, 5), 1100),
        )
    ],
    "dropout": [*(Sample(normal(n), 0.3) for n in (0, 1, 4099)), Sample(normal(3, 5, 7), 0.9)],
    "gather": [
        Sample(normal(37, 5), 0, integers(37, 90, 3)),
        Sample(normal(7, 5, 9), 1, integers(5, 6, 300, 9)),
        Sample(normal(2, 3, 4, 5, 6), -1, integers(6, 2, 2, 4, 5, 33)),
    ],
    "argtopk": [
        *(Sample(normal(37, 5), k, 0, largest) for k in (1, 37) for largest in (True, False)),
        Sample(normal(3, 70, 4), 40, 1),
        Sample(normal(2, 5000), 3),
        Sample(integers(3, 4, 90), 50, largest=False),
    ],
    **{name: [Sample(normal(*a), normal(*b)) for a, b in _SHAPES[:8]] for name in ("maximum", "minimum")},
    "where": [
        Sample(mask, normal(37, 64), normal(64)) for mask in (integers(2, 37, 64), integers(2, 37, 1), normal(64))
    ],
    "clip": [Sample(normal(4099), -0.5, 0.25), Sample(normal(33, 3), high=0.5)],
    "neg": [Sample(normal(n)) for n in (0, 1, 255, 4099)],
}
