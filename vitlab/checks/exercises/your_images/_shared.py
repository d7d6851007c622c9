"""What several exercises of lesson 07 share."""

import torch


def random_bytes(generator, *shape):
    """Pixels, uint8."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
