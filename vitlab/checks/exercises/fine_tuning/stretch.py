"""Exercise 5.6, find the fault: a table of positions that is stretched, and becomes noise."""

import torch
import torch.nn.functional as F

from vitlab.checks.engine import FindTheFault


def _cases(generator):
    for width, old_grid, new_grid in ((4, (3, 4), (5, 6)), (6, (2, 5), (4, 3)), (5, (3, 3), (3, 7))):
        tokens = 1 + old_grid[0] * old_grid[1]
        yield torch.randn(1, tokens, width, generator=generator), old_grid, new_grid


def _right(pos_embed, old_grid, new_grid):
    """Weights of old rows and columns for each new one, by how near they are."""

    def weights(old, new):
        places = torch.linspace(0, old - 1, new)
        return (1 - (places[:, None] - torch.arange(old)).abs()).clamp(min=0)  # (new, old)

    down, across = (weights(old, new) for old, new in zip(old_grid, new_grid, strict=True))
    table = pos_embed[0, 1:].unflatten(0, old_grid)
    larger = torch.einsum("ir,jc,rcd->ijd", down, across, table).flatten(0, 1)
    return torch.cat([pos_embed[0, :1], larger])[None]


def _faulty(pos_embed, old_grid, new_grid):
    cls_row, table = pos_embed[:, :1], pos_embed[:, 1:]
    picture = table.reshape(1, -1, *old_grid)
    larger = F.interpolate(picture, size=new_grid, mode="bilinear", align_corners=True)
    rows = larger.flatten(2).transpose(1, 2)
    return torch.cat([cls_row, rows], dim=1)


def _stretched(pos_embed, old_grid, new_grid, grid=None, corners=True, mode="bilinear"):
    """Without a fault, with parts to get wrong."""
    picture = pos_embed[:, 1:].transpose(1, 2).unflatten(2, grid or old_grid)
    how = {} if mode == "nearest" else {"align_corners": corners}
    larger = F.interpolate(picture, size=new_grid, mode=mode, **how)
    return torch.cat([pos_embed[:, :1], larger.flatten(2).transpose(1, 2)], dim=1)


def _grid_turned(pos_embed, old_grid, new_grid):
    return _stretched(pos_embed, old_grid, new_grid, grid=old_grid[::-1])


def _picture_transposed(pos_embed, old_grid, new_grid):
    picture = pos_embed[:, 1:].unflatten(1, old_grid).permute(0, 3, 2, 1)
    larger = F.interpolate(picture, size=new_grid, mode="bilinear", align_corners=True)
    return torch.cat([pos_embed[:, :1], larger.flatten(2).transpose(1, 2)], dim=1)


def _read_down(pos_embed, old_grid, new_grid):
    larger = _stretched(pos_embed, old_grid, new_grid)[:, 1:].unflatten(1, new_grid)
    return torch.cat([pos_embed[:, :1], larger.transpose(1, 2).flatten(1, 2)], dim=1)


def _edge_on_edge(pos_embed, old_grid, new_grid):
    return _stretched(pos_embed, old_grid, new_grid, corners=False)


def _nearest(pos_embed, old_grid, new_grid):
    return _stretched(pos_embed, old_grid, new_grid, mode="nearest")


def _class_row_lost(pos_embed, old_grid, new_grid):
    return _stretched(pos_embed, old_grid, new_grid)[:, 1:]


def _class_row_last(pos_embed, old_grid, new_grid):
    return _stretched(pos_embed, old_grid, new_grid).roll(-1, dims=1)


def _class_row_stretched(pos_embed, old_grid, new_grid):
    return _stretched(torch.cat([pos_embed[:, :1], pos_embed[:, :-1]], dim=1), old_grid, new_grid)


def _bicubic(pos_embed, old_grid, new_grid):
    return _stretched(pos_embed, old_grid, new_grid, mode="bicubic")


def _as_a_line(pos_embed, old_grid, new_grid):
    line = pos_embed[:, 1:].transpose(1, 2)
    longer = F.interpolate(line, size=new_grid[0] * new_grid[1], mode="linear", align_corners=True)
    return torch.cat([pos_embed[:, :1], longer.transpose(1, 2)], dim=1)


def _rows_reshaped(pos_embed, old_grid, new_grid):
    picture = pos_embed[:, 1:].transpose(1, 2).unflatten(2, old_grid)
    larger = F.interpolate(picture, size=new_grid, mode="bilinear", align_corners=True)
    return torch.cat([pos_embed[:, :1], larger.reshape(1, -1, pos_embed.shape[-1])], dim=1)


EXERCISE = FindTheFault(
    id="5.6",
    title="a stretched table of positions",
    oracle=_right,
    cases=_cases,
    faulty=_faulty,
    line=2,
    mend="    picture = table.transpose(1, 2).unflatten(2, old_grid)",
    sound={
        1: "the class token's row has no place on the grid, and goes aside.",
        3: "it stretches rows and columns of a picture, and is right if it is given one.",
        4: "the grid becomes a line again, as one reads, and channels the last axis.",
        5: "the class token's row is put back in front.",
    },
    mistakes=[
        (
            _faulty,
            "the numbers of a patch are laid out like a picture: width and grid have to change places.",
        ),
        (_grid_turned, "rows and columns of the old grid are swapped: old_grid is (rows, columns)."),
        (
            _picture_transposed,
            "channels come first, but rows and columns change places: .permute(0, 3, 1, 2) keeps them.",
        ),
        (_read_down, "the larger grid is read down its columns; a line of patches is read along rows."),
        (_edge_on_edge, "align_corners was not the fault; here corners lie on corners."),
        (_nearest, "the nearest row is taken; between two old patches both count."),
        (_class_row_lost, "the class token's row is gone; it goes back in front."),
        (_class_row_last, "the class token's row is last; it comes first."),
        (
            _class_row_stretched,
            "the class token's row is stretched with the others; the last one is cut off.",
        ),
        (_bicubic, "bilinear was not the fault; this is bicubic."),
        (_as_a_line, "the table is stretched as one line; it has rows and columns."),
        (_rows_reshaped, "line 4 is reshaped, too: it was right, channels have to become the last axis."),
    ],
)
