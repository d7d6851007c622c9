"""Exercise 7.4: a map that can be asked about a class."""

import math

import torch

from vitlab.checks.engine import Exercise


def _asked_cases(generator):
    for batch, heads, grid in ((2, 3, (3, 4)), (3, 4, (5, 2)), (2, 2, (2, 4))):
        shape = (batch, heads, 1 + math.prod(grid), 1 + math.prod(grid))
        attention = torch.randn(shape, generator=generator).mul(2).softmax(dim=-1)
        yield attention, 5 * torch.randn(shape, generator=generator), grid  # products go beyond 1


def _asked_map(attention, gradient, grid_size):
    batch, heads, _, _ = attention.shape
    rows, columns = grid_size
    result = attention.new_zeros(batch, rows, columns)
    for b in range(batch):
        for row in range(rows):
            for column in range(columns):
                token = 1 + row * columns + column
                for head in range(heads):
                    product = attention[b, head, 0, token] * gradient[b, head, 0, token]
                    if product > 0:
                        result[b, row, column] += product / heads
    return result


def _on_grid(line, grid_size):
    return line.unflatten(-1, grid_size)


def _asked_signed(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].mean(1), grid_size)


def _asked_clamped_late(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].mean(1).clamp(min=0), grid_size)


def _asked_absolute(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].abs().mean(1), grid_size)


def _asked_attention_alone(attention, gradient, grid_size):
    return _on_grid(attention[:, :, 0, 1:].mean(1), grid_size)


def _asked_gradient_alone(attention, gradient, grid_size):
    return _on_grid(gradient[:, :, 0, 1:].clamp(min=0).mean(1), grid_size)


def _asked_column(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 1:, 0].clamp(min=0).mean(1), grid_size)


def _asked_shifted(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, :-1].clamp(min=0).mean(1), grid_size)


def _asked_sum(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(min=0).sum(1), grid_size)


def _asked_means_first(attention, gradient, grid_size):
    product = attention[:, :, 0, 1:].mean(1) * gradient[:, :, 0, 1:].mean(1)
    return _on_grid(product.clamp(min=0), grid_size)


def _asked_turned(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(min=0).mean(1), grid_size[::-1])


def _asked_matrix_product(attention, gradient, grid_size):
    return _on_grid((attention @ gradient)[:, :, 0, 1:].clamp(min=0).mean(1), grid_size)


def _asked_of_all_rows(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 1:, 1:].clamp(min=0).mean((1, 2)), grid_size)


def _asked_positive_heads_alone(attention, gradient, grid_size):
    product = (attention * gradient)[:, :, 0, 1:]
    kept = product > 0
    return _on_grid((product * kept).sum(1) / kept.sum(1).clamp(min=1), grid_size)


def _asked_strongest(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(min=0).amax(1), grid_size)


def _asked_first_head(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, 0, 0, 1:].clamp(min=0), grid_size)


def _asked_added(attention, gradient, grid_size):
    return _on_grid((attention + gradient)[:, :, 0, 1:].clamp(min=0).mean(1), grid_size)


def _asked_against(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(max=0).mean(1), grid_size)


def _asked_against_positive(attention, gradient, grid_size):
    return -_asked_against(attention, gradient, grid_size)


def _positive(attention, gradient):
    """What all tokens' rows have, heads averaged: (B, T, T)."""
    return (attention * gradient).clamp(min=0).mean(1)


def _asked_cut_at_one(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(0, 1).mean(1), grid_size)


def _asked_last_token(attention, gradient, grid_size):
    return _on_grid(_positive(attention, gradient)[:, -1, :-1], grid_size)


def _asked_first_patch(attention, gradient, grid_size):
    return _on_grid(_positive(attention, gradient)[:, 1, 1:], grid_size)


def _asked_all_tokens(attention, gradient, grid_size):
    return _on_grid(_positive(attention, gradient)[:, :, 1:].mean(1), grid_size)


def _asked_mean_gradient(attention, gradient, grid_size):
    return _on_grid(_positive(attention, gradient.mean((2, 3), keepdim=True))[:, 0, 1:], grid_size)


def _asked_over_images(attention, gradient, grid_size):
    return _on_grid((attention * gradient).clamp(min=0).mean(0)[:, 0, 1:], grid_size)


def _asked_first_image(attention, gradient, grid_size):
    return _asked_map(attention, gradient, grid_size)[0]


def _asked_down_columns(attention, gradient, grid_size):
    return _on_grid(_positive(attention, gradient)[:, 0, 1:], grid_size[::-1]).mT


def _asked_as_a_square(attention, gradient, grid_size):
    side = math.isqrt(math.prod(grid_size))
    return _positive(attention, gradient)[:, 0, 1:].reshape(-1, side, side)


def _asked_of_this_lesson(attention, gradient, grid_size):
    return _positive(attention, gradient)[:, 0, 1:].reshape(-1, 12, 12)


def _asked_row_sums_to_one(attention, gradient, grid_size):
    row = _positive(attention, gradient)[:, 0]
    return _on_grid((row / row.sum(1, keepdim=True))[:, 1:], grid_size)


def _asked_map_sums_to_one(attention, gradient, grid_size):
    row = _positive(attention, gradient)[:, 0, 1:]
    return _on_grid(row / row.sum(1, keepdim=True), grid_size)


def _asked_softmax_again(attention, gradient, grid_size):
    return _on_grid(_positive(attention.softmax(-1), gradient)[:, 0, 1:], grid_size)


def _asked_softmax_after(attention, gradient, grid_size):
    return _on_grid(_positive(attention, gradient).softmax(-1)[:, 0, 1:], grid_size)


def _asked_median(attention, gradient, grid_size):
    return _on_grid((attention * gradient).clamp(min=0).median(1).values[:, 0, 1:], grid_size)


def _asked_squares(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].square().mean(1), grid_size)


def _asked_divided(attention, gradient, grid_size):
    return _on_grid((attention / gradient)[:, :, 0, 1:].clamp(min=0).mean(1), grid_size)


def _asked_of_no_heads(attention, gradient, grid_size):
    product = (attention * gradient)[:, :, 0, 1:].clamp(min=0)
    return _on_grid(product.sum(1) / (product > 0).sum(1), grid_size)


def _asked_flat(attention, gradient, grid_size):
    return (attention * gradient)[:, :, 0, 1:].clamp(min=0).mean(1)


def _asked_own_entry_kept(attention, gradient, grid_size):
    rows, columns = grid_size
    return (attention * gradient).clamp(min=0).mean(dim=1)[:, 0].reshape(-1, rows, columns)


EXERCISE = Exercise(
    "7.4",
    "a map that can be asked about a class",
    cases=_asked_cases,
    oracle=_asked_map,
    mistakes=[
        (_asked_signed, "negative products are still in it; only what speaks for the class is wanted."),
        (_asked_clamped_late, "the heads are averaged first, and cancel; drop negatives head by head."),
        (_asked_absolute, "this takes absolute values; what is negative speaks against the class."),
        (_asked_attention_alone, "the gradient is not used, so no class was asked about."),
        (_asked_gradient_alone, "the attention is not used; weigh the gradient with it."),
        (_asked_column, "this is the class token's column; its row is what it takes in."),
        (_asked_shifted, "the row is cut at the wrong end: token 0 is the class token itself."),
        (_asked_sum, "the heads are summed; their mean is wanted."),
        (_asked_means_first, "the heads are averaged before multiplying; multiply head by head."),
        (_asked_turned, "rows and columns of the grid are swapped: grid_size is (rows, columns)."),
        (_asked_matrix_product, "`@` is the matrix product; multiply entry by entry, with `*`."),
        (_asked_strongest, "the heads' maximum is taken; their mean is wanted."),
        (_asked_first_head, "this is the first head alone; average over all of them."),
        (_asked_added, "attention and gradient are added; multiply them."),
        (_asked_against, "what is negative is kept; keep what is positive."),
        (_asked_against_positive, "this is what speaks against the class; keep what is positive."),
        (_asked_flat, "the patches are still in a line; lay them out on the grid."),
        (
            _asked_of_all_rows,
            "this is the mean over the patches' rows; the class token's, row 0, is wanted.",
        ),
        (
            _asked_positive_heads_alone,
            "the mean is over the positive heads alone; a negative one counts as 0 in the mean of all.",
        ),
        (_asked_cut_at_one, "what is above 1 is cut as well; only what is below 0 is."),
        (_asked_last_token, "this is the last token's row; the class token is token 0."),
        (_asked_first_patch, "this is the first patch's row; the class token is token 0."),
        (_asked_all_tokens, "this is the mean over all tokens' rows; the class token's, row 0, is wanted."),
        (
            _asked_mean_gradient,
            "one mean gradient weighs a whole head, as in Grad-CAM; multiply entry by entry.",
        ),
        (_asked_over_images, "the mean is over the images; heads are axis 1."),
        (_asked_first_image, "this is the first image's map alone."),
        (_asked_down_columns, "the patches are laid down the columns; they go row by row."),
        (_asked_as_a_square, "the grid is taken for a square; it is `grid_size`."),
        (_asked_of_this_lesson, "the grid is 12 × 12 whatever is asked for; it is `grid_size`."),
        (_asked_row_sums_to_one, "the row is divided by its sum; leave it as it is."),
        (_asked_map_sums_to_one, "the map is divided by its sum; leave it as it is."),
        (_asked_softmax_again, "another softmax is taken of the weights; they are after it already."),
        (_asked_softmax_after, "a softmax is taken of the rows; leave the products as they are."),
        (_asked_median, "the heads' median is taken; their mean is wanted."),
        (_asked_squares, "the products are squared; keep what is positive as it is."),
        (_asked_divided, "attention is divided by the gradient; multiply them."),
        (
            _asked_of_no_heads,
            "the mean is over the positive heads alone, 0 / 0 where there is none; take it over all heads.",
        ),
        (
            _asked_own_entry_kept,
            "the class token's own entry is still there, one number more than patches; take [:, 0, 1:].",
        ),
    ],
)
