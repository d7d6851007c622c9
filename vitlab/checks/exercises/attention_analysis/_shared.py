"""What several exercises of lesson 06 share: attention drawn at random, and the steps of a rollout."""

import torch


def softmaxed(generator, *shape):
    """Rows that sum to 1, some of them sharp."""
    return torch.randn(*shape, generator=generator).mul(2).softmax(dim=-1)


def product(steps, reverse=False):
    """The steps (L, B, T, T) multiplied, the last leftmost."""
    joint = steps[0]
    for step in steps[1:]:
        joint = joint @ step if reverse else step @ joint
    return joint


def halved(fused):
    """½A + ½I."""
    return (fused + torch.eye(fused.shape[-1], dtype=fused.dtype)) / 2


def rows_to_one(maps):
    """Each row divided by its sum."""
    return maps / maps.sum(dim=-1, keepdim=True)
