"""Exercise 1.3: where a patch lies."""

import torch

from vitlab.checks.engine import Exercise


def _corner_cases(generator):
    for image_size, patch_size in (((8, 12), 4), ((28, 14), 7), ((6, 20), 2), ((48, 16), 8)):
        number = image_size[0] * image_size[1] // patch_size**2
        inner = torch.randint(1, number - 1, (), generator=generator).item()
        for index in (inner, number - 1):
            yield index, image_size, patch_size


def _corner(index, image_size, patch_size):
    height, width = image_size
    corners = [(top, left) for top in range(0, height, patch_size) for left in range(0, width, patch_size)]
    return corners[index]


def _corner_in_patches(index, image_size, patch_size):
    columns = image_size[1] // patch_size
    return index // columns, index % columns


def _corner_down_the_columns(index, image_size, patch_size):
    rows = image_size[0] // patch_size
    return index % rows * patch_size, index // rows * patch_size


def _corner_by_rows(index, image_size, patch_size):
    rows = image_size[0] // patch_size
    return index // rows * patch_size, index % rows * patch_size


def _corner_as_x_y(index, image_size, patch_size):
    return _corner(index, image_size, patch_size)[::-1]


def _corner_from_one(index, image_size, patch_size):
    columns = image_size[1] // patch_size
    return (index - 1) // columns * patch_size, (index - 1) % columns * patch_size


def _corner_by_pixels(index, image_size, patch_size):
    return index // image_size[1] * patch_size, index % image_size[1] * patch_size


def _corner_by_patch_size(index, image_size, patch_size):
    return index // patch_size * patch_size, index % patch_size * patch_size


def _corner_row_in_patches(index, image_size, patch_size):
    return divmod(index * patch_size, image_size[1])


def _corner_column_in_patches(index, image_size, patch_size):
    top, left = _corner(index, image_size, patch_size)
    return top, left // patch_size


def _centre(index, image_size, patch_size):
    top, left = _corner(index, image_size, patch_size)
    return top + patch_size // 2, left + patch_size // 2


def _last_pixel(index, image_size, patch_size):
    top, left = _corner(index, image_size, patch_size)
    return top + patch_size - 1, left + patch_size - 1


def _next_corner(index, image_size, patch_size):
    top, left = _corner(index, image_size, patch_size)
    return top + patch_size, left + patch_size


def _corner_of_next(index, image_size, patch_size):
    columns = image_size[1] // patch_size
    return (index + 1) // columns * patch_size, (index + 1) % columns * patch_size


def _corner_as_x_y_in_patches(index, image_size, patch_size):
    return _corner_in_patches(index, image_size, patch_size)[::-1]


def _corner_in_a_line(index, image_size, patch_size):
    return _corner(index, image_size, patch_size)[0], index * patch_size


def _corner_by_height(index, image_size, patch_size):
    return index // image_size[0] * patch_size, index % image_size[0] * patch_size


def _corner_by_fractions(index, image_size, patch_size):
    columns = image_size[1] / patch_size
    return index / columns * patch_size, index % columns * patch_size


def _corner_from_below(index, image_size, patch_size):
    top, left = _corner(index, image_size, patch_size)
    return image_size[0] - patch_size - top, left


def _corner_as_x_y_of_rows(index, image_size, patch_size):
    return _corner_by_rows(index, image_size, patch_size)[::-1]


def _corner_row_twice(index, image_size, patch_size):
    return (_corner(index, image_size, patch_size)[0],) * 2


def _corner_column_twice(index, image_size, patch_size):
    return (_corner(index, image_size, patch_size)[1],) * 2


def _corner_rows_for_the_row(index, image_size, patch_size):
    """The row by the number of rows, the column rightly by that of columns."""
    rows = image_size[0] // patch_size
    return index // rows * patch_size, _corner(index, image_size, patch_size)[1]


def _corner_rows_for_the_column(index, image_size, patch_size):
    rows = image_size[0] // patch_size
    return _corner(index, image_size, patch_size)[0], index % rows * patch_size


def _corner_in_squares(index, image_size, patch_size):
    side = int((image_size[0] * image_size[1]) ** 0.5) // patch_size
    return index // side * patch_size, index % side * patch_size


def _corner_row_alone(index, image_size, patch_size):
    return _corner(index, image_size, patch_size)[0]


EXERCISE = Exercise(
    "1.3",
    "where a patch lies",
    cases=_corner_cases,
    oracle=_corner,
    mistakes=[
        (
            _corner_in_patches,
            "this is the place in the grid, counted in patches; in pixels it is P times as much.",
        ),
        (_corner_down_the_columns, "this counts down the columns; patches are counted along the rows."),
        (_corner_by_rows, "this divides by the number of rows; a row of the grid holds W // P patches."),
        (_corner_as_x_y, "this is (column, row); the row comes first."),
        (_corner_from_one, "this counts the patches from 1; the first patch is number 0."),
        (
            _corner_by_pixels,
            "this divides by W, the pixels in a row; a row of the grid holds W // P patches.",
        ),
        (_corner_row_in_patches, "the row is still counted in patches; in pixels it is P times as much."),
        (
            _corner_column_in_patches,
            "the column is still counted in patches; in pixels it is P times as much.",
        ),
        (_centre, "this is the patch's centre; its upper left pixel is asked for."),
        (_last_pixel, "this is the patch's lower right pixel; its upper left one is asked for."),
        (_next_corner, "this is where the next patch begins, diagonally; the upper left pixel is asked for."),
        (_corner_by_patch_size, "this divides by P; a row of the grid holds W // P patches."),
        (_corner_of_next, "this is where the next patch lies; index counts from 0."),
        (_corner_as_x_y_in_patches, "this is (column, row) in patches; the row comes first, in pixels."),
        (_corner_in_a_line, "the column goes on past the edge: it begins anew in each row of the grid."),
        (_corner_by_height, "this divides by H, pixels; a row of the grid holds W // P patches."),
        (_corner_by_fractions, "this divides without a remainder: the row is a whole number, `//`."),
        (_corner_from_below, "rows are counted from below; row 0 of an image is at the top."),
        (_corner_row_twice, "both numbers are the row; the second is the remainder, `%`."),
        (_corner_column_twice, "both numbers are the column; the first is the whole part, `//`."),
        (_corner_rows_for_the_row, "the row is divided by the rows; both are by the columns, W // P."),
        (_corner_rows_for_the_column, "the column is taken by the rows; both are by the columns, W // P."),
        (_corner_in_squares, "the grid is taken for a square; a row of it holds W // P patches."),
        (_corner_row_alone, "this is the row alone; (top, left) are two numbers."),
    ],
)
