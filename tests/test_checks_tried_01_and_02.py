"""Lessons 01 and 02 as learners answer them: right in another style, and wrong by one slip or by two at once.

Whatever is wrong is refused, and the cause that is named is one of the slips made, or none; what is right is
accepted, whatever it is made with.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from tried_answers import Slips, name_of

from vitlab import checks

# --- right, in other styles --------------------------------------------------------------------------------

RIGHT = [
    ("1.1", lambda x, p: F.unfold(x.float(), p, stride=p).mT),
    ("1.1", lambda x, p: F.unfold(x.float(), p, stride=p).mT.to(x.dtype)),
    ("1.1", lambda x, p: F.unfold(x.double(), p, stride=p).mT),
    ("1.1", lambda x, p: F.conv2d(x.float(), _pickers(x.shape[1], p), stride=p).flatten(2).mT),
    ("1.1", lambda x, p: torch.tensor(rearrange(x, PATCHES, p=p, q=p).tolist())),
    ("1.1", lambda x, p: torch.from_numpy(rearrange(x.numpy(), PATCHES, p=p, q=p).copy())),
    ("1.1", lambda x, p: torch.cat([torch.stack(r.split(p, 3), 1).flatten(2) for r in x.split(p, 2)], 1)),
    ("1.2", lambda x, p, size, c: F.fold(x.float().mT, size, p, stride=p)),
    ("1.2", lambda x, p, size, c: F.fold(x.float().mT, size, p, stride=p).to(x.dtype)),
    ("1.2", lambda x, p, size, c: F.fold(x.double().mT, size, p, stride=p)),
    ("1.2", lambda x, p, size, c: F.pixel_shuffle(x.mT.unflatten(2, [n // p for n in size]), p)),
    ("1.2", lambda x, p, size, c: _filled(x, p, size, torch.zeros(len(x), c, *size))),
    ("1.2", lambda x, p, size, c: _filled(x, p, size, torch.zeros(len(x), c, *size, dtype=torch.float64))),
    ("1.3", lambda i, size, p: torch.tensor(divmod(i, size[1] // p)) * p),
    ("1.3", lambda i, size, p: np.array(divmod(i, size[1] // p)) * p),
    ("1.3", lambda i, size, p: [n * p for n in divmod(i, size[1] // p)]),
    ("1.3", lambda i, size, p: (i * p // size[1] * p, i * p % size[1])),
    ("1.4", lambda size, p, c: torch.tensor(_counts(size, p, c))),
    ("1.4", lambda size, p, c: np.array(_counts(size, p, c))),
    ("2.1", lambda x, w, b: F.conv2d(x.double(), w.double(), b.double(), stride=w.shape[-1]).flatten(2).mT),
    ("2.1", lambda x, w, b: F.conv2d(x.float(), w.float(), b.float(), stride=w.shape[-1]).flatten(2).mT),
    ("2.1", lambda x, w, b: F.unfold(x.float(), w.shape[2], stride=w.shape[2]).mT @ w.flatten(1).mT + b),
    (
        "2.1",
        lambda x, w, b: F.linear(rearrange(x.float(), PATCHES, p=w.shape[2], q=w.shape[2]), w.flatten(1), b),
    ),
    ("2.1", lambda x, w, b: F.conv2d(x, w, b)[:, :, :: w.shape[2], :: w.shape[3]].flatten(2).mT),
    ("2.2", lambda x, c, e: (torch.cat([repeat(c, "1 1 d -> b 1 d", b=len(x)), x], 1) + e).double()),
    ("2.2", lambda x, c, e: (torch.cat([c.expand(len(x), -1, -1), x], 1) + e).float()),
    ("2.2", lambda x, c, e: torch.vstack([torch.cat([c, one[None]], 1) + e for one in x])),
    ("2.3", lambda e, grid, i: F.cosine_similarity(e[0, 1:].double(), e[0, 1 + i].double()).view(grid)),
    ("2.3", lambda e, grid, i: torch.tensor(F.cosine_similarity(e[0, 1:], e[:, 1 + i]).tolist()).view(grid)),
    ("2.4", lambda e, old, new: torch.cat([e[:, :1].double(), _stretched(e.double(), old, new)], 1)),
    ("2.4", lambda e, old, new: torch.cat([e[:, :1].float(), _stretched(e.float(), old, new)], 1)),
]
PATCHES = "b c (h p) (w q) -> b (h w) (c p q)"


def _pickers(channels, patch_size):
    """Kernels that each pick one number of a patch."""
    length = channels * patch_size**2
    return torch.eye(length).view(length, channels, patch_size, patch_size)


def _filled(patches, p, size, images):
    """The images with each patch written in its place, whatever their dtype."""
    columns = size[1] // p
    for i in range(patches.shape[1]):
        top, left = i // columns * p, i % columns * p
        images[:, :, top : top + p, left : left + p] = patches[:, i].unflatten(1, (-1, p, p))
    return images


def _counts(size, p, channels):
    number = (size[0] // p) * (size[1] // p)
    return number, p * p * channels, (number + 1) ** 2


def _stretched(table, old, new):
    picture = rearrange(table[:, 1:], "1 (h w) d -> 1 d h w", h=old[0])
    return F.interpolate(picture, size=new, mode="bilinear", align_corners=True).flatten(2).mT


@pytest.mark.parametrize(("id", "answer"), RIGHT)
@pytest.mark.parametrize("seed", [0, 1])
def test_other_styles_and_precisions_are_right(id, answer, seed):
    verdict = checks.verdict(id, answer, seed)
    assert verdict.status == "correct", verdict


# --- what bytes, precision and small differences may not hide ----------------------------------------------


@pytest.mark.parametrize(
    ("id", "answer", "words"),
    [
        ("1.1", lambda x, p: F.unfold(x, p, stride=p).mT, "`F.unfold` takes floats alone"),
        ("1.2", lambda x, p, size, c: F.fold(x.mT, size, p, stride=p), "`F.fold` takes floats alone"),
        ("1.1", lambda x, p: rearrange(x, PATCHES, p=p, q=p).half(), "values differ"),
        ("1.1", lambda x, p: rearrange(x, PATCHES, p=p, q=p) * (1 + 1e-6), "close, but not within"),
        ("1.1", lambda x, p: rearrange(x, PATCHES, p=p, q=p) > 0, "bool, wanted"),
        ("1.3", lambda i, size, p: (i // (size[1] // p) * p + 0.0, i % (size[1] // p) * p), "wanted an int"),
        ("1.3", lambda i, size, p: torch.tensor([0, i * p, p]), "has 3 items, wanted 2"),
        ("1.4", lambda size, p, c: torch.tensor(_counts(size, p, c)).float(), "wanted an int"),
        ("2.3", lambda e, grid, i: torch.ones(grid).int(), "int32, wanted"),
    ],
)
def test_bytes_dtypes_and_small_differences_are_told(id, answer, words):
    verdict = checks.verdict(id, answer)
    assert verdict.status == "not yet"
    assert words in verdict.message, verdict


def test_whole_numbers_are_exact_however_large():
    def one_off(size, p, channels):
        number, length, entries = _counts(size, p, channels)
        return number, length, entries + (entries > 30_000)

    assert checks.verdict("1.4", one_off).status == "not yet"


# --- slips -------------------------------------------------------------------------------------------------

slips = Slips(cancel={("1.3", "one", "ahead")})


@slips(
    "1.1",
    inside="P, P, C",
    down="down the columns|exchanged",
    turned="transposed|exchanged",
    spread="wrong way round",
    reshaped="reshape|runs",
    parts="P parts",
    one="first image",
    row="joined into one long",
    last="last two axes",
    scaled="scaled",
    pictures="still a picture",
    apart="two axes",
    overlapping="overlap",
    ahead="N, B",
)
def patchify(
    x, p, *, inside=0, down=0, turned=0, spread=0, reshaped=0, parts=0, one=0, row=0, last=0, scaled=0,
    pictures=0, apart=0, overlapping=0, ahead=0,
):  # fmt: skip
    left = "(p h) (q w)" if spread else "(h p) (w q)"
    what = ("(q p c)" if turned else "(p q c)") if inside else ("(c q p)" if turned else "(c p q)")
    what = what.strip("()") if pictures else what
    where = "w h" if down else "h w"
    where = where if apart else f"({where})"
    sides = dict(h=p, w=p) if parts else dict(p=p, q=p)
    if overlapping:
        x = x.unfold(2, p, 1).unfold(3, p, 1).permute(0, 1, 2, 4, 3, 5).flatten(4).flatten(2, 3)
    patches = rearrange(x, f"b c {left} -> b {where} {what}", **sides)
    if reshaped:
        patches = x.reshape(patches.shape)
    patches = patches[0] if one else patches
    patches = patches / 255 if scaled else patches
    patches = patches.transpose(0, 1) if ahead else patches
    patches = patches.flatten(1) if row else patches
    return patches.transpose(-1, -2) if last else patches


@slips(
    "1.2",
    inside="P, P, C",
    down="down the columns|transposed|exchanged",
    turned="transposed|exchanged",
    spread="wrong way round",
    reshaped="reshape",
    swapped="swapped|square",
    one="first image",
    end="at the end",
)
def unpatchify(x, p, size, c, *, inside=0, down=0, turned=0, spread=0, reshaped=0, swapped=0, one=0, end=0):
    size = size[::-1] if swapped else size
    what = ("(q p c)" if turned else "(p q c)") if inside else ("(c q p)" if turned else "(c p q)")
    where, grid = ("(w h)" if down else "(h w)"), "(p h) (q w)" if spread else "(h p) (w q)"
    right = f"b {grid} c" if end else f"b c {grid}"
    images = rearrange(x, f"b {where} {what} -> {right}", h=size[0] // p, p=p, q=p)
    images = x.reshape(images.shape) if reshaped else images
    return images[0] if one else images


@slips(
    "1.3",
    patches="in patches",
    rows="rows|columns",
    pixels="divides by",
    swapped="column, row|row comes first|columns|rows",
    one="from 1|counts from 0",
    ahead="next|from 0",
    centre="centre",
    last="lower right",
    below="below",
    half="still counted",
)
def corner(
    i, size, p, *, patches=0, rows=0, pixels=0, swapped=0, one=0, ahead=0, centre=0, last=0, below=0, half=0
):
    i = i - one + ahead
    per_row = size[1 - rows] // (1 if pixels else p)
    top, left = i // per_row, i % per_row
    top = size[0] // p - 1 - top if below else top
    top, left = (top, left) if patches else (top if half else top * p, left * p)
    top, left = top + centre * (p // 2), left + centre * (p // 2)
    top, left = top + last * (p - 1), left + last * (p - 1)
    return (left, top) if swapped else (top, left)


@slips(
    "1.4",
    patches="forgotten|class token",
    after="N² \\+ 1",
    grey="channels are forgotten",
    side="P·C|P · P",
    once="P once",
    square="square",
    tokens="N counts|counted in N",
    row="one row|rows of",
    channels="whatever a token",
    order="exchanged",
    pixels="pixels",
)
def count(
    size, p, c, *, patches=0, after=0, grey=0, side=0, once=0, square=0, tokens=0, row=0, channels=0,
    order=0, pixels=0,
):  # fmt: skip
    number = (size[0] // p) * (size[0 if square else 1] // p)
    number = size[0] * size[1] // p if once else size[0] * size[1] if pixels else number
    length = (p if side else p * p) * (1 if grey else c)
    entries = number**2 if patches or after else (number + 1) ** (1 if row else 2)
    entries = (entries + bool(after)) * (c if channels else 1)
    return (length, number, entries) if order else (number + bool(tokens), length, entries)


@slips(
    "2.1",
    biasless="bias was forgotten",
    twice="twice",
    width="B, D, N|transposing",
    reshaped="reshape",
    down="down the columns",
    turned="transposed",
    flipped="flipped",
    dense="overlap",
    grid="still two axes",
    joined="one sequence",
    channels="the channels",
    ahead="N, B",
    inside="different orders",
)
def project(
    x, w, b, *, biasless=0, twice=0, width=0, reshaped=0, down=0, turned=0, flipped=0, dense=0, grid=0,
    joined=0, channels=0, ahead=0, inside=0,
):  # fmt: skip
    step = 1 if dense else w.shape[1] if channels else w.shape[-1]
    d, c, p, _ = w.shape
    w = w.mT if turned else w.flip(2, 3) if flipped else w
    w = w.reshape(d, p, p, c).permute(0, 3, 1, 2) if inside else w
    y = F.conv2d(x, w, None if biasless else b * (1 + twice), stride=step)
    if grid:
        return y.permute(0, 3, 2, 1) if down else y.permute(0, 2, 3, 1)
    y = (y.mT if down else y).flatten(2)
    tokens = y if width else y.reshape(len(x), -1, d) if reshaped else y.mT
    tokens = tokens.flatten(0, 1) if joined else tokens
    return tokens.transpose(0, 1) if ahead else tokens


@slips(
    "2.2",
    end="at the end",
    unplaced="positions? .*not added",
    bare="got no position",
    early="off by one",
    tokenless="no class token",
    twice="twice",
    empty="not the class token",
    alone="only the first image got",
    mean="mean of the patches",
    all="every token got row 0",
    product="multiplied",
    minus="subtracted",
    one="only the first image is left",
    rooted="scaled",
)
def to_sequence(
    x, c, e, *, end=0, unplaced=0, bare=0, early=0, tokenless=0, twice=0, empty=0, alone=0, mean=0, all=0,
    product=0, minus=0, one=0, rooted=0,
):  # fmt: skip
    front = x.mean(1, keepdim=True) if mean else c.expand(len(x), -1, -1).clone()
    front = front * 0 if empty else front
    if alone:
        front[1:] = 0
    e = e[:, :1].expand_as(e) if all else e
    e = e * (1 + twice) * (-1 if minus else 1)
    e = torch.cat([e[:, :1] * 0, e[:, :-1] if early else e[:, 1:]], 1) if early or bare else e
    tokens = torch.cat([x, front] if end else [front, x], 1)
    tokens = tokens * x.shape[-1] ** 0.5 if rooted else tokens
    tokens = tokens if unplaced else tokens * e if product else tokens + e
    tokens = tokens[:, 1:] if tokenless else tokens
    return tokens[:1] if one else tokens


@slips(
    "2.3",
    off="one off|off by",
    index="chosen row does not|row 1 \\+ i|by two",
    dot="dot product",
    half="only one of the two",
    root="√D",
    columns="each column",
    one="one length",
    down="down the columns",
    swapped="swapped",
    flat="in a line",
    distance="1 minus",
    sign="sign is gone",
    square="squared",
    share="softmax",
    mean="mean is taken off",
)
def similarity(
    e, grid, i, *, off=0, index=0, dot=0, half=0, root=0, columns=0, one=0, down=0, swapped=0, flat=0,
    distance=0, sign=0, square=0, share=0, mean=0,
):  # fmt: skip
    e = e - e.mean(-1, keepdim=True) if mean else e
    table = e[0, :-1] if off else e[0, 1:]
    chosen = e[0, i] if index else table[i]
    unit = F.normalize(table, dim=0 if columns else -1)
    mine = unit[i] if columns else F.normalize(chosen, dim=-1)
    if dot or root:
        unit, mine = table, chosen / (table.shape[-1] ** 0.5 if root else 1)
    if half and not root:
        mine = chosen
    if one:
        unit, mine = table / table.norm(), chosen / table.norm()
    x = unit @ mine
    x = x.abs() if sign else x**2 if square else x
    x = 1 - x if distance else x
    x = x.softmax(0) if share else x
    if flat:
        return x
    return x.reshape(grid[::-1]).mT if down else x.reshape(grid[::-1] if swapped else grid)


@slips(
    "2.4",
    edges="edges on edges|edges",
    cubic="bicubic",
    nearest="nearest",
    line="one line|in a line",
    tokenless="missing",
    end="at the end",
    before="old grid",
    after="new grid are swapped",
    reshaped="as if D came first|mixes",
    back="way back",
    down="way in",
    empty="emptied",
    twice="twice",
    picture="still the picture",
)
def resize(
    e, old, new, *, edges=0, cubic=0, nearest=0, line=0, tokenless=0, end=0, before=0, after=0, reshaped=0,
    back=0, down=0, empty=0, twice=0, picture=0,
):  # fmt: skip
    old_grid, new_grid = old[::-1] if before else old, new[::-1] if after else new
    patches, front = e[:, 1:], e[:, :1] * (0 if empty else 1)
    mode = "nearest" if nearest else "bicubic" if cubic else "bilinear"
    corners = {} if nearest else dict(align_corners=not edges)
    if line:
        size = new_grid[0] * new_grid[1]
        table = F.interpolate(patches.mT, size=size, mode="linear", align_corners=not edges).mT
    else:
        order = "1 (w h) d -> 1 d h w" if down else "1 (h w) d -> 1 d h w"
        table = patches.reshape(1, -1, *old_grid) if reshaped else rearrange(patches, order, h=old_grid[0])
        table = F.interpolate(table, size=new_grid, mode=mode, **corners)
        if picture:
            return table
        table = (table.mT if back else table).flatten(2).mT
    front = front.repeat(1, 1 + twice, 1)
    return table if tokenless else torch.cat([table, front] if end else [front, table], 1)


# --- tests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("id", "answer", "words"), slips.answers, ids=slips.ids)
def test_without_a_slip_it_is_right(id, answer, words):
    assert slips.verdict(id, answer).status == "correct"
    assert len(words) >= 8


@pytest.mark.parametrize("single", slips.single, ids=name_of)
def test_a_slip_is_refused_and_its_cause_is_told(single):
    slips.refused(*single, told=True)


@pytest.mark.parametrize("id", dict.fromkeys(slips.ids))
def test_of_two_slips_one_is_told_or_none(id):
    """Every fifth pair; all of them were tried when this was written."""
    for pair in slips.pairs(id, every=5):
        slips.refused(*pair)
