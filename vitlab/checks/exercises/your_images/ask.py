"""Exercise 7.4: a map that can be asked about a class."""

import math

import torch

from vitlab.checks.engine import Exercise


def _asked_cases(generator):
    for batch, heads, grid in ((2, 3, (3, 4)), (3, 4, (5, 2)), (2, 2, (2, 4))):
        shape = (batch, heads, 1 + math.prod(grid), 1 + math.prod(grid))
        attention = torch.randn(shape, generator=generator).mul(2).softmax(dim=-1)
        yield attention, torch.randn(shape, generator=generator), grid


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
        (
            _asked_own_entry_kept,
            "the class token's own entry is still there, one number more than patches; take [:, 0, 1:].",
        ),
    ],
)
