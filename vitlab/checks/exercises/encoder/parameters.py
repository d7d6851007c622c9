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
        projection = nn.Conv2d(channels, embed_dim, patch_size, patch_size)
        block = nn.TransformerEncoderLayer(embed_dim, nhead=1, dim_feedforward=mlp_dim)
        layers = [projection, *[block] * depth, nn.LayerNorm(embed_dim), nn.Linear(embed_dim, num_classes)]
        grid = projection(torch.empty(channels, *image_size)).flatten(1).T
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


def _patches_of_p(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    sizes = image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim
    return _vit_parameters(*sizes) - channels * (patch_size**2 - patch_size) * embed_dim


def _divided_once(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    height, width = image_size
    sizes = image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim
    number = (height // patch_size) * (width // patch_size)
    return _vit_parameters(*sizes) + (height * width // patch_size - number) * embed_dim


def _as_square(image_size, *sizes):
    return _vit_parameters((image_size[0], image_size[0]), *sizes)


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
            "D are missing: the class token, its row of the positions, the bias of the patch projection, or "
            "half of the final norm.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: 2 * d),
            "2D are missing: the final norm, or two of these: class token, its row of the positions, bias of "
            "the patch projection.",
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
            "2D per block are missing: one norm per block, half of both, or the biases of proj and fc2.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * d * (d + 1)),
            "a D × D matrix and its bias are missing in every block: `proj`, which mixes the heads after "
            "attention, or one of queries, keys and values.",
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
            "(2 · depth + 1)·D are missing, as where a norm is counted as D numbers; it has 2D.",
        ),
        (_grey_patches, "the channels are left out: a patch has P²C numbers."),
        (_mlp_four_times_as_wide, "the MLP is taken to be 4D wide; its width is mlp_dim."),
        (
            _without(lambda n, p, c, depth, d, m: depth * (5 * d + m)),
            "the biases of the blocks are missing: 3D of qkv, D of proj, mlp_dim of fc1 and D of fc2.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * (4 * d)),
            "4D per block are missing: its two norms, or the biases of qkv and proj.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * (d + m)),
            "the biases of the MLP are missing: mlp_dim of fc1 and D of fc2, in every block.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * m),
            "the bias of fc1, mlp_dim, is missing in every block.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * (d - m)),
            "the bias of fc2 is counted as mlp_dim numbers; it has D, one per output.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: -4 * depth * n * d),
            "a block's norms are counted once for each token; all tokens share their two vectors.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: -n * d * c),
            "the head reads all tokens; it reads one, and has D × classes weights.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * d),
            "D per block are missing: the bias of proj or of fc2, or half of a norm.",
        ),
        (_without(lambda n, p, c, depth, d, m: c), "the bias of the head is missing, one number per class."),
        (
            _without(lambda n, p, c, depth, d, m: d + c),
            "D + classes are missing: the head's bias, and that of the patch projection or the class token.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: n * d),
            "N·D are missing: every patch has a row of the positions, D numbers.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (n + 2) * d),
            "class token and position embeddings are missing, (N + 2)·D together.",
        ),
        (_without(lambda n, p, c, depth, d, m: -d), "D are too many: a token, row or bias is added twice."),
        (
            _without(lambda n, p, c, depth, d, m: depth * (d + 1) * m),
            "fc1 is missing: the MLP has two matrices, D × mlp_dim and mlp_dim × D.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * (m + 1) * d),
            "fc2 is missing: the MLP has two matrices, D × mlp_dim and mlp_dim × D.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * (2 * d * m + d + m)),
            "the MLP is missing: D × mlp_dim and mlp_dim × D, each with its bias.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: depth * 2 * d * (d + 1)),
            "two D × D matrices are missing in every block: queries, keys, values and proj are four.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: -(4 * depth + 2) * d),
            "a norm is counted as 4D numbers; a LayerNorm has a scale and a shift, and counts nothing up.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (n + 1) * (d - p)),
            "a row of the positions is counted as P²C numbers; it is added to tokens, and has D.",
        ),
        (
            _without(lambda n, p, c, depth, d, m: (depth - 1) * (4 * d * d + 9 * d + 2 * d * m + m) + 2 * d),
            "one block is counted; there are `depth` of them, and a norm after the last.",
        ),
        (_patches_of_p, "a patch is taken to have P·C numbers; it has P²C."),
        (_divided_once, "this divides by P once; both sides are cut, so N = (H / P)·(W / P)."),
        (_as_square, "this takes the image for a square; image_size is (H, W)."),
    ],
    tolerance=0,
)
