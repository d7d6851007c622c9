"""Exercise 2.3: cosine similarity of one position to all."""

import math

import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise


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


def _whole_columns_normalised(pos_embed, grid, index):
    """The same before the class token's row is dropped."""
    unit = F.normalize(pos_embed)[0, 1:]
    return (unit @ unit[index]).reshape(grid)


def _one_length_for_all(pos_embed, grid, index):
    scaled = pos_embed[0, 1:] / pos_embed[0, 1:].norm()
    return (scaled @ scaled[index]).reshape(grid)


def _all_with_all(pos_embed, grid, index):
    unit = F.normalize(pos_embed[0, 1:], dim=-1)
    return unit @ unit.T


def _distance(pos_embed, grid, index):
    return torch.cdist(pos_embed[0, 1 + index][None], pos_embed[0, 1:]).reshape(grid)


def _cosine_distance(pos_embed, grid, index):
    return 1 - _similarity(pos_embed, grid, index)


def _angle(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index).clamp(-1, 1).arccos()


def _absolute(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index).abs()


def _squared(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index) ** 2


def _to_class_token(pos_embed, grid, index):
    return _by_cosine(pos_embed[0, 0], pos_embed[0, 1:]).reshape(grid)


def _index_before(pos_embed, grid, index):
    return _by_cosine(pos_embed[0, index - 1], pos_embed[0, 1:]).reshape(grid)


def _index_after(pos_embed, grid, index):
    return _by_cosine(pos_embed[0, 2 + index], pos_embed[0, 1:]).reshape(grid)


def _shares(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index).flatten().softmax(dim=0).reshape(grid)


def _correlation(pos_embed, grid, index):
    """Each row's mean is taken off first."""
    centred = pos_embed - pos_embed.mean(dim=-1, keepdim=True)
    return _similarity(centred, grid, index)


def _mean_position_off(pos_embed, grid, index):
    centred = pos_embed[:, 1:] - pos_embed[:, 1:].mean(dim=1, keepdim=True)
    return _similarity(torch.cat([pos_embed[:, :1], centred], dim=1), grid, index)


def _divided_by_the_square(pos_embed, grid, index):
    return _dot_product(pos_embed, grid, index) / (pos_embed[0, 1 + index] ** 2).sum()


def _divided_by_the_others_square(pos_embed, grid, index):
    return _dot_product(pos_embed, grid, index) / (pos_embed[0, 1:] ** 2).sum(dim=1).reshape(grid)


def _taken_for_a_square(pos_embed, grid, index):
    side = math.isqrt(math.prod(grid))
    return _by_cosine(pos_embed[0, 1 + index], pos_embed[0, 1:]).view(side, side)


def _batch_kept(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index)[None]


def _as_a_column(pos_embed, grid, index):
    return _similarity(pos_embed, grid, index).reshape(-1, 1)


def _lengths_added(pos_embed, grid, index):
    lengths = pos_embed[0, 1:].norm(dim=1) + pos_embed[0, 1 + index].norm()
    return (pos_embed[0, 1:] @ pos_embed[0, 1 + index] / lengths).reshape(grid)


def _sum_of_sizes(pos_embed, grid, index):
    unit = F.normalize(pos_embed[0, 1:], p=1, dim=-1)
    return (unit @ unit[index]).reshape(grid)


EXERCISE = Exercise(
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
            _whole_columns_normalised,
            "each column was brought to length 1, class token and all; it is each row: dim=-1.",
        ),
        (
            _one_length_for_all,
            "the whole table is divided by one length; each row has its own: dim=-1, keepdim=True.",
        ),
        (
            _all_with_all,
            "this compares all positions with all; only the row of `index` is asked for, on the grid.",
        ),
        (_distance, "this is the distance; alike are those whose cosine is near 1."),
        (_cosine_distance, "this is 1 minus the cosine; alike are those whose cosine is near 1."),
        (_angle, "this is the angle; its cosine is asked for."),
        (_absolute, "the sign is gone; a cosine may be negative."),
        (_squared, "this is the cosine squared."),
        (_to_class_token, "this compares with the class token's row; patch i is row 1 + i."),
        (_index_before, "the chosen row is off by two: patch i is row 1 + i of the whole table."),
        (_index_after, "the chosen row is one too far: without row 0, patch i is row i."),
        (_shares, "a softmax came last; the cosines themselves are asked for."),
        (
            _correlation,
            "each row's mean is taken off first, a correlation; a cosine takes the rows as they are.",
        ),
        (_mean_position_off, "the mean position is taken off first; a cosine takes the rows as they are."),
        (
            _divided_by_the_square,
            "this divides by the chosen row's length twice; divide by both lengths, once each.",
        ),
        (
            _divided_by_the_others_square,
            "this divides by each other row's length twice; divide by both lengths, once each.",
        ),
        (_taken_for_a_square, "the grid is taken for a square; its sides are in `grid`."),
        (_batch_kept, "the first axis, 1, is still there; the map is (rows, columns)."),
        (_as_a_column, "the values are right, but in a column; bring them back onto the grid."),
        (_lengths_added, "this divides by the sum of the lengths; divide by their product."),
        (_sum_of_sizes, "the rows were divided by the sum of their sizes (p=1); the length is p=2."),
    ],
)
