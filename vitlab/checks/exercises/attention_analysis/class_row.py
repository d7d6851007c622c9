"""Exercise 6.1: the class token's row on a grid."""

from vitlab.checks.engine import Exercise
from vitlab.checks.exercises.attention_analysis._shared import rows_to_one, softmaxed


def _row_cases(generator):
    yield softmaxed(generator, 2, 3, 13, 13), (3, 4)
    yield softmaxed(generator, 3, 4, 11, 11), (5, 2)
    yield softmaxed(generator, 2, 2, 9, 9), (2, 4)


def _class_row(attention, grid_size):
    batch, heads, _, _ = attention.shape
    rows, columns = grid_size
    shown = attention.new_zeros(batch, rows, columns)
    for b in range(batch):
        for row in range(rows):
            for column in range(columns):
                token = 1 + row * columns + column
                shown[b, row, column] = sum(attention[b, head, 0, token] for head in range(heads)) / heads
    return shown


def _class_column(attention, grid_size):
    return attention[:, :, 1:, 0].mean(1).unflatten(-1, grid_size)


def _class_row_shifted(attention, grid_size):
    return attention[:, :, 0, :-1].mean(1).unflatten(-1, grid_size)


def _class_row_grid_swapped(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1).unflatten(-1, grid_size[::-1])


def _class_row_down_the_columns(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1).unflatten(-1, grid_size[::-1]).transpose(1, 2)


def _class_row_head_sum(attention, grid_size):
    return attention[:, :, 0, 1:].sum(1).unflatten(-1, grid_size)


def _class_row_heads_kept(attention, grid_size):
    return attention[:, :, 0, 1:].unflatten(-1, grid_size)


def _class_row_one_head(attention, grid_size):
    return attention[:, 0, 0, 1:].unflatten(-1, grid_size)


def _own_entry_kept(attention, grid_size):
    line = attention[:, :, 0].mean(1)
    return line.reshape(len(line), *grid_size)


def _own_entry_kept_by_minus_one(attention, grid_size):
    return attention[:, :, 0].mean(1).reshape(-1, *grid_size)


def _class_row_maximum(attention, grid_size):
    return attention[:, :, 0, 1:].amax(1).unflatten(-1, grid_size)


def _class_row_renormalised(attention, grid_size):
    return rows_to_one(attention[:, :, 0, 1:].mean(1)).unflatten(-1, grid_size)


def _first_head_all_rows(attention, grid_size):
    return attention[:, 0, :, 1:].mean(1).unflatten(-1, grid_size)


def _all_rows(attention, grid_size):
    return attention[:, :, :, 1:].mean((1, 2)).unflatten(-1, grid_size)


def _class_row_softmax(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1).softmax(-1).unflatten(-1, grid_size)


def _class_row_of_its_largest(attention, grid_size):
    line = attention[:, :, 0, 1:].mean(1)
    return (line / line.amax(1, keepdim=True)).unflatten(-1, grid_size)


def _first_patch_row(attention, grid_size):
    return attention[:, :, 1, 1:].mean(1).unflatten(-1, grid_size)


def _class_row_flat(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1)


EXERCISE = Exercise(
    "6.1",
    "the class token's row on a grid",
    cases=_row_cases,
    oracle=_class_row,
    mistakes=[
        (
            _class_column,
            "this is the class token's column, who looks at it; its row is what it looks at.",
        ),
        (_class_row_shifted, "the row is cut at the wrong end: token 0 is the class token itself."),
        (
            _class_row_grid_swapped,
            "rows and columns of the grid are swapped: grid_size is (rows, columns).",
        ),
        (
            _class_row_down_the_columns,
            "the patches are laid down the columns; they go along the rows, as one reads.",
        ),
        (
            _own_entry_kept,
            "the class token's own entry is still there, one more than the grid has places.",
        ),
        (
            _own_entry_kept_by_minus_one,
            "the class token's own entry is still in the row, so it does not fill grids: leave it out.",
        ),
        (_class_row_maximum, "the heads' maximum is taken; their mean is wanted."),
        (
            _class_row_renormalised,
            "the row is made to sum to 1 again; leave the weights as they are.",
        ),
        (
            _first_head_all_rows,
            "index 0 stands on the heads' axis: this is the first head, averaged over queries.",
        ),
        (_class_row_head_sum, "the heads are summed; their mean is wanted."),
        (_class_row_heads_kept, "the heads are still there; average over them."),
        (_class_row_one_head, "this is the first head alone; average over all of them."),
        (_all_rows, "this averages the rows of all tokens; only the class token's, row 0, is wanted."),
        (_class_row_softmax, "the row has been through its softmax; leave the weights as they are."),
        (_class_row_of_its_largest, "the row is divided by its largest weight; leave it as it is."),
        (_first_patch_row, "this is row 1, the first patch's; the class token is token 0."),
        (_class_row_flat, "the patches are still in a line; lay them out on the grid."),
    ],
)
