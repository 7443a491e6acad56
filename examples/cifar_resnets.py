"""The ResNets for CIFAR-10 of He et al., Deep residual learning for image recognition (CVPR 2016), section 4.2.

The suites `cifar` and `pruners-cifar` build them from here; anybody's own network is used in the same way:

    models:
      - use: python
        network: examples/cifar_resnets.py:cifar_resnet
        args: {depth: 20}
        checkpoint: $PRUNINGBENCH_DATA/weights/resnet20-cifar10.safetensors
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without parameters (option A).

    Where the block has more channels than its input, the shortcut takes every second pixel and pads the new
    channels with zeros, half of them before and half after the old ones.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        grows = channels > channels_in
        self.stride, self.added = (2 if grows else 1), channels - channels_in
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, h, w) -> (B, channels, h / stride, w / stride)."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        before = self.added // 2
        shortcut = pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))
        return torch.relu(y + shortcut)


class CifarResNet(nn.Module):
    """6 blocks + 2 layers deep, widths 16, 32 and 64; no maximum pooling, no convolution in the shortcuts."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks)
        self.layer2 = self._stage(16, 32, blocks)
        self.layer3 = self._stage(32, 64, blocks)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(Block(channels_in, channels), *(Block(channels, channels) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, classes) logits."""
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def cifar_resnet(depth: int = 20, classes: int = 10) -> nn.Module:
    """Return a ResNet with random weights, of 6 n + 2 layers: 20, 32, 44, 56 or 110 in the paper.

    A ResNet-20 has 269,722 parameters for 10 classes, 268,336 of them in maps.

    Raises:
        ValueError: for another depth.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth is {depth}, but must be 6 n + 2: 20, 32, 44, 56, ...")
    return CifarResNet(blocks=depth // 6, classes=classes)
