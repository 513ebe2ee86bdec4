"""torch's losses, attention and group norm, and the calls at which they are compared with ours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import inf, nan
from typing import Any

from ag.sample import Sample, between, fixed, integers, normal

try:
    import torch
    import torch.nn.functional as F
except ImportError:  # see torch_functions
    torch = F = None

SHAPES = [(), (1,), (4,), (0,), (2, 3), (1, 3), (0, 3), (2, 1, 4), (2, 3, 2, 2)]
REDUCTIONS = ("mean", "sum", "none")


def classes_second(x: Any) -> Any:
    return x.movedim(-1, 1).contiguous() if x.ndim > 1 else x  # torch's nll_loss has no gradient of other strides


def cross_entropy(x, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0, weight=None):
    options = {"weight": weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
    return F.cross_entropy(classes_second(x), targets, reduction=reduction, **options)


def nll_loss(x, targets, ignore_index=-100, reduction="mean", weight=None):
    return F.nll_loss(classes_second(x), targets, weight, ignore_index=ignore_index, reduction=reduction)


def between_equals(name: str, x: Any, targets: Any, reduction: str = "mean", **options: Any) -> Any:
    """torch warns where shapes broadcast, and so they are broadcast before."""
    return getattr(F, name)(*torch.broadcast_tensors(x, targets), reduction=reduction, **options)


def kl_div(x: Any, targets: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """torch warns of the mean over all elements, and so it is taken after."""
    single = between_equals("kl_div", x, targets, "none" if reduction == "mean" else reduction, log_target=log_target)
    return single.mean() if reduction == "mean" else single


def binary_cross_entropy(x, targets, reduction="mean", weight=None, pos_weight=None):
    options = {"weight": weight, "pos_weight": pos_weight, "reduction": reduction}
    return F.binary_cross_entropy_with_logits(x, targets, **options)


def group_norm(x, groups, gain=None, shift=None, eps=1e-5):
    gain = torch.ones_like(shift) if gain is None and shift is not None else gain  # torch fails with a shift alone
    return F.group_norm(x, groups, gain, shift, eps)


def attention(q, k, v, mask=None, causal=False, scale=None):
    if mask is not None and not mask.is_floating_point():
        mask = mask.bool()
    grouped = q.ndim > 2 and q.shape[-3] != k.shape[-3]
    if causal and mask is not None:  # torch takes one of them
        lower = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        mask, causal = (mask & lower if mask.dtype is torch.bool else mask.masked_fill(~lower, -inf)), False
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=grouped)


FUNCTIONS = {
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": lambda x, w, targets, *rest, **options: cross_entropy(
        F.linear(x, w), targets, *rest, **options
    ),
    "nll_loss": nll_loss,
    "mse_loss": lambda x, t, reduction="mean": between_equals("mse_loss", x, t, reduction),
    "l1_loss": lambda x, t, reduction="mean": between_equals("l1_loss", x, t, reduction),
    "smooth_l1_loss": lambda x, t, reduction="mean", beta=1.0: between_equals(
        "smooth_l1_loss", x, t, reduction, beta=beta
    ),
    "kl_div": kl_div,
    "binary_cross_entropy_with_logits": binary_cross_entropy,
    "group_norm": group_norm,
    "attention": attention,
}


def of_classes() -> Iterator[Sample]:
    """Of log-probabilities, with weights and ignored targets."""
    for reduction, lead in product(REDUCTIONS, [(), (1,), (4,), (2, 3), (3, 1, 2)]):
        x, t = between(-5, 0, *lead, 5), integers(5, *lead)
        yield Sample(x, t, reduction=reduction)
        yield Sample(x, t, 2, reduction)
        yield Sample(x, t, 1, reduction, fixed(0.2, 3, 5))


def smoothed() -> Iterator[Sample]:
    for reduction, lead, weight in product(REDUCTIONS, [(1,), (4,), (2, 3), (2, 1, 2)], [None, fixed(0.2, 3, 5)]):
        yield Sample(normal(*lead, 5), integers(5, *lead), 3, reduction, 0.1, weight)
        yield Sample(normal(*lead, 5), integers(5, *lead), -100, reduction, 1.0, weight)
    yield Sample(between(-1e4, 1e4, 6, 5), integers(5, 6), label_smoothing=0.2)


def smoothed_linear() -> Iterator[Sample]:
    for reduction, lead in product(REDUCTIONS, [(1,), (4,), (2, 3)]):
        yield Sample(normal(*lead, 6), normal(5, 6), integers(5, *lead), 3, reduction, 0.1)


def of_pairs(values: Any, extreme: list[Any], make: Any = normal, reductions: Any = REDUCTIONS) -> Iterator[Sample]:
    for reduction, shape in product(reductions, SHAPES):
        if shape or reduction != "batchmean":
            yield Sample(normal(*shape), make(*shape), reduction)
    yield from [Sample(normal(3, 1), make(1, 4), "none"), Sample(normal(2, 3), make(3), "sum")]
    yield Sample(values([1.0, -2.0, 3.0, 0.5]), values([1.0, -2.0, 3.0, 0.25]), "none")  # ties
    if make is normal:
        yield Sample(values(extreme), values(extreme[::-1]), "none")


def binaries(values: Any) -> Iterator[Sample]:
    numbers = [0.0, 1e4, -1e4, 80.0, -80.0, inf, -inf, nan]
    for reduction, shape in product(REDUCTIONS, SHAPES):
        x, t = normal(*shape), between(0, 1, *shape)
        yield Sample(x, t, reduction)
        if shape:
            yield Sample(x, t, reduction, fixed(0.5, 2, *shape), fixed(0.5, 2, shape[-1]))
    yield from (Sample(values(numbers), values([target] * 8), "none") for target in (0.0, 1.0, 0.25))


def group_norms() -> Iterator[Sample]:
    for lead, (channels, groups), rest in product([1, 2, 0], [(4, 2), (6, 3), (4, 1), (3, 3)], [(5,), (2, 3), (1, 4)]):
        yield Sample(normal(lead, channels, *rest), groups, normal(channels), normal(channels))
    yield from [
        Sample(normal(3, 8), 2, normal(8)),
        Sample(normal(3, 8), 4, None, normal(8)),
        Sample(normal(2, 4, 9), 2),
    ]
    yield from [Sample(normal(2, 4), 4, eps=1.0), Sample(normal(5, 64, 30), 8, normal(64), normal(64))]


def attentions() -> Iterator[Sample]:
    every = product([1, 2], [(1, 1), (4, 4), (4, 2), (6, 1)], [(1, 3), (5, 5)], [False, True])
    for b, (heads, shared), (t, s), causal in every:
        q, kv = normal(b, heads, t, 4), normal(b, shared, s, 4)
        yield Sample(q, kv, normal(b, shared, s, 6), causal=causal)
        yield Sample(q, kv, kv, normal(t, s), scale=0.3)
    for shape in [(3, 5), (1, 5), (2, 1, 3, 5), (2, 2, 3, 5), (1, 1, 1, 5)]:
        rest = normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4)
        yield from [Sample(*rest, normal(*shape)), Sample(*rest, integers(2, *shape))]
    yield from [
        Sample(normal(3, 4, 5), normal(3, 6, 5), normal(3, 6, 2)),
        Sample(normal(4, 5), normal(6, 5), normal(6, 2)),
    ]
    yield Sample(between(-5, 5, 1, 2, 9, 4), between(-5, 5, 1, 2, 9, 4), normal(1, 2, 9, 4), causal=True)
    yield Sample(normal(2, 2, 130, 4), normal(2, 1, 200, 4), normal(2, 1, 200, 4), causal=True)


def cases(values: Any, extreme: list[Any]) -> dict[str, list[Sample]]:
    return {
        "nll_loss": list(of_classes()),
        "mse_loss": list(of_pairs(values, extreme)),
        "l1_loss": list(of_pairs(values, extreme)),
        "smooth_l1_loss": [
            *of_pairs(values, extreme),
            *(Sample(normal(9), normal(9), "none", beta) for beta in (0.0, 0.1, 5.0)),
        ],
        "kl_div": [
            *of_pairs(values, extreme, lambda *shape: between(0.1, 1, *shape), (*REDUCTIONS, "batchmean")),
            *(Sample(normal(3, 4), normal(3, 4), reduction, True) for reduction in (*REDUCTIONS, "batchmean")),
        ],
        "binary_cross_entropy_with_logits": list(binaries(values)),
        "group_norm": list(group_norms()),
        "attention": list(attentions()),
    }
