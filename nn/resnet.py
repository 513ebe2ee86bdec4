"""ResNet: residual networks for images, with torchvision's names, shapes and first values.

Source: He et al., arXiv 1512.03385; strides in the 3x3 convolutions, as torchvision has them.
"""

from __future__ import annotations

from typing import Any

import ag
from ag import Node
from nn import init
from nn.container import Sequential
from nn.conv import AdaptiveAvgPool2d, Conv2d, MaxPool2d
from nn.layers import Flatten, Linear
from nn.module import Module
from nn.norm import BatchNorm2d


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, **options: Any) -> Conv2d:
    return Conv2d(inputs, outputs, size, stride, size // 2, bias=False, **options)


class BasicBlock(Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: Module | None) -> None:
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = BatchNorm2d(width)
        self.downsample = downsample

    @property
    def last_norm(self) -> BatchNorm2d:
        """Whose weights of 0 make the block its shortcut alone."""
        return self.bn2

    def forward(self, x: Any) -> Node:
        h = self.bn1(self.conv1(x), relu=True)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn2(self.conv2(h), shortcut, relu=True)


class Bottleneck(Module):
    """A 3x3 convolution of fewer channels, between 1x1 convolutions, beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: Module | None) -> None:
        outputs = width * self.expansion
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = _conv(width, outputs, 1)
        self.bn3 = BatchNorm2d(outputs)
        self.downsample = downsample

    @property
    def last_norm(self) -> BatchNorm2d:
        """Whose weights of 0 make the block its shortcut alone."""
        return self.bn3

    def forward(self, x: Any) -> Node:
        h = self.bn1(self.conv1(x), relu=True)
        h = self.bn2(self.conv2(h), relu=True)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn3(self.conv3(h), shortcut, relu=True)


class ResNet(Module):
    """Images to logits.

    block:  BasicBlock or Bottleneck; layers: how many of them, in each of four stages
    zero_init_residual: whether each block begins as its shortcut alone
    checkpoint: whether the last convolution of each Bottleneck is computed again in backward rather than kept
    Shapes: x (N, 3, H, W) -> (N, num_classes)
    """

    def __init__(
        self, block: type[BasicBlock | Bottleneck], layers: tuple[int, int, int, int], num_classes: int = 1000,
        zero_init_residual: bool = False, checkpoint: bool = False,
    ) -> None:  # fmt: skip
        self.conv1 = Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, 64, 64, layers[0], 1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, layers[1], 2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, layers[2], 2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, layers[3], 2)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(512 * block.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
                weight: Any = module.last_norm.weight
                init.zeros_(weight)
            if checkpoint and isinstance(module, Bottleneck):
                module.conv3.recompute = True

    def forward(self, x: Any) -> Node:
        h = self.maxpool(self.bn1(self.conv1(x), relu=True))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            h = stage(h)
        return self.fc(self.flatten(self.avgpool(h)))

    def loss(self, images: Any, labels: Any, label_smoothing: float = 0.0) -> Node:
        """The mean cross-entropy. Shapes: images (N, 3, H, W), labels (N,)"""
        return ag.cross_entropy(self(images), labels, label_smoothing=label_smoothing)


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, width: int, count: int, stride: int) -> Sequential:
    outputs = width * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        cheap = stride == 1  # it has four times the channels of its input, which is kept for another's sake
        shortcut = Sequential(_conv(inputs, outputs, 1, stride, recompute=cheap), BatchNorm2d(outputs))
    first = block(inputs, width, stride, shortcut)
    return Sequential(first, *(block(outputs, width, 1, None) for _ in range(count - 1)))


def resnet18(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-18, of basic blocks; options are those of ResNet."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, **options)


def resnet34(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-34, of basic blocks; options are those of ResNet."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, **options)


def resnet50(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-50, of bottlenecks; options are those of ResNet."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, **options)


def resnet101(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-101, of bottlenecks; options are those of ResNet."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, **options)


def resnet152(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-152, of bottlenecks; options are those of ResNet."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, **options)
