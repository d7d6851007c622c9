"""The convolutional baseline, a ResNet as in BiT (section 4.1), and the ResNet on which a hybrid stands.

BiT ("Big Transfer", arXiv 1912.11370) replaces batch norm by group norm and standardises the weights of
every convolution, which trains as well with small batches and transfers better. The baseline is small enough
for the lab; the hybrid's stem is that of the published weights, whose names (timm's) it has.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.embeddings import PatchEmbed
from vitlab.norms import full_precision
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
        flat = self.weight.flatten(1)
        variance, mean = torch.var_mean(flat, dim=1, keepdim=True, correction=0)
        weight = (flat - mean) * self.scale(variance)
        return F.conv2d(x, weight.view_as(self.weight), self.bias, self.stride, self.padding)

    def scale(self, variance: Tensor) -> Tensor:
        """What kernels of such variances are multiplied by."""
        return torch.rsqrt(variance * self.weight[0].numel() + 1e-8)


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


STEM_GROUPS = 32  # that a stem's group norms have
STEM_EPS = {"jax": 1e-6, "timm": 1e-5}  # of its group norms


class StemConv2d(StdConv2d):
    """A convolution without bias, kernels of mean 0 and variance 1, that pads as JAX does ("SAME").

    A side of n pixels becomes one of n / stride, rounded up; where the border is odd, the right and the lower
    edge get more. `rule` says how a small variance is kept from zero: 1e-5 more deviation ("jax") or 1e-8
    more variance ("timm").

    >>> StemConv2d(3, 32, 7, stride=2)(torch.zeros(2, 3, 12, 9)).shape
    torch.Size([2, 32, 6, 5])
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, rule: str = "jax"):
        super().__init__(channels_in, channels_out, kernel, stride, bias=False)
        self.rule = rule

    def scale(self, variance: Tensor) -> Tensor:
        return 1 / (variance.sqrt() + 1e-5) if self.rule == "jax" else torch.rsqrt(variance + 1e-8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size[0], self.stride[0]))


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Feature maps with the border of zeros that JAX and TensorFlow call "SAME".

    >>> pad_same(torch.zeros(1, 1, 8, 9), kernel=3, stride=2).shape
    torch.Size([1, 1, 9, 11])
    """
    border = []
    for side in (x.shape[3], x.shape[2]):  # F.pad begins with the last axis
        more = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        border += [more // 2, more - more // 2]
    return F.pad(x, border)


def conv_norm(channels_in: int, channels_out: int, kernel: int, stride: int, rule: str) -> nn.Sequential:
    """A convolution of a stem and its group norm."""
    conv = StemConv2d(channels_in, channels_out, kernel, stride, rule)
    return nn.Sequential(
        OrderedDict(conv=conv, norm=nn.GroupNorm(STEM_GROUPS, channels_out, eps=STEM_EPS[rule]))
    )


class Bottleneck(nn.Module):
    """Three convolutions, 1x1, 3x3 and 1x1, norm and ReLU after each, added to what came in.

    (B, C, H, W) -> (B, 4·width, H/s, W/s). The last ReLU follows the sum. The first of a stage has a
    convolution in its shortcut, too.

    >>> Bottleneck(32, 32, stride=2, first=True)(torch.zeros(2, 32, 8, 8)).shape
    torch.Size([2, 128, 4, 4])
    """

    def __init__(self, channels_in: int, width: int, stride: int, first: bool, rule: str = "jax"):
        super().__init__()
        self.conv1, self.norm1 = conv_norm(channels_in, width, 1, 1, rule)
        self.conv2, self.norm2 = conv_norm(width, width, 3, stride, rule)
        self.conv3, self.norm3 = conv_norm(width, 4 * width, 1, 1, rule)
        self.downsample = conv_norm(channels_in, 4 * width, 1, stride, rule) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.downsample(x) + self.norm3(self.conv3(y)))


class Stem(nn.Module):
    """What comes before a hybrid's patches: a 7x7 convolution, a pooling, and stages of bottlenecks.

    (B, C, H, W) -> (B, C', H/s, W/s), with `stem_channels` and `stem_stride`: Google's
    vit_jax/models_resnet.py, or timm's `ResNetV2` without pre-activation. `blocks` has the number of
    bottlenecks in each stage, perhaps none.

    >>> Stem(in_chans=3, width=32, blocks=(1, 1))(torch.zeros(2, 3, 32, 48)).shape
    torch.Size([2, 256, 4, 6])
    """

    def __init__(self, in_chans: int, width: int, blocks: tuple[int, ...], rule: str = "jax"):
        super().__init__()
        self.stem = conv_norm(in_chans, width, 7, 2, rule)
        self.stages, channels = nn.Sequential(), width
        for stage, depth in enumerate(blocks):
            units = nn.Sequential()
            for block in range(depth):
                stride = 2 if stage and not block else 1
                units.append(Bottleneck(channels, width * 2**stage, stride, not block, rule))
                channels = 4 * width * 2**stage
            self.stages.append(nn.Sequential(OrderedDict(blocks=units)))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem(images))
        x = F.max_pool2d(pad_same(x, 3, 2), 3, 2)  # nothing is below zero, so that zeros do not count
        return self.stages(x)


class HybridEmbed(PatchEmbed):
    """Patches of a ResNet's features, projected: (B, C, H, W) -> (B, N, D) (section 3.1).

    The paper's "Hybrid Architecture". `patch_size` counts pixels, as in a ViT's name; the projection takes
    patches of `patch_size` / `stem_stride` features a side, mostly of one.

    >>> HybridEmbed(16, 3, 48, blocks=(1, 1, 1), width=32)(torch.zeros(2, 3, 32, 48)).shape
    torch.Size([2, 6, 48])
    """

    def __init__(
        self,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        blocks: tuple[int, ...],
        width: int = 64,
        rule: str = "jax",
    ):
        super().__init__(patch_size // stem_stride(blocks), stem_channels(blocks, width), embed_dim)
        self.backbone = Stem(in_chans, width, blocks, rule)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.backbone(images))


def stem_stride(blocks: tuple[int, ...]) -> int:
    """Pixels from one feature of a stem to the next.

    >>> stem_stride((3, 4, 9)), stem_stride((2, 2, 2, 2)), stem_stride(())
    (16, 32, 4)
    """
    return 4 * 2 ** max(len(blocks) - 1, 0)


def stem_channels(blocks: tuple[int, ...], width: int) -> int:
    """Numbers in each feature of a stem.

    >>> stem_channels((3, 4, 9), 64)
    1024
    """
    return 4 * width * 2 ** (len(blocks) - 1) if blocks else width


def stem_multiply_adds(
    blocks: tuple[int, ...], width: int, in_chans: int, image_size: int | tuple[int, int]
) -> int:
    """Multiply-adds of a stem's convolutions on one image whose sides its stride divides.

    >>> stem_multiply_adds((3, 4, 9), 64, 3, 224) / 1e9
    3.932995584
    """
    area, channels = math.prod(as_pair(image_size)) // 4, width
    total = area * 49 * in_chans * width
    area //= 4  # the pooling
    for stage, depth in enumerate(blocks):
        narrow, wide = width * 2**stage, 4 * width * 2**stage
        for block in range(depth):
            total += area * channels * narrow
            if stage and not block:
                area //= 4  # the stride of the second convolution, and of the one in the shortcut
            total += area * (9 * narrow * narrow + narrow * wide + (0 if block else channels * wide))
            channels = wide
    return total
