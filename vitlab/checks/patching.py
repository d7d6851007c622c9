"""Lesson 01, patching: exercises 1.1–1.4 and predictions 1.a–1.e."""

import math

import torch

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction, Question

# ---------------------------------------------------------------------------------------- 1.1 patchify


def _image_cases(generator):
    def images(*shape, dtype=torch.float32):
        return torch.randn(*shape, dtype=dtype, generator=generator)

    yield images(2, 2, 8, 12), 4
    yield images(3, 3, 6, 4), 2
    yield images(2, 4, 9, 6, dtype=torch.float64), 3
    yield images(2, 1, 4, 8), 2


def _patchify(images, patch_size):
    batch, _, height, width = images.shape
    return torch.stack([
        torch.stack([
            images[b, :, top : top + patch_size, left : left + patch_size].flatten()
            for top in range(0, height, patch_size)
            for left in range(0, width, patch_size)
        ])
        for b in range(batch)
    ])  # fmt: skip


def _axes(images, patch_size):
    """(B, C, rows, P, columns, P): the image with its two sides cut, nothing moved yet."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    return images.reshape(batch, channels, rows, patch_size, columns, patch_size)


def _channels_last(images, patch_size):
    return _axes(images, patch_size).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _down_the_columns(images, patch_size):
    return _axes(images, patch_size).permute(0, 4, 2, 1, 3, 5).flatten(3).flatten(1, 2)


def _transposed_inside(images, patch_size):
    return _axes(images, patch_size).permute(0, 2, 4, 1, 5, 3).flatten(3).flatten(1, 2)


def _channels_apart(images, patch_size):
    patches = _axes(images, patch_size).transpose(3, 4)  # (B, C, rows, columns, P, P)
    return patches.reshape(len(images), -1, images.shape[1] * patch_size**2)


def _runs_of_pixels(images, patch_size):
    batch, channels, height, width = images.shape
    return images.reshape(batch, height * width // patch_size**2, channels * patch_size**2)


def _sides_swapped(images, patch_size):
    batch, channels, height, width = images.shape
    rows, columns = width // patch_size, height // patch_size
    cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _batch_merged(images, patch_size):
    return _patchify(images, patch_size).flatten(0, 1)


def _first_image_only(images, patch_size):
    return _patchify(images, patch_size)[0]


def _pixels_first(images, patch_size):
    return _patchify(images, patch_size).transpose(1, 2)


def _split_the_wrong_way(images, patch_size):
    """The einops pattern with (p h) (q w): each patch takes pixels from all over the image."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    split = images.reshape(batch, channels, patch_size, rows, patch_size, columns)
    return split.permute(0, 3, 5, 1, 2, 4).flatten(3).flatten(1, 2)


def _grid_kept(images, patch_size):
    return _axes(images, patch_size).permute(0, 2, 4, 1, 3, 5).flatten(3)


# ---------------------------------------------------------------------------------------- 1.2 unpatchify


def _patch_cases(generator):
    def patches(batch, channels, size, image_size, dtype=torch.float32):
        number = image_size[0] * image_size[1] // size**2
        made = torch.randn(batch, number, channels * size**2, dtype=dtype, generator=generator)
        return made, size, image_size, channels

    yield patches(2, 2, 4, (8, 12))
    yield patches(2, 3, 2, (4, 16))
    yield patches(3, 4, 3, (9, 6), dtype=torch.float64)
    yield patches(2, 1, 2, (2, 8))


def _unpatchify(patches, patch_size, image_size, channels):
    height, width = image_size
    images = patches.new_zeros(patches.shape[0], channels, height, width)
    places = [(top, left) for top in range(0, height, patch_size) for left in range(0, width, patch_size)]
    for b in range(patches.shape[0]):
        for i, (top, left) in enumerate(places):
            for c in range(channels):
                for y in range(patch_size):
                    for x in range(patch_size):
                        entry = c * patch_size**2 + y * patch_size + x
                        images[b, c, top + y, left + x] = patches[b, i, entry]
    return images


def _fold(patches, grid, inside, order, image_size, channels):
    """View the patches as (B, *grid, *inside), permute to `order`, join: three places for a mistake."""
    return patches.reshape(patches.shape[0], *grid, *inside).permute(order).reshape(-1, channels, *image_size)


def _grid(image_size, patch_size):
    return image_size[0] // patch_size, image_size[1] // patch_size


def _folded_channels_last(patches, patch_size, image_size, channels):
    inside = (patch_size, patch_size, channels)
    return _fold(patches, _grid(image_size, patch_size), inside, (0, 5, 1, 3, 2, 4), image_size, channels)


def _folded_down_the_columns(patches, patch_size, image_size, channels):
    inside = (channels, patch_size, patch_size)
    grid = _grid(image_size, patch_size)[::-1]
    return _fold(patches, grid, inside, (0, 3, 2, 4, 1, 5), image_size, channels)


def _folded_transposed_inside(patches, patch_size, image_size, channels):
    inside = (channels, patch_size, patch_size)
    return _fold(patches, _grid(image_size, patch_size), inside, (0, 3, 1, 5, 2, 4), image_size, channels)


def _folded_nothing_moved(patches, patch_size, image_size, channels):
    return patches.reshape(-1, channels, *image_size)


def _folded_sides_swapped(patches, patch_size, image_size, channels):
    return _unpatchify(patches, patch_size, image_size[::-1], channels)


def _folded_grid_guessed(patches, patch_size, image_size, channels):
    side = math.isqrt(patches.shape[1])
    square = (side * patch_size, side * patch_size)
    return _unpatchify(patches[:, : side * side], patch_size, square, channels)


def _folded_joined_the_wrong_way(patches, patch_size, image_size, channels):
    """The einops pattern with (p h) (q w): the pixels of each patch are spread all over the image."""
    inside = (channels, patch_size, patch_size)
    return _fold(patches, _grid(image_size, patch_size), inside, (0, 3, 4, 1, 5, 2), image_size, channels)


def _folded_channels_at_the_end(patches, patch_size, image_size, channels):
    return _unpatchify(patches, patch_size, image_size, channels).permute(0, 2, 3, 1)


# ---------------------------------------------------------------------------------------- 1.3 patch_corner


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


# ---------------------------------------------------------------------------------------- 1.4 count


def _count_cases(generator):
    yield from (((28, 28), 4, 1), ((32, 48), 8, 2), ((224, 224), 16, 4))
    rows, columns = torch.randint(2, 9, (2,), generator=generator).tolist()
    yield (rows * 6, (rows + columns) * 6), 6, 5


def _count(image_size, patch_size, channels):
    height, width = image_size
    number = sum(1 for _ in range(0, height, patch_size) for _ in range(0, width, patch_size))
    length = sum(1 for _ in range(channels) for _ in range(patch_size) for _ in range(patch_size))
    tokens = number + 1
    return number, length, tokens * tokens


def _count_without_class_token(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    return number, length, number**2


def _count_one_side(image_size, patch_size, channels):
    number, _, entries = _count(image_size, patch_size, channels)
    return number, patch_size * channels, entries


def _count_without_channels(image_size, patch_size, channels):
    number, _, entries = _count(image_size, patch_size, channels)
    return number, patch_size**2, entries


def _count_divided_once(image_size, patch_size, channels):
    number = image_size[0] * image_size[1] // patch_size
    return number, channels * patch_size**2, (number + 1) ** 2


def _count_as_square(image_size, patch_size, channels):
    number = (image_size[0] // patch_size) ** 2
    return number, channels * patch_size**2, (number + 1) ** 2


def _count_tokens(image_size, patch_size, channels):
    number, length, entries = _count(image_size, patch_size, channels)
    return number + 1, length, entries


def _count_per_token(image_size, patch_size, channels):
    number, length, _ = _count(image_size, patch_size, channels)
    return number, length, number + 1


EXERCISES = [
    Exercise(
        "1.1",
        "patchify with loops",
        cases=_image_cases,
        oracle=_patchify,
        mistakes=[
            (
                _channels_last,
                "this is the (P, P, C) order; inside a patch the channels come first: (C, P, P).",
            ),
            (_down_the_columns, "the patches run down the columns; they run along the rows, as one reads."),
            (_transposed_inside, "each patch is transposed: inside a patch too, rows come before columns."),
            (
                _channels_apart,
                "the channel axis is still in front of the grid; move it behind, so that a patch has all C.",
            ),
            (
                _runs_of_pixels,
                "a plain reshape takes runs of neighbouring numbers, not squares; axes must be moved first.",
            ),
            (_sides_swapped, "H and W are swapped in the grid: it has H // P rows and W // P columns."),
            (
                _batch_merged,
                "the images of the batch are joined into one sequence; keep B as the first axis.",
            ),
            (_first_image_only, "only the first image of the batch is cut; do it for all B of them."),
            (
                _pixels_first,
                "the last two axes are swapped: patches first, then the numbers inside one patch.",
            ),
            (
                _split_the_wrong_way,
                "each side is split the wrong way round: into rows of P pixels, (row p), not (p row).",
            ),
            (_grid_kept, "the grid's rows and columns are still two axes; join them into one of length N."),
        ],
        tolerance=0,
    ),
    Exercise(
        "1.2",
        "the inverse, for any grid",
        cases=_patch_cases,
        oracle=_unpatchify,
        mistakes=[
            (
                _folded_channels_last,
                "each patch is read in the (P, P, C) order; its numbers are in the order (C, P, P).",
            ),
            (
                _folded_down_the_columns,
                "the patches are laid down the columns; they go along the rows, as one reads.",
            ),
            (
                _folded_transposed_inside,
                "each patch is put back transposed: inside a patch too, rows come before columns.",
            ),
            (
                _folded_nothing_moved,
                "a plain reshape leaves each patch as a run of numbers; axes must be moved first.",
            ),
            (_folded_sides_swapped, "H and W are swapped: image_size is (H, W)."),
            (
                _folded_grid_guessed,
                "the grid was guessed as a square from N; take its rows and columns from image_size.",
            ),
            (
                _folded_joined_the_wrong_way,
                "each side is joined the wrong way round: rows of P pixels, (row p), not (p row).",
            ),
            (_folded_channels_at_the_end, "the channels are at the end; the image's axes are (B, C, H, W)."),
        ],
        tolerance=0,
    ),
    Exercise(
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
            (_corner_by_patch_size, "this divides by P; a row of the grid holds W // P patches."),
        ],
    ),
    Exercise(
        "1.4",
        "N, P²C and attention entries by formula",
        cases=_count_cases,
        oracle=_count,
        mistakes=[
            (
                _count_without_class_token,
                "the class token is forgotten: the sequence has T = N + 1 tokens, and T² entries.",
            ),
            (_count_one_side, "this is P·C; a patch has P rows of P pixels, P²·C numbers."),
            (_count_without_channels, "the channels are forgotten: every pixel holds C numbers."),
            (_count_divided_once, "this divides by P once; both sides are cut, so N = (H / P)·(W / P)."),
            (_count_as_square, "this takes the image for a square; the width has W // P patches of its own."),
            (_count_tokens, "this is T = N + 1, with the class token; N counts the patches alone."),
            (
                _count_per_token,
                "this is one row of attention; each of the T tokens has such a row, so T² entries.",
            ),
        ],
    ),
]

PREDICTIONS = [
    Prediction(
        "1.a",
        "Suppose every pixel of a 224 × 224 image were a token. "
        "How many attention entries has one head in one layer?",
        [
            (
                "About 50 thousand",
                "This is the number of tokens, 224 · 224; every one of them attends to all.",
            ),
            (
                "About 39 thousand",
                "This is (196 + 1)², for patches of 16 × 16: the way out, not the problem.",
            ),
            ("About 2.5 billion", "224 · 224 is about 50 thousand tokens, and its square about 2.5 billion."),
            (
                "About 11 million",
                "This is 224 cubed: each pixel with its own row only. Attention is over all pixels.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "1.b",
        "An RGB image is cut into patches of 16 × 16 pixels. How many numbers describe one patch?",
        [
            ("48", "This is P·C = 16 · 3, one row of the patch; there are 16 such rows."),
            ("196", "This is N for an image of 224 × 224: how many patches there are, not how long each is."),
            ("256", "This is P² = 16 · 16, right for a grey image; an RGB pixel holds three numbers."),
            ("768", "P²C = 16 · 16 · 3 = 768. (ViT-B's D is 768 too; that is a coincidence.)"),
        ],
        right=3,
    ),
    Prediction(
        "1.c",
        "P is halved, the image stays. What happens to N · P²C, all the numbers in the sequence?",
        [
            ("It doubles", "N grows 4-fold and P²C shrinks 4-fold; nothing is left that could double."),
            ("It stays the same", "Every pixel lies in exactly one patch: N · P²C = H·W·C for every P."),
            (
                "It grows 4-fold",
                "N does, but each patch is 4 times shorter. The attention entries are what grows.",
            ),
            ("It shrinks 4-fold", "P²C does, but there are 4 times as many patches."),
        ],
        right=1,
    ),
    Prediction(
        "1.d",
        "An image is shown at twice the resolution (both sides double), with the same P. "
        "What happens to N, and about what to the attention entries T²?",
        [
            (
                "N doubles, T² grows 4-fold",
                "That would hold if one side alone doubled: N is an area, H·W / P².",
            ),
            (
                "N grows 4-fold, T² grows 4-fold",
                "N is right, but every token looks at every token: T² goes with N squared.",
            ),
            (
                "N grows 4-fold, T² grows about 16-fold",
                "N is an area (2 · 2 = 4), and T² goes with N squared (4 · 4 = 16).",
            ),
            (
                "Neither changes: the patches get larger",
                "P is in pixels and stays; there are more patches of the same size.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "1.e",
        "A ViT without position embeddings sees an image, then the same image with its patches shuffled. "
        "How do its class scores change?",
        [
            (
                "They do not, but for rounding",
                "Attention sums over a set of tokens: without positions their order is unknown.",
            ),
            (
                "A little: neighbours still overlap",
                "Patches do not overlap, and nothing in a token says which were its neighbours.",
            ),
            (
                "A lot: the picture is destroyed",
                "To us it is. But the model without positions never had the picture's layout.",
            ),
            (
                "Only in images with a large object",
                "The size plays no part: the same set of tokens goes in, whatever they show.",
            ),
        ],
        right=0,
    ),
]


def quiz(*, patch_size: int = 4, photo_patch_size: int = 96, attention_power: float = 2.16) -> list[Question]:
    """Five questions: the sizes that the lesson cut with, and the power of N with which attention grew."""
    N = (28 // patch_size) ** 2
    rows, columns = 384 // photo_patch_size, 576 // photo_patch_size
    longer = 4**attention_power
    return [
        Question(
            "1.q1",
            f"A garment of 28 × 28 pixels made N = {N} with P = {patch_size}. How many patches does an image "
            "of 56 × 84 make with the same P?",
            [
                (f"{N}", f"That would be the same image again. P is in pixels and stays {patch_size}."),
                (f"{5 * N}", "Two times the height and three times the width multiply, and do not add up."),
                (f"{6 * N}", f"The height is doubled and the width tripled: 2 · 3 · {N} patches."),
                (f"{36 * N}", "36 is how much attention grows: N is 6 times as large, and N² is 36 times."),
            ],
            right=2,
        ),
        Question(
            "1.q2",
            f"The photo of 384 × 576 pixels was cut with P = {photo_patch_size}. Counted from 1, which patch "
            "lies directly below patch 1?",
            [
                (
                    f"Patch {1 + columns}",
                    f"A row of the grid holds {columns} patches, and then comes the next row.",
                ),
                ("Patch 2", "Patch 2 lies beside it: the count goes along the rows, as one reads."),
                (
                    f"Patch {1 + rows}",
                    f"{rows} is the number of rows. What comes before it is a row, {columns} patches.",
                ),
                (f"Patch {1 + photo_patch_size}", "P is counted in pixels; patches are counted in the grid."),
            ],
            right=0,
        ),
        Question(
            "1.q3",
            "You wrote patchify and unpatchify yourself. There and back, every image is the same in every "
            "number, also those that are not square. What does that prove about patchify?",
            [
                (
                    "It makes the patches that vitlab makes",
                    "It would if unpatchify were vitlab's own. Both of yours may share a mistake.",
                ),
                (
                    "Nothing: rounding hides small mistakes",
                    "Nothing is computed, so nothing is rounded. But what is proved, if not that?",
                ),
                (
                    "It keeps every number, in whatever order",
                    "Both may use the order (P, P, C), or go down the columns: a mistake made twice undoes "
                    "itself.",
                ),
                (
                    "It is right for one channel only",
                    "The number of channels is not the point: an order shared by both is undone for any C.",
                ),
            ],
            right=2,
        ),
        Question(
            "1.q4",
            f"In this lesson the time of attention grew with N to the power of {attention_power:.2f}. If "
            "that goes on, how many times as long does it take when both sides of the image are doubled?",
            [
                ("2 times", "The sides are doubled, but N is an area: it grows 4-fold."),
                (
                    "4 times",
                    "N grows 4-fold. With a power of 1 that would be all; this is what the linear layers "
                    "cost.",
                ),
                (
                    f"About {longer * longer:,.0f} times",
                    "The power is applied twice: N is already an area, 4 times as large.",
                ),
                (
                    f"About {longer:,.0f} times",
                    f"N grows 4-fold, and 4 to the power of {attention_power:.2f} is {longer:.3g}.",
                ),
            ],
            right=3,
        ),
        Question(
            "1.q5",
            "ViT-L/16 is fine-tuned at 512 × 512 pixels (the paper's table 2). A convolution is to cut "
            "patches of 14 × 14 from the same images, and moves 14 pixels at a time. What happens?",
            [
                (
                    "It stops: 512 is not divisible by 14",
                    "A convolution does not mind, and that is the danger.",
                ),
                (
                    "It makes 37 × 37 patches, the last ones padded with zeros",
                    "Nobody asked it to pad: a patch that would reach over the edge is left out.",
                ),
                (
                    "It resizes the images to 518 × 518",
                    "That is what the paper did, by choice: 518 = 37 · 14. No convolution does it for you.",
                ),
                (
                    "It makes 36 × 36 patches and leaves out 8 rows and columns",
                    "36 · 14 = 504. No error tells you so; compare N with what you expect.",
                ),
            ],
            right=3,
        ),
    ]
