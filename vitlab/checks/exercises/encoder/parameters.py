"""Exercise 3.4: every parameter by formula."""

import torch
from torch import nn

from vitlab.checks.engine import Exercise


def _size_cases(generator):
    yield (28, 28), 4, 1, 10, 4, 96, 192
    yield (32, 48), 8, 3, 7, 2, 24, 40
    yield (224, 224), 16, 3, 1000, 12, 768, 3072
    depth, width, mlp_dim = torch.randint(2, 9, (3,), generator=generator).tolist()
    yield (18, 30), 6, 5, 4, depth, 12 * width, 10 * mlp_dim


def _vit_parameters(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    """PyTorch's own layers, counted."""
    with torch.device("meta"):
        layers = [nn.Conv2d(channels, embed_dim, patch_size, patch_size)]
        layers += [
            nn.TransformerEncoderLayer(embed_dim, nhead=1, dim_feedforward=mlp_dim) for _ in range(depth)
        ]
        layers += [nn.LayerNorm(embed_dim), nn.Linear(embed_dim, num_classes)]
        grid = layers[0](torch.empty(channels, *image_size)).flatten(1).T
        tokens = [torch.empty(embed_dim), torch.empty(len(grid) + 1, embed_dim)]
    return sum(p.numel() for layer in layers for p in layer.parameters()) + sum(t.numel() for t in tokens)


def _without(leave_out):
    """The count without what `leave_out(N, P²C, classes, depth, D, mlp_dim)` says."""

    def count(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
        whole = _vit_parameters(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim)
        number = (image_size[0] // patch_size) * (image_size[1] // patch_size)
        return whole - leave_out(number, channels * patch_size**2, num_classes, depth, embed_dim, mlp_dim)

    return count


def _grey_patches(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    return _vit_parameters(image_size, patch_size, 1, num_classes, depth, embed_dim, mlp_dim)


def _mlp_four_times_as_wide(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    return _vit_parameters(image_size, patch_size, channels, num_classes, depth, embed_dim, 4 * embed_dim)


EXERCISE = Exercise(
    "3.4",
    "every parameter by formula",
    cases=_size_cases,
    oracle=_vit_parameters,
    mistakes=[
        (
            _without(lambda n, p, c, depth, d, m: d + depth * (5 * d + m) + c),
            "the biases are missing: every linear layer has one number more per output, qkv 3D of them.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * 3 * d),
            "the bias of qkv is missing, 3D in every block.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: d),
            "D are missing: the class token, or its position's row.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: 2 * d),
            "2D are missing: the final norm, or the class token and its row of the positions.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (n + 1) * d),
            "the position embeddings are missing, (N + 1)·D.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (4 * depth + 2) * d),
            "the norms are missing: two in every block and one at the end, 2D each.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: 2 * depth * d),
            "one norm per block is missing: each of its two has a scale and a shift, D numbers both.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * d * (d + 1)),
            "`proj` is missing, the D × D matrix that mixes the heads after attention.",
        ),
        (_without(lambda n, p, c, depth, d, m: d * c + c), "the head is missing, (D + 1) · classes."),
        (
            _without(lambda n, p, c, depth, d, m: (p + 1) * d),
            "the patch projection is missing, (P²C + 1)·D.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (1 - n) * (p + 1) * d),
            "each patch has a projection of its own; one serves all N.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (depth - 1) * (4 * d * d + 9 * d + 2 * d * m + m)),
            "one block is counted; there are `depth` of them.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (2 * depth + 1) * d),
            "a norm is counted as D numbers; it has 2D, a scale and a shift.",
        ),
        (_grey_patches, "the channels are left out: a patch has P²C numbers."),
        (_mlp_four_times_as_wide, "the MLP is taken to be 4D wide; its width is mlp_dim."),
    ],
    tolerance=0,
)
