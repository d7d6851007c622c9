"""Answers as learners type them in lessons 04b and 07 and to the tasks of 04 to 06: what is said of them."""

import math
import re
import textwrap

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vitlab
from vitlab import checks

HEADS = {
    "4.4": "shortest()",
    "4.5": "diagnose(losses, norm_scale, tokens, head_width)",
    "4.6": "colour_class(patches)",
    "5.7": "name_them(images, labels, new_images)",
    "6.6": "my_map(images, weights)",
    "7.1": "prepare(picture, size)",
    "7.2": "normalised(images, mean, std)",
    "7.3": "to_pixels(maps, patch_size)",
    "7.4": "asked_map(attention, gradient, grid_size)",
}

PLAIN = {  # right, in the plainest way; what follows changes one thing
    "4.5": """
        if tokens < 10: return "patch too large"
        if head_width < 10: return "heads too thin"
        if norm_scale < 0.8: return "norms decayed"
        if losses[:10].max() > 2.7: return "no warm-up"
        return "rate too high" if losses[-10:].mean() > 1.3 else "healthy" """,
    "4.6": """
        B, N, L = patches.shape
        m = patches.reshape(B, N, 3, L // 3).mean(-1)
        level = ((m + 1) * 4).long().clamp(max=7)
        return level[..., 0] + 8 * level[..., 1] + 64 * level[..., 2]""",
    "7.1": """
        C, H, W = picture.shape
        side = min(H, W)
        top, left = (H - side) // 2, (W - side) // 2
        square = picture[:, top : top + side, left : left + side].float()
        f = side // size
        small = square.reshape(C, size, f, size, f).mean((2, 4))
        return small / 127.5 - 1""",
    "7.2": """
        x = images.float() / 255
        m, s = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
        return (x - m) / s""",
    "7.3": """
        B, h, w = maps.shape
        x = maps[:, None]
        x = F.interpolate(x, scale_factor=patch_size, mode="bilinear")
        return x[:, 0]""",
    "7.4": """
        x = (attention * gradient).clamp(min=0).mean(1)
        return x[:, 0, 1:].reshape(-1, *grid_size)""",
}

SLIPS = [  # (exercise, what is changed, into what, words of the cause)
    ("4.5", '"healthy"', '"Healthy"', "spelling"),
    ("4.5", '"no warm-up"', '"no warmup"', "spelling"),
    ("4.5", '"healthy" ', '["healthy"]', "wanted the text 'healthy'"),
    ("4.5", "head_width < 10", "head_width == 2", "heads of 1 number"),
    ("4.5", "norm_scale < 0.8", "norm_scale < 1.5", "healthy norms are called decayed"),
    ("4.6", "((m + 1) * 4)", "(m * 4)", "below zero get levels below 0"),
    ("4.6", "((m + 1) * 4)", "(m * 4 + 1)", "added after multiplying"),
    ("4.6", "((m + 1) * 4)", "(m + 1 * 4)", "brackets around mean"),
    ("4.6", ".mean(-1)", ".mean(2)", "over the colours"),
    ("4.6", ".mean(-1)", ".sum(-1)", "pixels are added"),
    ("4.6", "(B, N, 3, L // 3).mean(-1)", "(B, 3, N, L // 3).mean(-1).mT", "mixes these"),
    ("4.6", "patches.reshape", "(patches / 255).reshape", "divides by 255"),
    ("4.6", "clamp(max=7)", "remainder(8)", "went round"),
    ("4.6", "clamp(max=7)", "clamp(min=7)", "7 is the largest"),
    ("4.6", "64 *", "16 *", "weighed with 16"),
    ("4.6", "64 *", "8**3 *", "its weight is 64"),
    ("4.6", "8 * level[..., 1] + 64", "7 * level[..., 1] + 49", "levels 0 to 7 are eight"),
    ("7.1", "(H - side) // 2, (W - side) // 2", "(W - side) // 2, (H - side) // 2", "no square"),
    ("7.1", "C, H, W =", "H, W, C =", r"\(H, W, C\)"),
    ("7.1", "side = min", "side = max", "longer side"),
    ("7.1", "127.5 - 1", "127.5 + 1", "subtract it"),
    ("7.1", "127.5 - 1", "255 - 0.5", "twice as wide"),
    ("7.1", "small / 127.5", "small // 127.5", "`//`"),
    ("7.1", ".float()", "", r"`\.float\(\)` first"),
    ("7.1", ".float()", ".float() / 127.5 - 1", "twice; once"),
    ("7.1", "picture[:, top", "picture.flip(0)[:, top", "reverse order"),
    ("7.1", ".mean((2, 4))", ".sum((2, 4))", "are added"),
    ("7.1", ".mean((2, 4))", ".mean((1, 3))", "over all blocks"),
    ("7.1", "(C, size, f, size, f).mean((2, 4))", "(C, size, size, f, f).mean((3, 4))", "beside each other"),
    ("7.1", "return small / 127.5 - 1", "return (small / 127.5 - 1)[None]", "an axis too many"),
    ("7.1", "return small / 127.5 - 1", "return (small / 127.5 - 1).permute(1, 2, 0)", "channels are last"),
    ("7.1", "small / 127.5 - 1", "(small - small.mean()) / small.std()", "own mean"),
    (
        "7.1",
        "small / 127.5 - 1",
        "vitlab.data.normalise(vitlab.data.fit_picture(picture, size))",
        "as files are read",
    ),
    ("7.2", ".view(1, -1, 1, 1)", ".view(-1, 1, 1, 1)", "first axis"),
    ("7.2", ".view(1, -1, 1, 1)", ".view(1, 1, -1, 1)", "meet the rows"),
    ("7.2", "/ s", "/ s.sqrt()", "root of std"),
    ("7.2", "(x - m) / s", "(x - x.mean()) / x.std()", "all these pixels"),
    (
        "7.2",
        "(x - m) / s",
        "(x - x.mean((0, 2, 3), True)) / x.std((0, 2, 3), keepdim=True)",
        "each channel's own",
    ),
    ("7.2", "(x - m) / s", "(x - mean[0]) / std[0]", "first channel's"),
    ("7.2", "(x - m) / s", "(x - m) / s * 2 - 1", "another range"),
    ("7.2", "(x - m) / s", "((x - m) / s).clamp(0, 1)", r"cut to \[0, 1\]"),
    ("7.2", "(x - m) / s", "((x - m) / s)[0]", "first image"),
    ("7.2", "(x - m) / s", "(x - m) / s * 255", "multiplied by 255"),
    ("7.2", "images.float()", "images.flip(1).float()", "images' channels"),
    ("7.2", "images.float() / 255", "images.float() / images.max()", "largest byte"),
    ("7.2", "(mean, std)", "((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))", "ImageNet's"),
    (
        "7.2",
        "return (x - m) / s",
        "for c in range(len(mean)):\n            x[c] = (x[c] - mean[c]) / std[c]\n        return x",
        "is image c",
    ),
    ("7.3", "maps[:, None]", "maps", "four axes"),
    (
        "7.3",
        "x = maps[:, None]",
        'return F.interpolate(maps, None, patch_size, "linear")',
        "columns are enlarged",
    ),
    ("7.3", "x[:, 0]", "x[:, 0].mT", "change places"),
    (
        "7.3",
        "x = maps[:, None]",
        "size = h * patch_size, w * patch_size\n"
        '        return F.interpolate(maps.reshape(B, 1, w, h), size, mode="bilinear")[:, 0]',
        r"map is read as \(w, h\)",
    ),
    ("7.3", "scale_factor=patch_size", "size=h * patch_size", "one size"),
    ("7.3", "scale_factor=patch_size", "size=patch_size", "patch_size wide in all"),
    ("7.3", "scale_factor=patch_size", "scale_factor=4", "enlarged 4 times"),
    ("7.3", "x[:, 0]", "F.interpolate(maps[None], scale_factor=patch_size, mode='bilinear')", "one image"),
    (
        "7.3",
        "x = maps[:, None]",
        "x = (maps - maps.min())[:, None] / (maps.max() - maps.min())",
        "stretched to",
    ),
    ("7.4", ".clamp(min=0)", ".clamp(0, 1)", "above 1 is cut"),
    ("7.4", "[:, 0, 1:]", "[:, -1, :-1]", "last token"),
    ("7.4", "[:, 0, 1:]", "[:, 1, 1:]", "first patch"),
    ("7.4", "[:, 0, 1:]", "[:, :, 1:].mean(1)", "all tokens"),
    ("7.4", "gradient)", "gradient.mean((2, 3), keepdim=True))", "Grad-CAM"),
    ("7.4", ".mean(1)", ".mean(0)", "over the images"),
    ("7.4", ".mean(1)", ".median(1).values", "median"),
    ("7.4", ".clamp(min=0)", ".square()", "squared"),
    ("7.4", "attention * gradient", "attention / gradient", "divided by the gradient"),
    ("7.4", "attention *", "attention.softmax(-1) *", "another softmax"),
    ("7.4", "return x", "x = x.softmax(-1)\n        return x", "softmax is taken of the rows"),
    ("7.4", "return x", "x = x / x.sum(-1, keepdim=True)\n        return x", "row is divided"),
    ("7.4", "(-1, *grid_size)", "(-1, *grid_size[::-1]).mT", "down the columns"),
    ("7.4", "(-1, *grid_size)", "(-1, 12, 12)", "12 × 12"),
    ("7.4", "(-1, *grid_size)", "(-1, *2 * [math.isqrt(x.shape[-1] - 1)])", "for a square"),
    ("7.4", "grid_size)", "grid_size)[0]", "first image"),
]

RIGHT = [
    (
        "4.6",
        """
        r, g, b = (((c.mean(-1) + 1) * 4).long().clamp(max=7) for c in patches.chunk(3, -1))
        return r + 8 * g + 64 * b""",
    ),
    (
        "4.6",
        """
        x = patches.unflatten(-1, (3, -1)).mean(3).add(1).mul(4).floor().clamp(max=7)
        return (x @ torch.tensor([1.0, 8, 64])).long()""",
    ),
    (
        "7.1",
        """
        s = min(picture.shape[1:])
        top, left = ((n - s) // 2 for n in picture.shape[1:])
        return F.adaptive_avg_pool2d(picture[:, top : top + s, left : left + s] / 255, size) * 2 - 1""",
    ),
    (
        "7.2",
        """
        x = images.permute(0, 2, 3, 1) / 255
        return ((x - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)""",
    ),
    (
        "7.2",
        """
        m, s = (np.array(v)[:, None, None] for v in (mean, std))
        return torch.from_numpy((images.numpy() / 255 - m) / s)""",
    ),
    (
        "7.3",
        """
        x = F.pad(maps[:, None], (1, 1, 1, 1), "replicate")
        x = F.interpolate(x, scale_factor=patch_size, mode="bilinear")
        return x[:, 0, patch_size:-patch_size, patch_size:-patch_size]""",
    ),
    (
        "7.4",
        """
        x = np.maximum(attention.numpy() * gradient.numpy(), 0).mean(1)[:, 0, 1:]
        return torch.from_numpy(x.reshape(-1, *grid_size))""",
    ),
]

ENTRIES = [  # to open tasks, which need no measuring to be refused
    ("4.4", "pass", "is a `return` missing"),
    ("4.4", "return vitlab.Recipe", "a Recipe is wanted"),
    ("4.4", "return vitlab.Recipe(steps=312.5)", "whole number"),
    ("5.7", "labels[0]", "is a `return` missing"),
    ("5.7", "return np.zeros(500, dtype=int)", r"torch\.as_tensor"),
    ("5.7", "return torch.zeros(500, 10)", "is an argmax missing"),
    ("5.7", "return labels.repeat(5)[:, None]", r"this is \(500, 1\)"),
    ("6.6", "m = weights[-1].mean(1)[:, 0, 1:]", "is a `return` missing"),
    ("6.6", "return [torch.zeros(12, 12)] * len(images)", r"torch\.stack"),
    ("6.6", "return torch.zeros(len(images), 144)", r"these are \(50, 144\)"),
]  # fmt: skip


def verdict(id: str, body: str):
    """What is said of a function of this body."""
    names = dict(math=math, np=np, torch=torch, F=F, vitlab=vitlab)
    body = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    exec(f"def {HEADS[id]}:\n{body}", names)
    return checks.verdict(id, names[HEADS[id].partition("(")[0]])


@pytest.mark.parametrize(("id", "before", "after", "words"), SLIPS, ids=[f"{s[0]}-{s[2]}" for s in SLIPS])
def test_a_typed_slip_is_refused_and_its_cause_is_told(id, before, after, words):
    assert PLAIN[id].count(before) == 1
    found = verdict(id, PLAIN[id].replace(before, after))
    assert found.status == "not yet"
    assert re.search(words, found.message), found


@pytest.mark.parametrize(("id", "body"), [*PLAIN.items(), *RIGHT], ids=lambda value: value[:3])
def test_right_answers_in_any_style_are_right(id, body):
    assert verdict(id, body).status == "correct"


@pytest.mark.parametrize(("id", "body", "words"), ENTRIES)
def test_an_entry_that_does_not_count_is_told_why(id, body, words):
    found = verdict(id, body)
    assert found.status == "not yet"
    assert re.search(words, found.message), found


def test_a_place_in_a_place_is_said_inside_out():
    def step(weights, gradients, velocities, learning_rate, clip_norm):
        return [w + 1 for w in weights], velocities

    assert ": in item 0 of item 0, 12 of 12 values" in checks.verdict("5.3", step).message


@pytest.mark.parametrize("ask", [checks.predict, checks.quiz, lambda id: checks.verdict(id, 1)])
@pytest.mark.parametrize("id", [7, 4.5, None])
def test_an_id_without_quotes_is_told(ask, id):
    with pytest.raises(ValueError, match="a text in quotes"):
        ask(id)
