"""What attention's kernels are run with beside the samples of their ops: sizes that tiles do not divide, masks of all
kinds, and heads that share keys."""

from __future__ import annotations

from ag.sample import Sample, integers, normal

ATTENTION = {
    "causal_attention": [
        Sample(normal(b, t, 3 * h * d), h)
        for b, t, h, d in ((1, 33, 3, 40), (2, 32, 1, 64), (1, 97, 2, 8), (1, 40, 1, 130), (3, 31, 2, 65))
    ],
    "attention": [
        Sample(normal(1, 4, 37, 33), normal(1, 2, 67, 33), normal(1, 2, 67, 70), integers(2, 4, 37, 1), causal=True),
        Sample(normal(2, 2, 65, 40), normal(2, 1, 33, 40), normal(2, 1, 33, 9), normal(1, 2, 65, 33), causal=True),
        Sample(normal(2, 2, 35, 9), normal(2, 1, 33, 9), normal(2, 1, 33, 40), normal(2, 1, 1, 33)),
        Sample(normal(1, 3, 4, 2), normal(1, 3, 5, 2), normal(1, 3, 5, 2), normal(3, 4, 1), scale=0.3),
    ],
}
CACHED = [  # one position after many, many after none, more or fewer keys than there are warps
    Sample(normal(b, t, 3 * h * d), normal(b, h, s, d), normal(b, h, s, d), start)
    for b, t, h, d, s, start in (
        (2, 1, 3, 40, 67, 66),
        (1, 9, 2, 33, 9, 0),
        (3, 2, 1, 70, 40, 3),
        (1, 1, 1, 1, 5, 0),
        (1, 1, 2, 64, 130, 129),
        (1, 2, 1, 256, 20, 15),
        (2, 1, 2, 8, 300, 270),
    )
]
CUDNN = {  # sizes that cuDNN serves in half types
    "causal_attention": [
        Sample(normal(b, t, 3 * h * d), h) for b, t, h, d in ((2, 5, 2, 8), (1, 70, 3, 64), (3, 128, 1, 128))
    ],
    "attention": [
        Sample(normal(2, 4, 5, 16), normal(2, 2, 7, 16), normal(2, 2, 7, 8), causal=True),
        Sample(normal(1, 2, 33, 64), normal(1, 2, 65, 64), normal(1, 2, 65, 64), scale=0.2),
        Sample(normal(3, 6, 8), normal(3, 9, 8), normal(3, 9, 24)),
    ],
}
