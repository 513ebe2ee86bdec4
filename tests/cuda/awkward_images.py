"""What the kernels of images are run with beside the samples of their ops: sizes that no vector or block divides, and
windows that overlap, leave out pixels or hang over the edge."""

from __future__ import annotations

from ag.sample import Sample, normal

POOLS = [
    Sample(normal(n, c, *image), *options)
    for n, c, image in ((1, 1, (5, 4)), (2, 33, (7, 9)), (3, 8, (4, 17)))
    for options in ((2,), (3, 2, 1), ((2, 3), 1, (1, 0)), ((4, 2), (1, 3)))
]


def convolution(c, o, size, image, stride=1, padding=0, dilation=1, groups=1, n=2):
    """A sample of images (n, c, *image) that are seen through windows of `size`."""
    return Sample(normal(n, c, *image), normal(o, c // groups, *size), normal(o), stride, padding, dilation, groups)


IMAGES = {
    "conv2d": [
        convolution(1, 1, (3, 3), (5, 4), 1, 1),
        convolution(65, 17, (1, 1), (7, 5), 3),
        convolution(5, 67, (3, 2), (9, 10), (2, 3), (1, 2), (2, 1)),
        convolution(3, 8, (7, 7), (23, 21), 2, 3),
        convolution(12, 18, (3, 3), (6, 5), 2, 1, 1, 3),
        convolution(5, 5, (3, 3), (24, 25), 1, 1, 1, 5),  # of so many pixels that they are taken in parts
        convolution(2, 3, (5, 5), (2, 3), 1, (2, 3)),  # windows larger than the image
    ],
    "max_pool2d": [*POOLS, Sample(normal(1, 2, 17, 20), (16, 17))],  # of more places than a byte has
    "avg_pool2d": POOLS,
    "batch_norm": [
        Sample(normal(*shape), normal(shape[1]), normal(shape[1]), normal(*shape), relu=True, eps=0.1)
        for shape in ((2, 5), (67, 3), (33, 16), (300, 264), (2, 3, 8), (3, 2, 9), (2, 5, 7, 1), (4, 3, 24, 32))
    ],
    "group_norm": [
        Sample(normal(*shape), groups, normal(shape[1]), normal(shape[1]), eps=0.1)
        for shape, groups in (((2, 6), 3), ((1, 5, 7), 1), ((3, 24, 4, 8), 4), ((2, 4, 33, 17), 2), ((37, 16, 3), 16))
    ],
}
