"""Attention without its scale: what a softmax makes of large scores, and what comes back through it."""

from typing import NamedTuple

import torch


class Passage(NamedTuple):
    """Of a softmax: the tokens over which it spreads its weights, and the length of a query's gradient."""

    tokens: float
    gradient: float


def through_softmax(width: int, scale: float, seed: int = 0, tokens: int = 197) -> Passage:
    """Random queries and keys of one width, their products times `scale`, and a softmax: what it does.

    `tokens` of the result is e to the weights' mean entropy: among so many tokens weights shared evenly would
    be as uncertain. `gradient` is how long, for the median query, random gradients of length about
    sqrt(tokens) have become on their way back to the scores.

    >>> round(through_softmax(width=8, scale=0.0, tokens=5).tokens, 6)  # all scores alike: an even share
    5.0
    """
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, tokens, width, generator=generator)
    scores = (scale * q @ k.T).double().requires_grad_()  # (T, T)
    weights = scores.softmax(dim=-1)
    entropy = torch.special.entr(weights).sum(dim=-1).mean()
    above = torch.randn(tokens, tokens, generator=generator).double()
    (gradient,) = torch.autograd.grad(weights, scores, above)
    return Passage(entropy.exp().item(), gradient.norm(dim=-1).median().item())
