"""Exercise 2.4: position embeddings for another grid."""

import math

import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise


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


def _square_of_whole_roots(pos_embed, old_grid, new_grid):
    side = math.isqrt(pos_embed.shape[1] - 1)
    return pos_embed[:, 1:].reshape(1, side, side, pos_embed.shape[-1])


def _picture_on_its_side(pos_embed, old_grid, new_grid):
    """(1, D, columns, rows) stretched to (rows, columns)."""
    table = pos_embed[:, 1:].unflatten(1, old_grid).permute(0, 3, 2, 1)
    table = F.interpolate(table, size=new_grid, mode="bilinear", align_corners=True)
    return torch.cat([pos_embed[:, :1], table.flatten(2).transpose(1, 2)], dim=1)


def _width_left_behind(pos_embed, old_grid, new_grid):
    """(1, rows, columns, D) as it is: the rows are taken for channels, columns and D for the picture."""
    table = pos_embed[:, 1:].unflatten(1, old_grid)
    table = F.interpolate(table, size=new_grid, mode="bilinear", align_corners=True)
    return torch.cat([pos_embed[:, :1], table.flatten(1, 2)], dim=1)


def _smoothed_first(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="bilinear", align_corners=True, antialias=True)


def _columns_first_on_the_way_back(pos_embed, old_grid, new_grid):
    table = _resize(pos_embed, old_grid, new_grid)
    columns_first = table[:, 1:].unflatten(1, new_grid).transpose(1, 2).flatten(1, 2)
    return torch.cat([table[:, :1], columns_first], dim=1)


def _still_a_picture(pos_embed, old_grid, new_grid):
    return _resize(pos_embed, old_grid, new_grid)[:, 1:].transpose(1, 2).unflatten(2, new_grid)


def _unchanged(pos_embed, old_grid, new_grid):
    return pos_embed.clone()


def _unchanged_where_counts_agree(pos_embed, old_grid, new_grid):
    same = math.prod(old_grid) == math.prod(new_grid)
    return pos_embed.clone() if same else _resize(pos_embed, old_grid, new_grid)


def _cut_off(pos_embed, old_grid, new_grid):
    """The first rows that are needed, zeros where there are none."""
    kept = pos_embed[:, : math.prod(new_grid) + 1]
    return F.pad(kept, (0, 0, 0, math.prod(new_grid) + 1 - kept.shape[1]))


def _repeated(pos_embed, old_grid, new_grid):
    number = math.prod(new_grid)
    patches = pos_embed[:, 1:].repeat(1, number, 1)[:, :number]
    return torch.cat([pos_embed[:, :1], patches], dim=1)


def _class_token_empty(pos_embed, old_grid, new_grid):
    table = _resize(pos_embed, old_grid, new_grid)
    return torch.cat([torch.zeros_like(table[:, :1]), table[:, 1:]], dim=1)


def _class_token_twice(pos_embed, old_grid, new_grid):
    return torch.cat([pos_embed[:, :1], _resize(pos_embed, old_grid, new_grid)], dim=1)


def _first_patch_for_class_token(pos_embed, old_grid, new_grid):
    return torch.cat([pos_embed[:, 1:2], _resize(pos_embed, old_grid, new_grid)[:, 1:]], dim=1)


def _last_row_taken_off(pos_embed, old_grid, new_grid):
    return _resize(pos_embed.roll(1, dims=1), old_grid, new_grid).roll(-1, dims=1)


def _patches_from_row_0(pos_embed, old_grid, new_grid):
    return _resize(torch.cat([pos_embed[:, :1], pos_embed[:, :-1]], dim=1), old_grid, new_grid)


def _nearest_centre(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="nearest-exact")


def _means_of_areas(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="area")


def _bicubic_with_antialias(pos_embed, old_grid, new_grid):
    return _interpolated(pos_embed, old_grid, new_grid, mode="bicubic", antialias=True)


def _line_edges_on_edges(pos_embed, old_grid, new_grid):
    line = F.interpolate(pos_embed[:, 1:].transpose(1, 2), size=math.prod(new_grid), mode="linear")
    return torch.cat([pos_embed[:, :1], line.transpose(1, 2)], dim=1)


def _back_by_reshape(pos_embed, old_grid, new_grid):
    """Stretched rightly, but (1, D, rows, columns) reshaped to (1, N, D)."""
    table = _resize(pos_embed, old_grid, new_grid)
    return torch.cat([table[:, :1], table[:, 1:].transpose(1, 2).reshape(table[:, 1:].shape)], dim=1)


def _columns_first_on_the_way_in(pos_embed, old_grid, new_grid):
    table = pos_embed[:, 1:].unflatten(1, old_grid[::-1]).transpose(1, 2).flatten(1, 2)
    return _resize(torch.cat([pos_embed[:, :1], table], dim=1), old_grid, new_grid)


def _drawn_anew(pos_embed, old_grid, new_grid):
    patches = torch.randn(1, math.prod(new_grid), pos_embed.shape[-1]) * 0.02
    return torch.cat([pos_embed[:, :1], patches.to(pos_embed.dtype)], dim=1)


def _zeros(pos_embed, old_grid, new_grid):
    patches = pos_embed.new_zeros(1, math.prod(new_grid), pos_embed.shape[-1])
    return torch.cat([pos_embed[:, :1], patches], dim=1)


EXERCISE = Exercise(
    "2.4",
    "position embeddings for another grid",
    cases=_table_cases,
    oracle=_resize,
    mistakes=[
        (
            _unchanged_where_counts_agree,
            "the table came back as it was where the counts agree; 2 × 8 and 4 × 4 are two grids.",
        ),
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
        (_square_of_whole_roots, "the old grid is taken for a square; its sides are in `old_grid`."),
        (
            _picture_on_its_side,
            "the picture lies on its side; `F.interpolate` takes (1, D, rows, columns), rows before columns.",
        ),
        (
            _width_left_behind,
            "`F.interpolate` takes (1, D, rows, columns), and D is still last: move it in front first.",
        ),
        (_smoothed_first, "this is antialiased; the task is plain bilinear."),
        (
            _columns_first_on_the_way_back,
            "on the way back the table runs down the columns; rows come first: (row column).",
        ),
        (
            _still_a_picture,
            "this is still the picture; bring it back to (1, N, D), with the class token's row in front.",
        ),
        (_unchanged, "the table came back as it was; the new grid has other places, stretch it to them."),
        (_cut_off, "the first rows were taken as they are; on the new grid they are other places."),
        (_repeated, "the old rows are repeated in a line; stretch them like a picture."),
        (_class_token_empty, "the class token's row was emptied; it stays as it is."),
        (_class_token_twice, "the class token's row is there twice; once, in front."),
        (_first_patch_for_class_token, "in front is the first patch's row; the class token's is row 0."),
        (_last_row_taken_off, "the last row was taken for the class token's; it is row 0."),
        (
            _patches_from_row_0,
            "row 0 was stretched with the patches, and the last left out; patches begin at row 1.",
        ),
        (_nearest_centre, "each place took the row nearest to its centre; interpolate between four instead."),
        (_means_of_areas, "these are means over areas; the task is bilinear, corners on corners."),
        (
            _bicubic_with_antialias,
            "this is bicubic and antialiased, edges on edges; the task is plain bilinear.",
        ),
        (_line_edges_on_edges, "the patches were stretched as one line, edges on edges; stretch a picture."),
        (
            _back_by_reshape,
            "on the way back a reshape mixes places and widths; move D behind the grid first.",
        ),
        (
            _columns_first_on_the_way_in,
            "on the way in the table runs down the columns; rows come first: (row column).",
        ),
        (_drawn_anew, "the patches' rows are drawn anew; they have to come from the old ones."),
        (_zeros, "the patches' rows are zeros; they have to come from the old ones."),
    ],
)
