"""Lesson 02, embeddings: exercises 2.1–2.4 and predictions 2.a–2.f."""

import math

import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction, Question

# ---------------------------------------------------------------------------------------- 2.1 projection


def _projection_cases(generator):
    def case(batch, channels, height, width, size, embed_dim, dtype=torch.float32):
        shapes = (batch, channels, height, width), (embed_dim, channels, size, size), (embed_dim,)
        return tuple(torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)

    yield case(2, 2, 8, 12, 4, 5)
    yield case(3, 4, 6, 2, 2, 7)
    yield case(2, 3, 9, 6, 3, 4, dtype=torch.float64)
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


# ---------------------------------------------------------------------------------------- 2.2 token sequence


def _token_cases(generator):
    def case(batch, number, embed_dim, dtype=torch.float32):
        shapes = (batch, number, embed_dim), (1, 1, embed_dim), (1, number + 1, embed_dim)
        return tuple(torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)

    yield case(2, 6, 4)
    yield case(3, 12, 5)
    yield case(2, 4, 8, dtype=torch.float64)
    yield case(1, 9, 3)


def _to_sequence(patches, cls_token, pos_embed):
    batch, number, embed_dim = patches.shape
    tokens = patches.new_empty(batch, number + 1, embed_dim)
    for b in range(batch):
        for t in range(number + 1):
            content = cls_token[0, 0] if t == 0 else patches[b, t - 1]
            tokens[b, t] = content + pos_embed[0, t]
    return tokens


def _class_token_last(patches, cls_token, pos_embed):
    return torch.cat([patches, cls_token.expand(len(patches), -1, -1)], dim=1) + pos_embed


def _without_positions(patches, cls_token, pos_embed):
    return _to_sequence(patches, cls_token, torch.zeros_like(pos_embed))


def _class_token_without_position(patches, cls_token, pos_embed):
    placed = pos_embed.clone()
    placed[:, 0] = 0
    return _to_sequence(patches, cls_token, placed)


def _positions_one_off(patches, cls_token, pos_embed):
    """The positions are added before the class token is put in front."""
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches + pos_embed[:, :-1]], dim=1)


def _without_class_token(patches, cls_token, pos_embed):
    return patches + pos_embed[:, 1:]


def _class_token_added(patches, cls_token, pos_embed):
    return patches + cls_token + pos_embed[:, 1:]


def _positions_beside(patches, cls_token, pos_embed):
    tokens = _without_positions(patches, cls_token, pos_embed)
    return torch.cat([tokens, pos_embed.expand(len(patches), -1, -1)], dim=2)


def _class_token_not_expanded(patches, cls_token, pos_embed):
    return torch.cat([cls_token, patches], dim=1) + pos_embed


def _joined_along_the_batch(patches, cls_token, pos_embed):
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches]) + pos_embed


def _positions_before_the_class_token(patches, cls_token, pos_embed):
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches + pos_embed], dim=1)


# ---------------------------------------------------------------------------------------- 2.3 similarity


def _similarity_cases(generator):
    def case(grid, embed_dim, dtype=torch.float32):
        number = math.prod(grid)
        table = torch.randn(1, number + 1, embed_dim, dtype=dtype, generator=generator) + 0.3
        index = torch.randint(1, number - 1, (), generator=generator).item()
        return table, grid, index

    yield case((3, 5), 8)
    yield case((4, 2), 6)
    yield case((2, 6), 5, dtype=torch.float64)


def _similarity(pos_embed, grid, index):
    rows, columns = grid
    chosen = pos_embed[0, 1 + index]
    result = pos_embed.new_empty(rows, columns)
    for row in range(rows):
        for column in range(columns):
            other = pos_embed[0, 1 + row * columns + column]
            lengths = (chosen**2).sum().sqrt() * (other**2).sum().sqrt()
            result[row, column] = (chosen * other).sum() / lengths
    return result


def _with_class_token(pos_embed, grid, index):
    """The class token's row is taken for the first patch's."""
    return _similarity(torch.cat([pos_embed[:, :1], pos_embed], dim=1), grid, index)


def _from_class_token_count(pos_embed, grid, index):
    """The map is of the patches, but the chosen row counts the class token."""
    return _by_cosine(pos_embed[0, index], pos_embed[0, 1:]).reshape(grid)


def _by_cosine(chosen, others):
    return F.cosine_similarity(chosen[None], others, dim=1)


def _dot_product(pos_embed, grid, index):
    return (pos_embed[0, 1:] @ pos_embed[0, 1 + index]).reshape(grid)


def _half_normalised(pos_embed, grid, index):
    patches = F.normalize(pos_embed[0, 1:], dim=1)
    return (patches @ pos_embed[0, 1 + index]).reshape(grid)


def _scaled_product(pos_embed, grid, index):
    return _dot_product(pos_embed, grid, index) / pos_embed.shape[-1] ** 0.5


def _map_down_the_columns(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index).flatten().reshape(grid[::-1]).T


def _grid_swapped(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index).reshape(grid[::-1])


def _flat(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index).flatten()


def _columns_normalised(pos_embed, grid, index):
    """`F.normalize` on (1, N, D) without `dim`: its own is 1, the positions."""
    unit = F.normalize(pos_embed[:, 1:])[0]
    return (unit @ unit[index]).reshape(grid)


def _one_length_for_all(pos_embed, grid, index):
    scaled = pos_embed[0, 1:] / pos_embed[0, 1:].norm()
    return (scaled @ scaled[index]).reshape(grid)


def _all_with_all(pos_embed, grid, index):
    unit = F.normalize(pos_embed[0, 1:], dim=-1)
    return unit @ unit.T


# ---------------------------------------------------------------------------------------- 2.4 another grid


def _table_cases(generator):
    def case(old_grid, new_grid, embed_dim, dtype=torch.float32):
        table = torch.randn(1, math.prod(old_grid) + 1, embed_dim, dtype=dtype, generator=generator)
        return table, old_grid, new_grid

    yield case((3, 4), (5, 7), 6)
    yield case((2, 6), (4, 3), 5)
    yield case((4, 4), (2, 8), 3, dtype=torch.float64)
    yield case((5, 3), (9, 5), 4)


def _resize(pos_embed, old_grid, new_grid):
    table = pos_embed[0, 1:].reshape(*old_grid, -1)
    rows = [pos_embed[0, 0]]
    for i in range(new_grid[0]):
        for j in range(new_grid[1]):
            y = i * (old_grid[0] - 1) / (new_grid[0] - 1)
            x = j * (old_grid[1] - 1) / (new_grid[1] - 1)
            top, left = min(int(y), old_grid[0] - 2), min(int(x), old_grid[1] - 2)
            down, right = y - top, x - left
            above = (1 - right) * table[top, left] + right * table[top, left + 1]
            below = (1 - right) * table[top + 1, left] + right * table[top + 1, left + 1]
            rows.append((1 - down) * above + down * below)
    return torch.stack(rows)[None]


def _interpolated(pos_embed, old_grid, new_grid, **options):
    """The patches' part by `F.interpolate`, the class token's kept: the options are where it goes wrong."""
    table = pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, *old_grid)
    table = F.interpolate(table, size=new_grid, **options).flatten(2).transpose(1, 2)
    return torch.cat([pos_embed[:, :1], table], dim=1)


def _edges_on_edges(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="bilinear", align_corners=False)


def _edges_with_antialias(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="bilinear", align_corners=False, antialias=True)


def _bicubic(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="bicubic", align_corners=True)


def _bicubic_edges(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="bicubic", align_corners=False)


def _nearest(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="nearest")


def _as_a_line(pos_embed, old_grid, new_grid):
    """The whole table stretched as one line, class token and all."""
    line = pos_embed.transpose(1, 2)
    size = math.prod(new_grid) + 1
    return F.interpolate(line, size=size, mode="linear", align_corners=True).transpose(1, 2)


def _patches_as_a_line(pos_embed, old_grid, new_grid):
    line = pos_embed[:, 1:].transpose(1, 2)
    line = F.interpolate(line, size=math.prod(new_grid), mode="linear", align_corners=True).transpose(1, 2)
    return torch.cat([pos_embed[:, :1], line], dim=1)


def _class_token_dropped(pos_embed, old_grid, new_grid):
    return _resize(pos_embed, old_grid, new_grid)[:, 1:]


def _class_token_at_the_end(pos_embed, old_grid, new_grid):
    return _resize(pos_embed, old_grid, new_grid).roll(-1, dims=1)


def _old_grid_swapped(pos_embed, old_grid, new_grid):
    return _resize(pos_embed, old_grid[::-1], new_grid)


def _new_grid_swapped(pos_embed, old_grid, new_grid):
    return _resize(pos_embed, old_grid, new_grid[::-1])


def _width_not_moved(pos_embed, old_grid, new_grid):
    """(1, N, D) reshaped to (1, D, rows, columns), without moving D in front first."""
    table = pos_embed[:, 1:].reshape(1, -1, *old_grid)
    table = F.interpolate(table, size=new_grid, mode="bilinear", align_corners=True)
    return torch.cat([pos_embed[:, :1], table.flatten(2).transpose(1, 2)], dim=1)


def _width_not_moved_at_all(pos_embed, old_grid, new_grid):
    table = pos_embed[:, 1:].reshape(1, -1, *old_grid)
    table = F.interpolate(table, size=new_grid, mode="bilinear", align_corners=True)
    return torch.cat([pos_embed[:, :1], table.reshape(1, -1, pos_embed.shape[-1])], dim=1)


def _square_assumed(pos_embed, old_grid, new_grid):
    number = pos_embed.shape[1] - 1
    side = max(side for side in range(1, math.isqrt(number) + 1) if number % side == 0)
    return _resize(pos_embed, (side, number // side), new_grid)


def _columns_first_on_the_way_back(pos_embed, old_grid, new_grid):
    table = _resize(pos_embed, old_grid, new_grid)
    columns_first = table[:, 1:].unflatten(1, new_grid).transpose(1, 2).flatten(1, 2)
    return torch.cat([table[:, :1], columns_first], dim=1)


def _still_a_picture(pos_embed, old_grid, new_grid):
    return _resize(pos_embed, old_grid, new_grid)[:, 1:].transpose(1, 2).unflatten(2, new_grid)


EXERCISES = [
    Exercise(
        "2.1",
        "the projection of every patch",
        cases=_projection_cases,
        oracle=_project,
        mistakes=[
            (_without_bias, "the bias was forgotten: every token gets it."),
            (_width_first, "this is (B, D, N); tokens come first, and each of them is a row of D numbers."),
            (
                _reshaped_to_tokens,
                "a reshape from (B, D, N) to (B, N, D) mixes tokens and widths; swap the axes by "
                "transposing.",
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
        ],
    ),
    Exercise(
        "2.2",
        "class token in front, positions added",
        cases=_token_cases,
        oracle=_to_sequence,
        mistakes=[
            (_class_token_last, "the class token is at the end; it goes in front, to position 0."),
            (_without_positions, "the position embeddings were not added."),
            (
                _class_token_without_position,
                "the class token got no position; row 0 of pos_embed belongs to it.",
            ),
            (
                _positions_one_off,
                "the positions are off by one: row 0 is the class token's, row 1 the first patch's. "
                "Put the class token in front first, then add.",
            ),
            (_without_class_token, "there is no class token: N tokens instead of N + 1."),
            (_class_token_added, "the class token was added to every patch; it is a token of its own."),
            (_positions_beside, "the positions were put beside the tokens; they are added, so D stays D."),
            (
                _class_token_not_expanded,
                "there is one class token and a batch of B images: expand it to (B, 1, D) first.",
            ),
            (
                _joined_along_the_batch,
                "`cat` joins along the batch, its default; tokens are the second axis: dim=1.",
            ),
            (
                _positions_before_the_class_token,
                "the N patches have no use for N + 1 positions: put the class token in front, then add.",
            ),
        ],
    ),
    Exercise(
        "2.3",
        "cosine similarity of one position to all",
        cases=_similarity_cases,
        oracle=_similarity,
        mistakes=[
            (
                _with_class_token,
                "everything is one off: row 0 of the table is the class token's, so patch i is row 1 + i.",
            ),
            (
                _from_class_token_count,
                "the map leaves the class token out, but the chosen row does not: patch i is row 1 + i.",
            ),
            (_dot_product, "this is the dot product; divide by the lengths of both vectors."),
            (_half_normalised, "only one of the two vectors was divided by its length."),
            (_scaled_product, "this divides by √D, as attention does; a cosine divides by both lengths."),
            (_map_down_the_columns, "the map runs down the columns; positions are in reading order."),
            (_grid_swapped, "rows and columns of the map are swapped: grid is (rows, columns)."),
            (_flat, "the values are right, but in a line; bring them back onto the grid."),
            (
                _columns_normalised,
                "each column was brought to length 1, over the positions; it is each row: dim=-1.",
            ),
            (
                _one_length_for_all,
                "the whole table is divided by one length; each row has its own: dim=-1, keepdim=True.",
            ),
            (
                _all_with_all,
                "this compares all positions with all; only the row of `index` is asked for, on the grid.",
            ),
        ],
    ),
    Exercise(
        "2.4",
        "position embeddings for another grid",
        cases=_table_cases,
        oracle=_resize,
        mistakes=[
            (
                _edges_on_edges,
                "this is align_corners=False, which lays edges on edges; the task lays corners on corners.",
            ),
            (
                _edges_with_antialias,
                "this is antialiased with edges on edges; the task is plain bilinear, corners on corners.",
            ),
            (_bicubic, "this is bicubic; the task is bilinear."),
            (
                _bicubic_edges,
                "this is bicubic with edges on edges; the task is bilinear, corners on corners.",
            ),
            (_nearest, "each place took its nearest neighbour's row; interpolate between four instead."),
            (
                _as_a_line,
                "the table was stretched as one line, class token included; a patch has neighbours "
                "above and below.",
            ),
            (
                _patches_as_a_line,
                "the patches were stretched as one line; the end of a row is no neighbour of the "
                "next row's start.",
            ),
            (_class_token_dropped, "the class token's row is missing; put it back in front, unchanged."),
            (_class_token_at_the_end, "the class token's row is at the end; it is row 0."),
            (_old_grid_swapped, "rows and columns of the old grid are swapped."),
            (_new_grid_swapped, "rows and columns of the new grid are swapped."),
            (
                _width_not_moved,
                "(N, D) was reshaped to (D, rows, columns) as if D came first; transpose before, or permute.",
            ),
            (
                _width_not_moved_at_all,
                "D was never moved in front of the grid and back; reshape alone mixes places and widths.",
            ),
            (_square_assumed, "the old grid is taken for a square, or nearly; its rows are old_grid[0]."),
            (
                _columns_first_on_the_way_back,
                "on the way back the table runs down the columns; rows come first: (row column).",
            ),
            (
                _still_a_picture,
                "this is still the picture; bring it back to (1, N, D), with the class token's row in front.",
            ),
        ],
    ),
]

PREDICTIONS = [
    Prediction(
        "2.a",
        "Which convolution with D output channels gives the same numbers as cutting an image into P "
        "× P patches "
        "and multiplying each with one matrix?",
        [
            (
                "Kernel 1 × 1, stride 1",
                "That mixes the channels of each pixel alone; pixels of one patch would never meet.",
            ),
            (
                "Kernel P × P, stride 1",
                "Kernel right, but it would stop at every pixel: overlapping windows, far more than "
                "N of them.",
            ),
            (
                "Kernel P × P, stride P",
                "Every stop sees exactly one patch, and the kernel, flattened, is the matrix.",
            ),
            (
                "None: a convolution also mixes neighbouring patches",
                "It does when its kernel is larger than its stride. With both equal to P, no two "
                "stops share a pixel.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "2.b",
        "ViT-B/16 projects RGB patches of 16 × 16 pixels to D = 768, in an image of 224 × 224. "
        "How many parameters has this projection?",
        [
            (
                "12,288",
                "This is 16 · 768: a row of one channel. A patch has P²C = 16 · 16 · 3 = 768 numbers.",
            ),
            (
                "197,376",
                "This is (16 · 16 + 1) · 768, right for grey images; an RGB pixel holds three numbers.",
            ),
            ("590,592", "P²C·D + D = 768 · 768 + 768: one matrix and one bias, shared by all patches."),
            (
                "115,756,032",
                "This is 196 such projections, one for each patch. There is one, used 196 times.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "2.c",
        "Two different images go into the same model. Just before the first block, "
        "how do the first rows of their token matrices, the class tokens, differ?",
        [
            (
                "Not at all",
                "The class token is a parameter of the model. Until attention mixes the tokens, it "
                "has seen no image.",
            ),
            (
                "They are the means of different patches",
                "That is the other design, mean pooling, and it happens after the last block, not "
                "before the first.",
            ),
            (
                "They hold the two images' classes",
                "That is the hope for the end of the encoder; at its entry nobody has looked at the "
                "image yet.",
            ),
            (
                "They are drawn at random for each image",
                "It is random at most once, before training (here: zero). After that it is learned, "
                "like a weight.",
            ),
        ],
        right=0,
    ),
    Prediction(
        "2.d",
        "A table of position embeddings for 7 × 7 patches is stretched to 14 × 14, bilinearly and "
        "with its corners "
        "on the new corners. How many of the 196 new rows are exact copies of an old row?",
        [
            ("0", "The corners lie on each other, so those are copies at least."),
            (
                "4",
                "New place j lies at 6j/13 on the old grid: a whole number for j = 0 and 13 only. "
                "The rest are mixtures.",
            ),
            ("49", "That would need steps of a half, but 13 new gaps share 6 old ones: 6/13 of a step each."),
            (
                "196",
                "That is what 'nearest' does: every old row four times, and no place of its own for any.",
            ),
        ],
        right=1,
    ),
    Prediction(
        "2.e",
        "Small ViTs are trained on Fashion-MNIST for a short while, with and without position embeddings. "
        "What does leaving them out cost in test accuracy?",
        [
            (
                "Nearly all: down to about 10 %, guessing",
                "A bag of patches still says a lot: how much is dark, which textures, which edges.",
            ),
            (
                "Some points, but far from guessing",
                "The bag of patches carries most of the answer; the layout adds the rest. So it is "
                "in the paper's table 8.",
            ),
            (
                "Nothing",
                "It would mean that layout is useless. Compare the lines that the next cell prints.",
            ),
            (
                "It gains: fewer parameters to learn",
                "The table of positions is a small share of the parameters, and what it says is worth more.",
            ),
        ],
        right=1,
    ),
    Prediction(
        "2.f",
        "Two of these models are now tested on images whose patches have been shuffled: "
        "one trained without positions, one with learned positions. What happens?",
        [
            (
                "Both lose accuracy",
                "The one without positions cannot tell: for it, shuffled and whole are the same set "
                "of tokens.",
            ),
            (
                "Neither loses",
                "The one with positions finds every patch where it does not belong, and is misled.",
            ),
            (
                "Only the one without positions loses",
                "The other way round: who never knew the layout cannot miss it.",
            ),
            (
                "Only the one with learned positions loses",
                "It relies on the layout. The other one gives the same answers as before, but for rounding.",
            ),
        ],
        right=3,
    ),
]


def quiz(
    *,
    patch_size: int = 4,
    class_accuracy: float = 0.936,
    patch_accuracy: float = 0.721,
    learned_gain: float = 3.0,
    learned_spread: float = 0.3,
    sincos_gain: float = 3.8,
    sincos_spread: float = 0.7,
) -> list[Question]:
    """Five questions: the projection's size, what tokens know, and what positions were worth (points, sd)."""
    N, length, D = (28 // patch_size) ** 2, patch_size**2, 96
    helps = learned_gain > 2 * learned_spread and sincos_gain > 2 * sincos_spread
    apart, spread = abs(sincos_gain - learned_gain), max(learned_spread, sincos_spread)
    measured = (
        f"{learned_gain:+.1f} ± {learned_spread:.1f} and {sincos_gain:+.1f} ± {sincos_spread:.1f} points"
    )
    return [
        Question(
            "2.q1",
            f"Grey garments of 28 × 28 pixels are cut with P = {patch_size} and projected to D = 96. How "
            "many parameters has the projection?",
            [
                (
                    f"{length * D:,}",
                    f"P²C · D = {length} · 96 are the matrix alone; a bias of 96 comes with it.",
                ),
                (f"{(length + 1) * D:,}", f"A matrix of P²C · D = {length} · 96 numbers, and a bias of 96."),
                (
                    f"{N * (length + 1) * D:,}",
                    f"This has a matrix for each of the {N} patches. All share one.",
                ),
                (f"{(N + 1) * D:,}", "These are the learned positions, one row for each token."),
            ],
            right=1,
        ),
        Question(
            "2.q2",
            f"A model for 28 × 28 pixels (N = {N}) shall read images of 56 × 56. Which of its tensors has to "
            "get another shape?",
            [
                ("The projection", "It sees one patch at a time, and a patch is as large as before."),
                ("The class token", "It is one row of D numbers, whatever stands behind it."),
                (
                    f"The positions: {4 * N + 1} rows instead of {N + 1}",
                    "There is a row for each patch and one for the class token; N is 4 times as large.",
                ),
                (
                    "None of them",
                    "It would be so without learned positions, as nothing else counts the patches.",
                ),
            ],
            right=2,
        ),
        Question(
            "2.q3",
            f"The head was trained on the class token alone ({class_accuracy:.1%} right). Reading a patch "
            f"token, it is still right in up to {patch_accuracy:.1%}. How can that be?",
            [
                (
                    "A patch shows enough of a garment",
                    "A few pixels of cloth are rarely enough; that token has seen more than its patch.",
                ),
                (
                    "In training the head saw patches, too",
                    "It read token 0 and nothing else; no label was ever compared with a patch's answer.",
                ),
                (
                    "All tokens are the same at the end",
                    "Then it would be right just as often, whichever token it reads.",
                ),
                (
                    "Patches, too, took in the whole image",
                    "Attention goes both ways: in each layer a patch looks at all others, and at the class "
                    "token.",
                ),
            ],
            right=3,
        ),
        Question(
            "2.q4",
            f"In this lesson learned and sin-cos positions were worth {measured} more than none (mean ± sd "
            "over seeds). What do these numbers bear out? Take two sd as the measure.",
            [
                (
                    "Positions help; which kind is better stays open",
                    f"It takes two gains above 2 sd, and between them less: {apart:.1f} points, for 2 sd of "
                    f"{2 * spread:.1f}.",
                ),
                (
                    "Positions help, and one kind is the better here",
                    f"They would have to differ by more than 2 sd, {2 * spread:.1f} points. "
                    f"It is {apart:.1f}.",
                ),
                (
                    "Not even that both help",
                    f"It would be so if a gain were below 2 sd, {2 * learned_spread:.1f} and "
                    f"{2 * sincos_spread:.1f} points.",
                ),
                (
                    "Sin-cos is the better kind for ViTs",
                    "One small model, one data set, a short training: no such number says anything about "
                    "all ViTs.",
                ),
            ],
            right=(1 if apart > 2 * spread else 0) if helps else 2,
        ),
        Question(
            "2.q5",
            "Table 8 of the paper: with 1-D positions added once in front of the encoder 64.2 %, added "
            "again in every layer 64.0 %, the same with one table shared by all layers 64.3 %. Why is once "
            "enough?",
            [
                (
                    "Each layer works out the positions anew",
                    "It cannot: without them the tokens are a set, and no layer sees an order.",
                ),
                (
                    "The sum runs through all layers",
                    "Each layer adds to what came in, so what was added in front is still there at the end.",
                ),
                (
                    "It is not: 64.3 % is the best",
                    "By 0.1 points, without a spread in the table: no difference can be read from that.",
                ),
                (
                    "The class token keeps the positions",
                    "It is one vector of D numbers, and its own row of the table is all that is added to it.",
                ),
            ],
            right=1,
        ),
    ]
