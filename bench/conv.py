"""The convolutions of ResNet-50, one by one, beside PyTorch's, whose channels lie last: milliseconds and GFLOP/s.

    python bench/conv.py [--batch-size 8] [--threads N]

Forward, by the input and by the weights; medians, the two in turn; totals over the network's 53 convolutions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import workers

import nn
import ownt
from ag.ops.conv import conv_input_vjp, conv_kernel, conv_weight_vjp
from ag.ops.window import Window
from ownt import scratch
from ownt.kernel import Out

ROUNDS = 7
Case = tuple[int, int, int, Window]  # channels, height and width of the image, channels of the result, window


def cases() -> Counter[Case]:
    """How often ResNet-50 has each, by its layers' shapes on the meta device."""
    found: Counter[Case] = Counter()
    with ownt.device.use("meta"):
        model = nn.resnet50()
        for layer in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
            window = Window(layer.kernel_size, layer.stride, layer.padding, layer.dilation)

            def note(layer: Any, inputs: tuple, _: Any, window: Window = window) -> None:
                found[layer.in_channels, inputs[0].shape[2], layer.out_channels, window] += 1

            layer.register_forward_hook(note)
        model.eval()(ownt.zeros(1, 3, 224, 224))
    return found


def images(*shape: int) -> ownt.Tensor:
    made = scratch.images(shape, ownt.zeros(1))
    made[...] = ownt.randn(*shape)
    return made


def ours(case: Case, batch: int) -> tuple[list[Callable[[], Any]], list[Any]]:
    """What computes the three, and x, w and g as NumPy arrays."""
    channels, size, outputs, window = case
    x, w = images(batch, channels, size, size), ownt.randn(outputs, channels, *window.size)
    y = scratch.images((batch, outputs, *window.output(size, size)), x)
    g, dx, dw = images(*y.shape), scratch.alike(x), scratch.alike(w)
    calls: list[Callable[[], Any]] = [
        lambda: conv_kernel(x, w, None, window, 1, out=Out(y)),
        lambda: conv_input_vjp(g, w, window, 1, out=Out(dx)),
        lambda: conv_weight_vjp(g, x, window, 1, out=Out(dw)),
    ]
    return calls, [x.numpy(), w.numpy(), g.numpy()]


def torchs(case: Case, arrays: list[Any]) -> list[Callable[[], Any]]:
    import torch

    window = case[3]
    last = torch.channels_last
    x, w, g = (torch.from_numpy(array.copy()).to(memory_format=last) for array in arrays)
    rest = (None, window.stride, window.padding, window.dilation)

    def back(wanted: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(g, x, w, *rest, False, [0, 0], 1, wanted)

    calls = [lambda: torch.nn.functional.conv2d(x, w, *rest), lambda: back([True, False, False])]
    return [*calls, lambda: back([False, True, False])]


def medians(calls: list[Callable[[], Any]]) -> list[float]:
    """Seconds of each, in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(ROUNDS):
        for call, found in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            found.append(time.perf_counter() - began)
    return [statistics.median(found) for found in times]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=workers.thread_count, default=workers.cores())
    options = parser.parse_args()
    if not workers.installed(["torch"]):
        return 1
    workers.machine(options.threads)
    workers.hold("ownt", options.threads)
    workers.hold("torch", options.threads)
    totals = [0.0] * 6
    for case, count in cases().items():
        mine, arrays = ours(case, options.batch_size)
        theirs = torchs(case, arrays)
        found = medians([call for pair in zip(mine, theirs, strict=True) for call in pair])
        channels, size, outputs, window = case
        high, wide = window.output(size, size)
        operations = 2 * options.batch_size * high * wide * outputs * channels * window.size[0] * window.size[1]
        shown = "  ".join(f"{1e3 * t:6.2f} ms {operations / t / 1e9:4.0f}" for t in found)
        name = f"{channels} -> {outputs}, {window.size[0]}x{window.size[1]} / {window.stride[0]} on {size}"
        print(f"{count} of {name:<32} {shown}", flush=True)
        totals = [total + count * t for total, t in zip(totals, found, strict=True)]
    for name, mine_s, theirs_s in zip(
        ("forward", "by the input", "by the weights"), totals[::2], totals[1::2], strict=True
    ):
        print(f"{name:<15} ownt {1e3 * mine_s:5.0f} ms, torch {1e3 * theirs_s:5.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
