"""What a softmax does to the scores of wide heads, against loops and the formula of its derivative."""

import math

import pytest
import torch

from vitlab.pretraining import through_softmax


@pytest.mark.parametrize(("width", "scale", "seed"), [(4, 0.5, 0), (16, 1.0, 1), (64, 1.0, 2)])
def test_tokens_and_gradient_are_those_of_loops(width, scale, seed):
    count = 9
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, count, width, generator=generator)
    above = torch.randn(count, count, generator=generator).tolist()
    entropies, lengths = [], []
    for i in range(count):
        exps = [
            math.exp(scale * sum(a * b for a, b in zip(q[i].tolist(), key, strict=True)))
            for key in k.tolist()
        ]
        weights = [each / sum(exps) for each in exps]
        entropies.append(-sum(weight * math.log(weight) for weight in weights))
        mean = sum(weight * g for weight, g in zip(weights, above[i], strict=True))
        back = [weight * (g - mean) for weight, g in zip(weights, above[i], strict=True)]
        lengths.append(math.sqrt(sum(each**2 for each in back)))
    found = through_softmax(width, scale, seed, tokens=count)
    assert found.tokens == pytest.approx(math.exp(sum(entropies) / count), rel=1e-5)
    assert found.gradient == pytest.approx(sorted(lengths)[count // 2], rel=1e-4)


def test_without_the_scale_wide_heads_choose_one_token_and_let_nothing_back():
    scaled, plain = through_softmax(1024, 1024**-0.5), through_softmax(1024, 1.0)
    assert scaled.tokens > 50 > 2 > plain.tokens >= 1
    assert plain.gradient < 0.1 * scaled.gradient
