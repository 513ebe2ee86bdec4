"""What the kernels of images are run with beside the samples of their ops: sizes that no vector or block divides, and
windows that overlap, leave out pixels or hang over the edge."""

from __future__ import annotations

from ag.sample import Sample, normal

POOLS = [
    Sample(normal(n, c, *image), *options)
    for n, c, image in ((1, 1, (5, 4)), (2, 33, (7, 9)), (3, 8, (4, 17)))
    for options in ((2,), (3, 2, 1), ((2, 3), 1, (1, 0)), ((4, 2), (1, 3)))
]
IMAGES = {
    "max_pool2d": [*POOLS, Sample(normal(1, 2, 17, 20), (16, 17))],  # of more places than a byte has
    "avg_pool2d": POOLS,
    "batch_norm": [
        Sample(normal(*shape), normal(shape[1]), normal(shape[1]), normal(*shape), relu=True, eps=0.1)
        for shape in ((2, 5), (67, 3), (33, 16), (300, 264), (2, 3, 8), (3, 2, 9), (2, 5, 7, 1), (4, 3, 24, 32))
    ],
}
