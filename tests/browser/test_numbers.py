"""The numbers under each picture, moved there by keyboard, against the model written out anew."""

import csv
import gzip
import json
import math
import re

import by_hand
import lab
import notebook_tools as tools
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from all_explorers import find
from PIL import Image, ImageOps
from safetensors import safe_open

pytestmark = pytest.mark.slow

DATA = tools.ROOT / "data"
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"]
CLASSES += ["Ankle boot"]


class Plain:
    """A Vision Transformer in plain functions, perhaps without some heads (layer, head) and blocks; `weights`
    and `scores` are (L, heads, T, T)."""

    def __init__(self, name: str, image: np.ndarray, heads=(), blocks=()):
        with safe_open(DATA / f"checkpoints/{name}.safetensors", "pt") as file:
            self.heads = json.loads(file.metadata()["config"])["num_heads"]
            self.p = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        p, self.scores = self.p, []
        pixels = torch.from_numpy(image.copy())[None] / 127.5 - 1
        kernel = p["patch_embed.proj.weight"]
        projected = F.conv2d(pixels, kernel, p["patch_embed.proj.bias"], stride=kernel.shape[-1])
        self.projected = projected[0]  # (D, rows, columns)
        x = torch.cat([p["cls_token"][0], self.projected.flatten(1).T]) + p["pos_embed"][0]
        for i in range(sum(key.endswith("attn.qkv.weight") for key in p)):
            if i in blocks:
                continue
            gone = [head for layer, head in heads if layer == i]
            x = x + self.attention(self.norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn", gone)
            hidden = F.gelu(self.linear(self.norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
            x = x + self.linear(hidden, f"blocks.{i}.mlp.fc2")
        self.features = self.norm(x, "norm")  # (T, D)
        self.shares = self.linear(self.features[0], "head").softmax(0)
        self.scores = torch.stack(self.scores)
        self.weights = self.scores.softmax(-1)

    def linear(self, x, name):
        return x @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"], 1e-6)

    def attention(self, x, name, gone):
        q, k, v = (part.chunk(self.heads, -1) for part in self.linear(x, f"{name}.qkv").chunk(3, -1))
        scores = [a @ b.T / math.sqrt(a.shape[-1]) for a, b in zip(q, k, strict=True)]
        self.scores.append(torch.stack(scores))
        mixed = [s.softmax(-1) @ c * (h not in gone) for h, (s, c) in enumerate(zip(scores, v, strict=True))]
        return self.linear(torch.cat(mixed, -1), f"{name}.proj")


def garment(number: int) -> np.ndarray:
    with gzip.open(DATA / "fashion-mnist/t10k-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[number]


def data_path():
    plain = Plain("fashion_mnist_vit", garment(1))
    best = int(plain.shares.argmax())
    return [f"It says {CLASSES[best]}, with {plain.shares[best]:.1%}."]


def patch():
    height, width = np.asarray(Image.open(DATA / "photos/astronaut.jpg")).shape[:2]
    sizes = [p for p in range(1, height + 1) if height % p == 0 and width % p == 0]
    size = sizes[sizes.index(min(sizes, key=lambda p: abs(p - min(height, width) / 8))) - 2]
    n = (height // size) * (width // size)
    return [f"P = {size} ", f"N = {n:,}", f"P²C = {3 * size * size:,}", f"(N + 1)² = {(n + 1) ** 2:,}"]


def patch_vector():
    pixels = np.asarray(Image.open(DATA / "photos/astronaut.jpg").convert("RGB"))
    sizes = [p for p in range(1, len(pixels) + 1) if pixels.shape[0] % p == 0 and pixels.shape[1] % p == 0]
    size = sizes[sizes.index(min(sizes, key=lambda p: abs(p - len(pixels) / 8))) - 1]
    chosen = pixels[:size, 2 * size : 3 * size]  # the third patch of the first row
    first = ", ".join(map(str, chosen[..., 0].ravel()[:8]))
    return [
        f"P = {size}: patch 3 of",
        f"its upper left pixel is (0, {2 * size})",
        f"P²C = {size * size:,} · 3 = {3 * size * size:,} numbers: {first} and so on",
    ]


def filters():
    plain = Plain("fashion_mnist_vit", garment(0))
    kernel, answers = plain.p["patch_embed.proj.weight"][4], plain.projected[4]
    return [
        f"weights from {kernel.min():.2f} to {kernel.max():.2f}",
        f"answers from {answers.min():.2f} to {answers.max():.2f}",
    ]


def positions():
    table = Plain("fashion_mnist_vit", garment(0)).p["pos_embed"][0, 1:].double()
    unit = table / table.norm(dim=1, keepdim=True)
    similar = (unit @ unit.T)[5 * 7 + 2].view(7, 7)  # row 6, column 3
    beside = (similar[4, 2] + similar[6, 2] + similar[5, 1] + similar[5, 3]) / 4
    return ["row 6, column 3", f"direct neighbours {beside:.2f}"]


def head():
    plain = Plain("fashion_mnist_vit", garment(0))
    scores, weights = plain.scores[2, 1, 23], plain.weights[2, 1, 23]
    return [
        "layer 3, head 2, query: patch 23 (row 4, column 2)",
        f"Scores from {scores.min():.2f} to {scores.max():.2f}",
        f"the largest, {weights.max():.1%}",
        f"the class token gets {weights[0]:.1%}",
    ]


def step():
    plain = Plain("fashion_mnist_vit", garment(0))
    score, weights = plain.scores[2, 1, 23, 25], plain.weights[2, 1, 23]
    after = plain.scores[2, 1, 23] / 0.5
    weights = after.softmax(0)
    rank = int((after > after[25]).sum()) + 1
    return [
        "layer 3, head 2: patch 23 asks patch 25 (row 4, column 4)",
        f"add up to {score * math.sqrt(24):.2f}; divided by √24 = 4.90 that is {score:.2f}",
        f"by the temperature 0.5 {score / 0.5:.2f}: the score",
        f"number {rank} of 50 scores, from {after.min():.2f} to {after.max():.2f}",
        f"{weights[25]:.1%} of the weight (an even share: 2.0%; the largest: {weights.max():.1%})",
    ]


def construction():
    """Queries of the place of the left neighbour, 3 long, against keys that are 4 long."""
    scores = [12 * math.cos((i + 1) * math.pi / 4) / math.sqrt(3) for i in range(8)] + [0.0]
    share = max(math.exp(score) for score in scores) / sum(math.exp(score) for score in scores)
    return [
        "Query: brightness 0, one 0, place 3 turned by -1. Key: brightness 0, class 0, place 4.",
        f"On average {share:.1%} of a patch's weight goes there, {share:.1%} at least",
    ]


def attention_map():
    plain = Plain("fashion_mnist_vit", garment(0))
    row = plain.weights[2, 1, 24]
    rolled = torch.eye(50)
    for layer in plain.weights[:3]:
        rolled = (layer.mean(0) + torch.eye(50)) / 2 @ rolled
    rolled = rolled[24]
    first, second = (f"most to patch {r[1:].argmax() + 1} ({r[1:].max():.1%})" for r in (row, rolled))
    return [f"Layer 3, head 2: {first}", f"discarded: 0%): {second}", f"{row[0]:.1%} to the class token"]


def head_distance():
    weights = Plain("fashion_mnist_vit", garment(0)).weights[2, 1, 1:, 1:]
    sums = [
        4 * math.dist(divmod(query, 7), divmod(key, 7)) * float(weights[query, key])
        for query in range(49)
        for key in range(49)
    ]
    return [f"Layer 3, head 2: mean attention distance {sum(sums) / 49:.1f} pixels"]


def without():
    """Without the first head of the first layer, and the last block; of all test images the first 200."""
    with gzip.open(DATA / "fashion-mnist/t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:200].tolist()
    gone = dict(heads=[(0, 0)], blocks=[3])
    said = [int(Plain("fashion_mnist_vit", garment(i), **gone).shares.argmax()) for i in range(200)]
    right = sum(best == label for best, label in zip(said, labels, strict=True))
    by_rounding = [f"Of 200 images {near / 200:.1%} are right" for near in (right - 1, right, right + 1)]
    return [f"first without head 1 of layer 1, block 4: it says {CLASSES[said[0]]}, with ", by_rounding]


def labels():
    with open(DATA / "results/few_labels.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["target"] == "cut-outs" and row["seed"] == "4"]
    found = {row["method"]: float(row["test_accuracy"]) for row in rows if row["labels"] == "20"}
    return ["20 labels per class, draw 5: 200 images", *(f"{name} {x:.1%}" for name, x in found.items())]


def resolution():
    plain = Plain("fashion_mnist_vit", garment(1))
    best = int(plain.shares.argmax())
    return ["second at 28 × 28", "T = 50 tokens", f"The model says {CLASSES[best]}, {plain.shares[best]:.1%}"]


def maps():
    photo = Image.open(DATA / "photos/rocket.jpg").convert("RGB")
    small = np.asarray(ImageOps.fit(photo, (48, 48), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    plain = Plain("scenes_vit", small)
    (first, second), (a, b) = plain.shares.topk(2)
    rolled = torch.eye(145)
    for layer in plain.weights:
        rolled = (layer.mean(0) + torch.eye(145)) / 2 @ rolled
    row = rolled[0, 1:]
    y, x = divmod(int(row.argmax()), 12)
    return [
        f"rocket: the model says {CLASSES[a]} {first:.1%}, then {CLASSES[b]} {second:.1%}",
        f"from {row.min():.3g} to {row.max():.3g}, largest in row {y + 1} of 12, column {x + 1} of 12",
    ]


def flexi():
    """The second garment at the model's own patches of 4 × 4: nothing is resized there.

    The class's share is in the precision that the machine is fastest in.
    """
    plain = Plain("fashion_mnist_vit", garment(1))
    return [
        "second at P = 4: 7 × 7 patches of 4 × 4 pixels, T = 50 tokens",
        f"The model says {CLASSES[int(plain.shares.argmax())]}, ",
    ]


def alike_patches():
    features = []
    for name in ("astronaut", "cat"):
        photo = Image.open(DATA / f"photos/{name}.jpg").convert("RGB")
        small = np.asarray(ImageOps.fit(photo, (48, 48), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        features.append(Plain("scenes_vit", small).features[1:])
    cosines = F.cosine_similarity(features[0][8 * 12 + 5], features[1])  # row 9, column 6
    y, x = divmod(int(cosines.argmax()), 12)
    return [
        "astronaut, row 9 of 12, column 6 of 12. Most alike in cat, by cosine: "
        f"row {y + 1}, column {x + 1} ({cosines.max():.2f})",
        f"the mean of all is {cosines.mean():.2f}",
    ]


def recipe():
    return [
        "100 steps of 64 images: 6,400 images, 0.6 passes over 10,000",
        "at its peak of 0.004 after 15 steps",
    ]


def debug():
    return [
        "Run E",
        "tokens 2 (17)",
        f"numbers in a head {96 // 4} (24)",
        "Your diagnosis, rate too high: not so.",
    ]


STATES = {
    "DataPathExplorer": ([("step", 10), ("image", "End")], data_path),
    "PatchExplorer": ([("patch size P", -2)], patch),
    "PatchVectorExplorer": ([("patch size P", -1), ("patch", 2)], patch_vector),
    "FilterExplorer": ([("filter", 4)], filters),
    "PositionExplorer": ([("row", 2), ("column", -1)], positions),
    "AttentionStepExplorer": (
        [("layer", 2), ("head", 1), ("query token", -2), ("key token", 1), ("temperature", -1)],
        step,
    ),
    "HeadConstructionExplorer": (
        [("query: place", 3), ("query: turned by (patches)", -1), ("key: place", 4)],
        construction,
    ),
    "HeadExplorer": ([("layer", 2), ("head", 1), ("query token", -2)], head),
    "RecipeExplorer": ([("warm-up (% of steps)", 1), ("steps", -1)], recipe),
    "DebugExplorer": ([("E", "Space"), ("your diagnosis", "End")], debug),
    "LabelsExplorer": ([("labels per class", 2), ("draw", "End")], labels),
    "ResolutionExplorer": (
        [("resolution (pixels)", 1), ("resolution (pixels)", -1), ("image", "End")],
        resolution,
    ),
    "AttentionMapExplorer": (
        [("layer", -1), ("head (0: mean)", 2), ("query (0: class token)", 24)],
        attention_map,
    ),
    "HeadDistanceExplorer": ([("layer", 2), ("head", 1)], head_distance),
    "InterventionExplorer": ([("removed heads", "Home"), ("skipped block", "End")], without),
    "MapExplorer": ([("picture", "End")], maps),
    "FlexiExplorer": ([("image", "End"), ("patch size P", 2), ("patch size P", -2)], flexi),
    "AlikePatchesExplorer": ([("row", 2), ("column", -1)], alike_patches),
}


def press(explorer, name: str, keys: int | str) -> None:
    """Move a slider by so many arrow keys, or press one key on a list or a button.

    Not ArrowDown on a list: JupyterLab takes it and goes to the next cell. Home, End and letters reach it.
    """
    if isinstance(keys, int):
        for _ in range(abs(keys)):
            lab.control(explorer, name).press("ArrowRight" if keys > 0 else "ArrowLeft")
    elif keys == "Space":
        explorer.get_by_role("button", name=name, exact=True).press(keys)
    else:
        lab.control(explorer, name).press(keys)


@pytest.mark.parametrize("name", STATES)
def test_the_numbers_shown_are_the_models(page, name):
    moves, expected = STATES[name]
    explorer = find(page, name)
    press(explorer, "Reset", "Space")
    for control, keys in moves:
        lab.wait_until_true(page, explorer)
        press(explorer, control, keys)
    caption = lab.wait_until_true(page, explorer)
    for words in expected():  # a list: any of them, where bf16 may round the other way
        assert any(each in caption for each in ([words] if isinstance(words, str) else words)), caption


def test_the_recipes_training_ends_as_one_written_out(page):
    explorer = find(page, "RecipeExplorer")
    press(explorer, "Reset", "Space")
    for name, keys in STATES["RecipeExplorer"][0]:
        lab.wait_until_true(page, explorer)
        press(explorer, name, keys)
    lab.wait_until_true(page, explorer)  # a last move that came after the training would undo it
    press(explorer, "Train a small ViT by this recipe", "Space")
    caption = lab.wait_until_true(page, explorer)
    shown = float(re.search(r"test accuracy at ([\d.]+)%", caption)[1]) / 100
    config = dict(patch_size=7, embed_dim=48, depth=2, mlp_dim=96)
    training = f"_by_hand(test, test.subset(100), vitlab.runtime.here(), {config}, 100, 64, 0.004, 15)"
    accuracy, _, _ = lab.kernel_value(page, training, by_hand.CODE)
    assert 0.2 < accuracy < 1
    assert shown == pytest.approx(accuracy, abs=0.02)  # two of a hundred images


@pytest.mark.parametrize(("name", "config"), [("A", {}), ("E", dict(patch_size=28))])
def test_the_signs_of_a_run_are_those_of_one_written_out(page, name, config):
    """Of run A, whose rate is ten times the healthy one's, and of E; the healthy one stands in brackets."""
    explorer = find(page, "DebugExplorer")
    press(explorer, "Reset", "Space")
    lab.wait_until_true(page, explorer)
    press(explorer, name, "Space")
    caption = lab.wait_until_true(page, explorer)
    number = r"([\d.]+)"
    for words, place in (
        ("first ten losses", max),
        ("mean of the last ten", lambda all: sum(all) / len(all)),
    ):
        shown = re.search(rf"{words} {number} \({number}\)", caption)
        for text, sizes, peak in ((shown[1], config, 2e-2 if name == "A" else 2e-3), (shown[2], {}, 2e-3)):
            training = (
                f"_by_hand(test, test.subset(100), vitlab.runtime.here(), {dict(patch_size=7) | sizes}, "
            )
            _, _, losses = lab.kernel_value(page, f"{training}10, 64, {peak}, 1)", by_hand.CODE)
            assert float(text) == pytest.approx(place(losses), abs=0.03)
