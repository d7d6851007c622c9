"""What a model costs: parameters, and FLOPs of a training step."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitlab.resnet import ResNetConfig
from vitlab.studies import Row
from vitlab.vit import count_parameters

# A training step of it takes 4 % fewer FLOPs than one of the default ViT; it has as many parameters to 1 %.
MATCHED_RESNET = ResNetConfig(width=16, blocks=(1, 1, 1, 1))


def costs(model: nn.Module, shape: tuple[int, int, int] = (1, 28, 28)) -> Row:
    """Parameters, and millions of FLOPs that one image costs in training."""
    flops = training_flops(model, shape)
    return dict(parameters=count_parameters(model), mflops_per_image=round(flops / 1e6, 1))


def training_flops(model: nn.Module, shape: tuple[int, int, int] = (1, 28, 28)) -> int:
    """Floating-point operations of a step on one image (C, H, W), forward and back, as PyTorch counts.

    >>> training_flops(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))  # 2 x 7,840 for each of two products
    31360
    """
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape)).sum().backward()
    model.zero_grad()
    return counter.get_total_flops()
