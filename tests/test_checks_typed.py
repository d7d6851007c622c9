"""Answers as learners type them in lessons 01 to 03: what a verdict has to say of the slip."""

import math
import re
import textwrap

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

import vitlab
from vitlab import checks

KNOWN = dict(math=math, np=np, torch=torch, F=F, rearrange=rearrange, vitlab=vitlab, PATCH_SIZE=4)

HEADS = {
    "1.1": "patchify(images, patch_size)",
    "1.2": "unpatchify(patches, patch_size, image_size, channels)",
    "1.4": "count(image_size, patch_size, channels)",
    "1.5": "mended(images, index, patch_size)",
    "2.1": "project(images, weight, bias)",
    "2.2": "to_sequence(patches, cls_token, pos_embed)",
    "2.3": "similarity_map(pos_embed, grid, index)",
    "2.4": "resize(pos_embed, old_grid, new_grid)",
    "2.5": "mended(rows, columns, width)",
    "3.0": "construct(aim)",
    "3.1": "attention_weights(queries, keys)",
    "3.3": "encoder_block(x, norm1, attention, norm2, mlp)",
    "3.4": "vit_parameters(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim)",
}

PICTURE = "x = pos_embed[:, 1:].reshape(1, *old_grid, -1).permute(0, 3, 1, 2)"
BILINEAR = 'mode="bilinear", align_corners=True'
BACK = "return torch.cat([pos_embed[:, :1], x.flatten(2).mT], 1)"
TABLE = """
    rates = 10_000 ** (-torch.arange(width // 4) / (width // 4 - 1))
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    down, across = places[:, :1] * rates, places[:, 1:] * rates
    return torch.cat([down.sin(), down.cos(), across.sin(), across.cos()], dim={dim})"""
SCORES = "s = queries @ keys.mT / queries.shape[-1] ** 0.5"
ALL_PARAMETERS = """
    D, N = embed_dim, (image_size[0] // patch_size) * (image_size[1] // patch_size)
    norm, qkv, proj = {norm}, 3 * (D * D + D), D * D + D
    fc1, fc2 = D * mlp_dim + mlp_dim, mlp_dim * D + {fc2_bias}
    block = 2 * norm + qkv + proj + fc1 + fc2
    tokens = (channels * patch_size**2 + 1) * D + D + (N + 1) * D
    return tokens + depth * block + 2 * D + {head}"""
PARAMETERS = dict(norm="2 * D", fc2_bias="D", head="(D + 1) * num_classes")
HEAD = """
    cos, W_q, W_k = math.cos(math.pi / 4), torch.zeros(5, 2), torch.zeros(5, 2)
    if aim == "left":
        W_q[1:3], W_k[1:3] = {size} * torch.tensor([[cos, -cos], [cos, cos]]), torch.eye(2)
    elif aim == "alike":
        W_q[0, 0], W_k[0, 0] = {size}, 1
    else:
        W_q[4, 0], W_k[{key}, 0] = {size}, 1
    return W_q, W_k"""

WRONG = [
    (
        "1.1",
        """
        B, C, H, W = images.shape
        n = H // patch_size
        x = images.reshape(B, C, n, patch_size, n, patch_size)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(B, n * n, -1)""",
        "taken for a square",
    ),
    ("1.1", "return vitlab.patchify(images, 4)", "4 × 4 whatever is asked for|stopped with"),
    (
        "1.1",
        "return vitlab.patchify(images, patch_size).numpy()",
        r"NumPy array \(2, 6, 32\) float32, .*from_numpy",
    ),
    ("1.1", "return list(vitlab.patchify(images, patch_size))", r"torch\.stack"),
    (
        "1.2",
        """
        H, W = image_size
        x = patches.reshape(-1, H // patch_size, W // patch_size, channels, patch_size, patch_size)
        return x.permute(0, 3, 1, 2, 4, 5).reshape(-1, channels, H, W)""",
        r"\(row, P, column, P\)",
    ),
    ("1.2", "return F.fold(patches, image_size, patch_size, stride=patch_size)", "swap the last two axes"),
    ("1.2", "return F.fold(patches.mT, image_size, patch_size)", "`stride` is P"),
    (
        "1.4",
        """
        N = image_size[0] * image_size[1] // patch_size
        return N, patch_size * channels, (N + 1) ** 2""",
        "taken for P pixels",
    ),
    (
        "1.4",
        """
        N = image_size[0] * image_size[1] // patch_size ** 2
        return N, patch_size ^ 2 * channels, (N + 1) ^ 2""",
        r"`\^` is no power",
    ),
    (
        "1.5",
        """
        row, column = divmod(index, images.shape[1] // patch_size)
        top, left = row * patch_size, column * patch_size
        covered = images.clone()
        covered[:, :, top : top + patch_size, left : left + patch_size] = 0
        return covered""",
        r"`shape\[1\]` are the channels",
    ),
    ("2.1", "return F.conv2d(images, weight, bias, stride=4).flatten(2).mT", "the step is 4"),
    (
        "2.1",
        "return vitlab.patchify(images, weight.shape[-1]) @ weight.flatten(1) + bias",
        r"weight\.flatten\(1\)\.T",
    ),
    (
        "2.2",
        "return torch.cat([cls_token.expand(len(patches), -1, -1), patches], dim=2) + pos_embed",
        "along the width",
    ),
    (
        "2.2",
        "return torch.cat([cls_token.expand(len(patches), -1, -1), patches], dim=-1) + pos_embed",
        "along the width",
    ),
    ("2.3", "t = F.normalize(pos_embed)[0, 1:]\nreturn (t @ t[index]).view(grid)", "each row: dim=-1"),
    (
        "2.3",
        "t = pos_embed[0, 1:]\nreturn (t @ t[index] / t.norm(dim=-1) ** 2).view(grid)",
        "each other row's length twice",
    ),
    (
        "2.3",
        """
        t = F.normalize(pos_embed[0, 1:], dim=-1)
        n = int(len(t) ** 0.5)
        return (t @ t[index]).view(n, n)""",
        "taken for a square",
    ),
    ("2.3", "return [[1.0]]", r"torch\.tensor"),
    (
        "2.4",
        f"""
        x = pos_embed[:, 1:].reshape(1, *old_grid, pos_embed.shape[-1]).permute(0, 3, 2, 1)
        x = F.interpolate(x, new_grid, {BILINEAR})
        {BACK}""",
        "on its side",
    ),
    (
        "2.4",
        f"""
        x = pos_embed[:, 1:].unflatten(1, old_grid)
        x = F.interpolate(x, new_grid, {BILINEAR})
        return torch.cat([pos_embed[:, :1], x.flatten(1, 2)], 1)""",
        "D is still last",
    ),
    (
        "2.4",
        f"""
        D, n = pos_embed.shape[-1], int((pos_embed.shape[1] - 1) ** 0.5)
        x = pos_embed[:, 1:].reshape(1, n, n, D).permute(0, 3, 1, 2)
        x = F.interpolate(x, new_grid, {BILINEAR})
        {BACK}""",
        "taken for a square",
    ),
    (
        "2.4",
        f"""
        {PICTURE.replace("-1)", "pos_embed.shape[-1])")}
        x = F.interpolate(x, new_grid, {BILINEAR}, antialias=True)
        {BACK}""",
        "antialiased",
    ),
    (
        "2.4",  # right, but for a matrix in single precision that meets a table in double
        f"""
        {PICTURE.replace("-1)", "pos_embed.shape[-1])")}
        x = F.interpolate(x, new_grid, {BILINEAR}).flatten(2).mT
        return torch.cat([pos_embed[:, :1], x @ torch.eye(x.shape[-1])], 1)""",
        "two dtypes meet",
    ),
    ("2.5", TABLE.format(dim=0), "below each other"),
    ("3.0", HEAD.format(size=1.0, key=3), "make the numbers larger"),
    ("3.0", HEAD.format(size=40.0, key=4), "all keys are alike"),
    ("3.1", f"{SCORES}\ne = (s - s.max()).exp()\nreturn e / e.sum()", "all images' scores at once"),
    (
        "3.1",
        f"{SCORES}\ne = s.clamp(max=80).exp()\nreturn e / e.sum(-1, keepdim=True)",
        "large scores are cut off",
    ),
    (
        "3.1",
        f"{SCORES}\ne = (s - s.max(dim=-1, keepdim=True)).exp()\nreturn e / e.sum(-1, keepdim=True)",
        r"`\.values`",
    ),
    ("3.3", "x = x - attention(norm1(x))\nreturn x - mlp(norm2(x))", "is subtracted"),
    ("3.4", ALL_PARAMETERS.format(**PARAMETERS | dict(fc2_bias="mlp_dim")), "bias of fc2"),
    ("3.4", ALL_PARAMETERS.format(**PARAMETERS | dict(norm="2 * D * (N + 1)")), "share their two vectors"),
    (
        "3.4",
        ALL_PARAMETERS.format(**PARAMETERS | dict(head="(N + 1) * D * num_classes + num_classes")),
        "reads all tokens",
    ),
]

RIGHT = [
    ("1.2", "return F.fold(patches.mT.double(), image_size, patch_size, stride=patch_size)"),
    (
        "1.2",
        """
        columns = image_size[1] // patch_size
        tiles = [patch.view(-1, channels, patch_size, patch_size) for patch in patches.unbind(1)]
        rows = [torch.cat(tiles[i : i + columns], -1) for i in range(0, len(tiles), columns)]
        return torch.cat(rows, -2)""",
    ),
    (
        "2.1",
        """
        x = images.unfold(2, weight.shape[2], weight.shape[2]).unfold(3, weight.shape[3], weight.shape[3])
        return torch.einsum("bcijpq,dcpq->bijd", x, weight).flatten(1, 2) + bias""",
    ),
    ("2.2", "x = F.pad(patches, (0, 0, 1, 0))\nx[:, :1] = cls_token\nreturn x + pos_embed"),
    ("2.5", TABLE.format(dim=1)),
    ("3.0", HEAD.format(size=40.0, key=3)),
    ("3.1", f"{SCORES}\nreturn (s - s.logsumexp(-1, keepdim=True)).exp()"),
    ("3.3", "for norm, layer in ((norm1, attention), (norm2, mlp)):\n    x = x + layer(norm(x))\nreturn x"),
    ("3.4", ALL_PARAMETERS.format(**PARAMETERS)),
]


def verdict(id: str, body: str):
    """What is said of a function of this body, the line of a fault being named rightly."""
    names = dict(KNOWN)
    body = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    exec(f"def {HEADS[id]}:\n{body}", names)
    answer = names[HEADS[id].partition("(")[0]]
    return checks.verdict(id, ({"1.5": 1, "2.5": 2}[id], answer) if id in ("1.5", "2.5") else answer)


@pytest.mark.parametrize(("id", "body", "words"), WRONG, ids=[f"{id}-{words}" for id, _, words in WRONG])
def test_a_typed_slip_is_refused_and_its_cause_is_told(id, body, words):
    found = verdict(id, body)
    assert found.status == "not yet"
    assert re.search(words, found.message), found


@pytest.mark.parametrize(("id", "body"), RIGHT, ids=[id for id, _ in RIGHT])
def test_right_answers_in_other_styles_are_right(id, body):
    assert verdict(id, body).status == "correct"


def test_a_warning_is_not_taken_for_something_printed():
    body = 'import warnings\nwarnings.warn("mind this")\nreturn vitlab.patchify(images, patch_size) + 1'
    assert "printed" not in verdict("1.1", body).message
    assert "printed" in verdict("1.1", "print(images.shape)\nreturn images").message


def test_a_power_sign_is_told_only_where_it_stands():
    assert "power" not in verdict("1.4", "return 1, 2, 3 ** channels").message
