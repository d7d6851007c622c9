"""Exercise 2.1: the projection of every patch."""

import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise


def _projection_cases(generator):
    def case(batch, channels, height, width, size, embed_dim):
        shapes = (batch, channels, height, width), (embed_dim, channels, size, size), (embed_dim,)
        return tuple(torch.randn(shape, generator=generator) for shape in shapes)

    yield case(2, 2, 8, 12, 4, 5)
    yield case(3, 4, 6, 2, 2, 7)
    yield case(2, 3, 9, 6, 3, 4)  # fp32 as well: patches cut by `F.unfold(images.float(), ...)` are right
    yield case(2, 1, 4, 8, 4, 6)


def _project(images, weight, bias):
    embed_dim, _, size, _ = weight.shape
    tokens = []
    for top in range(0, images.shape[2], size):
        for left in range(0, images.shape[3], size):
            patch = images[:, :, top : top + size, left : left + size]
            numbers = [(patch * weight[d]).sum(dim=(1, 2, 3)) + bias[d] for d in range(embed_dim)]
            tokens.append(torch.stack(numbers, dim=1))  # (B, D)
    return torch.stack(tokens, dim=1)


def _without_bias(images, weight, bias):
    return _project(images, weight, torch.zeros_like(bias))


def _width_first(images, weight, bias):
    return _project(images, weight, bias).transpose(1, 2)


def _reshaped_to_tokens(images, weight, bias):
    return _width_first(images, weight, bias).reshape(len(images), -1, len(weight))


def _grid_kept(images, weight, bias):
    return F.conv2d(images, weight, bias, stride=weight.shape[-1])


def _stride_one(images, weight, bias):
    return F.conv2d(images, weight, bias).flatten(2).transpose(1, 2)


def _down_the_columns(images, weight, bias):
    return _grid_kept(images, weight, bias).transpose(2, 3).flatten(2).transpose(1, 2)


def _flipped(images, weight, bias):
    return _project(images, weight.flip(2, 3), bias)


def _transposed_kernel(images, weight, bias):
    return _project(images, weight.transpose(2, 3), bias)


def _channels_last(images, weight, bias):
    """The kernel flattened as (C, P, P), the patches as (P, P, C)."""
    embed_dim, channels, size, _ = weight.shape
    mixed = weight.flatten(1).reshape(embed_dim, size, size, channels).permute(0, 3, 1, 2)
    return _project(images, mixed, bias)


def _kernels_reshaped(images, weight, bias):
    """The kernels' matrix reshaped to (P²C, D) instead of transposed."""
    embed_dim, channels, size, _ = weight.shape
    mixed = weight.reshape(-1, embed_dim).T.reshape(embed_dim, channels, size, size)
    return _project(images, mixed, bias)


def _bias_twice(images, weight, bias):
    return _project(images, weight, 2 * bias)


def _new_layer(images, weight, bias):
    embed_dim, channels, size, _ = weight.shape
    layer = torch.nn.Conv2d(channels, embed_dim, size, stride=size)
    return layer(images).flatten(2).transpose(1, 2)


def _size_from_the_channels(images, weight, bias):
    return F.conv2d(images, weight, bias, stride=weight.shape[1]).flatten(2).transpose(1, 2)


def _size_from_the_width(images, weight, bias):
    return F.conv2d(images, weight, bias, stride=weight.shape[0]).flatten(2).transpose(1, 2)


def _steps_of_four(images, weight, bias):
    return F.conv2d(images, weight, bias, stride=4).flatten(2).transpose(1, 2)


def _kernels_not_turned(images, weight, bias):
    """(B, N, P²C) times (D, P²C), which do not fit."""
    size = weight.shape[-1]
    patches = F.unfold(images, size, stride=size).transpose(1, 2).contiguous()
    return patches @ weight.flatten(1) + bias


def _batch_joined(images, weight, bias):
    return _project(images, weight, bias).flatten(0, 1)


def _grid_of_tokens(images, weight, bias):
    return _grid_kept(images, weight, bias).permute(0, 2, 3, 1)


def _tokens_in_front(images, weight, bias):
    return _project(images, weight, bias).transpose(0, 1)


def _bias_subtracted(images, weight, bias):
    return _project(images, weight, -bias)


def _bias_multiplied(images, weight, bias):
    return _without_bias(images, weight, bias) * bias


def _patches_alone(images, weight, bias):
    unfolded = F.unfold(images, weight.shape[2], stride=weight.shape[2])
    return unfolded.transpose(1, 2)


def _cut_by_reshape(images, weight, bias):
    """The images reshaped to (B, N, P²C): runs of pixels instead of patches."""
    embed_dim, channels, size, _ = weight.shape
    return images.reshape(len(images), -1, channels * size**2) @ weight.flatten(1).T + bias


def _first_image_only(images, weight, bias):
    return _project(images[:1], weight, bias)


def _without_bias_on_the_grid(images, weight, bias):
    return F.conv2d(images, weight, stride=weight.shape[-1])


EXERCISE = Exercise(
    "2.1",
    "the projection of every patch",
    cases=_projection_cases,
    oracle=_project,
    mistakes=[
        (_without_bias, "the bias was forgotten: every token gets it."),
        (_width_first, "this is (B, D, N); tokens come first, and each of them is a row of D numbers."),
        (
            _reshaped_to_tokens,
            "a reshape from (B, D, N) to (B, N, D) mixes tokens and widths; swap the axes by transposing.",
        ),
        (
            _grid_kept,
            "the result is still (B, D, rows, columns), an image; make it a sequence, (B, N, D).",
        ),
        (_stride_one, "the windows overlap: this is stride 1, and patches lie side by side, P apart."),
        (_down_the_columns, "the tokens run down the columns; patches are in reading order, row by row."),
        (
            _flipped,
            "the kernel is flipped; in PyTorch, as here, a convolution multiplies without flipping.",
        ),
        (_transposed_kernel, "the kernel is transposed: its last two axes are rows, then columns."),
        (
            _channels_last,
            "patch and kernel are flattened in different orders; both have to be (C, P, P).",
        ),
        (
            _kernels_reshaped,
            "a reshape to (P²C, D) mixes the kernels; flatten each, then transpose: weight.flatten(1).T.",
        ),
        (_bias_twice, "the bias is added twice; `F.conv2d` adds the one that it is given."),
        (
            _new_layer,
            "this is a new layer with random kernels of its own; use the `weight` and `bias` given.",
        ),
        (
            _size_from_the_channels,
            "the step is `weight.shape[1]`, the channels; weight is (D, C, P, P), so P is its last side.",
        ),
        (
            _size_from_the_width,
            "the step is `weight.shape[0]`, the width D; weight is (D, C, P, P), so P is its last side.",
        ),
        (_steps_of_four, "the step is 4 whatever the kernel; weight is (D, C, P, P), so P is its last side."),
        (_kernels_not_turned, "patches (B, N, P²C) meet kernels (D, P²C): turn these, weight.flatten(1).T."),
        (_batch_joined, "the tokens of all images are in one sequence; keep B as the first axis."),
        (
            _grid_of_tokens,
            "the grid is still two axes, (B, rows, columns, D); join them into one of length N.",
        ),
        (_tokens_in_front, "this is (N, B, D): the batch comes first."),
        (_bias_subtracted, "the bias is subtracted; it is added."),
        (_bias_multiplied, "the bias is multiplied; it is added to every token."),
        (_patches_alone, "these are the patches; each has yet to be multiplied with the kernels."),
        (_cut_by_reshape, "a plain reshape takes runs of pixels, not patches; cut the image first."),
        (_first_image_only, "only the first image was projected; do it for all B of them."),
        (
            _without_bias_on_the_grid,
            "this is still an image, (B, D, rows, columns), and the bias was forgotten.",
        ),
    ],
)
