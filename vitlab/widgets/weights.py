"""Whether a model has other weights than before: what an explorer keeps of its answers is then of no use."""

from itertools import chain

import torch
from torch import Tensor, nn

SAMPLED = 256  # numbers of each weight, evenly spread over it


def weights_mark(model: nn.Module) -> tuple:
    """What is the same as long as a model's weights and buffers are; made in microseconds for each of them.

    Of each it has the place in memory, how often PyTorch has changed it, and some of its numbers: those see
    what PyTorch does not count, such as changes through `weight.data`, where these concern more than a few.

    >>> model = nn.Linear(2, 2)
    >>> before = weights_mark(model)
    >>> with torch.no_grad():
    ...     _ = model.bias.add_(1)
    >>> weights_mark(model) == before
    False
    """
    return tuple(_mark(tensor) for tensor in chain(model.parameters(), model.buffers()))


def _mark(tensor: Tensor) -> tuple:
    counted = 0 if tensor.is_inference() else tensor._version
    if type(tensor) not in (Tensor, nn.Parameter):  # such as a quantised one, of which nobody knows the place
        return id(tensor), counted
    flat = tensor.detach().reshape(-1)
    some = flat[:: max(1, len(flat) // SAMPLED)].contiguous().cpu()
    return tensor.data_ptr(), counted, some.view(torch.uint8).numpy().tobytes()
