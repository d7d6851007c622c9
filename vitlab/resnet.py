"""The convolutional baseline: a ResNet as in BiT (section 4.1), small enough for the lab.

BiT ("Big Transfer", arXiv 1912.11370) replaces batch norm by group norm and standardises the weights of
every convolution, which trains as well with small batches and transfers better.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.encoder import full_precision
from vitlab.patches import as_pair


@dataclass(frozen=True)
class ResNetConfig:
    """The shape of a `ResNet`: one stage per entry of `blocks`, each half as large and twice as wide.

    Images may have any size of at least 2 ** (stages - 1) pixels. Raises ValueError for numbers that do
    not fit.

    >>> ResNetConfig(width=16).widths
    (16, 32, 64)
    """

    in_chans: int = 1
    num_classes: int = 10
    width: int = 32
    blocks: tuple[int, ...] = (1, 1, 1)

    def __post_init__(self):
        object.__setattr__(self, "blocks", tuple(self.blocks))
        for field, least in dict(in_chans=1, num_classes=0, width=1).items():
            value = getattr(self, field)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{field} is a whole number of at least {least}; got {value!r}")
        if self.width % GROUP_WIDTH:
            raise ValueError(
                f"width is a multiple of {GROUP_WIDTH}, the channels of a norm's group; got {self.width}"
            )
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"blocks has at least one block for each stage; got {self.blocks}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.blocks)))


GROUP_WIDTH = 8  # channels that a group norm normalises together


class StdConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1 / inputs when used (arXiv 1903.10520).

    >>> StdConv2d(3, 8, 3, padding=1)(torch.zeros(2, 3, 12, 12)).shape
    torch.Size([2, 8, 12, 12])
    """

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.weight[0].numel()
        flat = self.weight.flatten(1)
        variance, mean = torch.var_mean(flat, dim=1, keepdim=True, correction=0)
        weight = (flat - mean) * torch.rsqrt(variance * inputs + 1e-8)
        return F.conv2d(x, weight.view_as(self.weight), self.bias, self.stride, self.padding)


def norm(channels: int) -> nn.GroupNorm:
    """Group norm over groups of `GROUP_WIDTH` channels."""
    return nn.GroupNorm(channels // GROUP_WIDTH, channels)


class ResidualBlock(nn.Module):
    """Norm, ReLU and a 3x3 convolution, twice, added to what came in: (B, C, H, W) -> (B, C', H/s, W/s).

    >>> ResidualBlock(16, 32, stride=2)(torch.zeros(2, 16, 14, 14)).shape
    torch.Size([2, 32, 7, 7])
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = norm(channels_in), norm(channels_out)
        self.conv1 = StdConv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.conv2 = StdConv2d(channels_out, channels_out, 3, padding=1, bias=False)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else StdConv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        shortcut = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(y)
        y = self.conv1(y)
        return shortcut + self.conv2(F.relu(self.norm2(y)))


class ResNet(nn.Module):
    """A ResNet: images (B, C, H, W) in [-1, 1] -> logits (B, num_classes), fp32. The head starts at zero.

    >>> ResNet(ResNetConfig())(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        self.stem = StdConv2d(config.in_chans, config.width, 3, padding=1, bias=False)
        blocks, channels = [], config.width
        for stage, (width, depth) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for block in range(depth):
                blocks.append(ResidualBlock(channels, width, stride=2 if stage and not block else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(channels)
        self.head = nn.Linear(channels, config.num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature map: (B, C, H, W) -> (B, C', H', W')."""
        if images.ndim != 4 or images.shape[1] != self.config.in_chans:
            raise ValueError(
                f"images have the shape (B, {self.config.in_chans}, H, W); got {tuple(images.shape)}"
            )
        return F.relu(self.norm(self.blocks(self.stem(images))))

    def forward(self, images: Tensor) -> Tensor:
        x = self.forward_features(images).mean(dim=(2, 3))  # (B, C')
        with full_precision(x.device):
            return self.head(x.to(self.head.weight.dtype))


def count_flops(config: ResNetConfig, image_size: int | tuple[int, int] = 28) -> int:
    """Floating-point operations of one image's forward pass: two for each multiply-add of a convolution.

    Counted as `vitlab.vit.count_flops` counts them: norms, activations and additions are left out.

    >>> count_flops(ResNetConfig()) / 1e6
    74.313216
    """
    height, width = as_pair(image_size)
    channels = config.width
    multiply_adds = height * width * 9 * config.in_chans * channels  # the stem
    for stage, (wide, depth) in enumerate(zip(config.widths, config.blocks, strict=True)):
        for block in range(depth):
            if stage and not block:
                height, width = -(-height // 2), -(-width // 2)  # a stride of 2, rounded up
            shortcut = 0 if channels == wide and (block or not stage) else channels * wide
            multiply_adds += height * width * (9 * channels * wide + 9 * wide * wide + shortcut)
            channels = wide
    return 2 * (multiply_adds + channels * config.num_classes)
