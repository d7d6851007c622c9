"""The explorer of interventions: its numbers against models edited by hand, every control, undo, clicks."""

import copy
import random
import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vitlab import ViT, ViTConfig
from vitlab.attention import intervene
from vitlab.data import Dataset
from vitlab.runtime import here
from vitlab.widgets import InterventionExplorer, interventions
from vitlab.widgets.interventions import GAP, HEADER, PANEL
from vitlab.widgets.measured import Away, Measured

CLASSES = ["shirt", "shoe", "bag"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = dict(image_size=12, patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_dim=16, num_classes=3)
    made = ViT(ViTConfig(**sizes)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.requires_grad_(False)


@pytest.fixture
def measured():
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (30, 1, 12, 12), dtype=torch.uint8, generator=draw)
    return Dataset(images, torch.arange(30) % 3, CLASSES)


@pytest.fixture
def explorer(model, measured, monkeypatch):
    monkeypatch.setattr(interventions, "here", lambda **given: here("cpu", "fp32"))
    return InterventionExplorer(model, {"one": measured.images[0], "two": measured.images[1]}, measured)


def normal(images):
    return images / 127.5 - 1


def without_head(model, layer, head):
    edited = copy.deepcopy(model)
    edited.blocks[layer].attn.proj.weight[:, head * 6 : head * 6 + 6] = 0
    return edited


def blocks_of(model, *numbers):
    def answer(images):
        x = model.embed(normal(images))
        for number in numbers:
            x = model.blocks[number](x)
        return model.head(model.norm(x)[:, 0])

    return answer


def swapped(model, one, other):
    edited, table = copy.deepcopy(model), model.pos_embed[0]
    for here_, there in ((one, other), (other, one)):
        edited.pos_embed[0, 1 + 3 * here_ : 4 + 3 * here_] = table[1 + 3 * there : 4 + 3 * there]
    return lambda images: edited(normal(images))


def covered(model, patch):
    row, column = divmod(patch, 3)

    def answer(images):
        made = normal(images)
        made[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
        return model(made)

    return answer


def given(model, donor, layer):
    """The class token of the donor enters block `layer`."""

    def answer(images):
        x, other = model.embed(normal(images)), model.embed(normal(donor[None]))
        for number, block in enumerate(model.blocks):
            if number == layer:
                x[:, 0] = other[0, 0]
            x, other = block(x), block(other)
        return model.head(model.norm(x)[:, 0])

    return answer


def by_hand(name, model, measured):
    two = measured.images[1]
    ways = {
        "nothing": ({}, lambda images: model(normal(images))),
        "a head": (dict(heads=((1, 0),)), lambda images: without_head(model, 1, 0)(normal(images))),
        "the last head": (dict(heads=((2, 1),)), lambda images: without_head(model, 2, 1)(normal(images))),
        "a block": (dict(block=2), blocks_of(model, 0, 2)),
        "the last block": (dict(block=3), blocks_of(model, 0, 1)),
        "a patch": (dict(patches=(4,)), covered(model, 4)),
        "rows": (dict(row=1, with_row=3), swapped(model, 0, 2)),
        "a donor": (dict(donor="two", place=("class token", 1)), given(model, two, 1)),
    }
    return ways[name]


NAMES = ["nothing", "a head", "the last head", "a block", "the last block", "a patch", "rows", "a donor"]


@pytest.mark.parametrize("name", NAMES)
def test_the_captions_numbers(explorer, model, measured, name):
    change, answer = by_hand(name, model, measured)
    explorer.set(**change)
    shares = answer(measured.images[:1])[0].softmax(0)
    logits = answer(measured.images)
    right = float((logits.argmax(1) == measured.labels).float().mean())
    loss = float(F.cross_entropy(logits, measured.labels))
    best = int(shares.argmax())
    assert f"it says {CLASSES[best]}, with {shares[best]:.1%}; " in explorer.caption
    assert f"Of 30 images {right:.1%} are right, loss {loss:.3f}; by the whole model" in explorer.caption


def test_the_class_tokens_view(explorer, model, measured):
    """As with a mask on the class token's row, in every block."""
    explorer.set(unseen=5)
    with intervene(model, unseen=4):
        logits = model(normal(measured.images))
    loss = float(F.cross_entropy(logits, measured.labels))
    assert f"loss {loss:.3f}; by the whole model" in explorer.caption
    assert "one, patch 5 unseen by the class token: " in explorer.caption


CHANGES = [
    dict(image="two"),
    dict(map="rollout"),
    dict(map="relevance"),
    dict(heads=((0, 0), (2, 1))),
    dict(patches=(0, 8)),
    dict(block=1),
    dict(unseen=9),
    dict(row=3),
    dict(with_row=2),
    dict(donor="one"),
    dict(place=("all tokens", 2)),
    dict(place=("patches", 0)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_is_told_and_undone(explorer, change):
    before = explorer.picture, explorer.caption
    explorer.set(**change)
    assert explorer.caption != before[1]
    if "donor" not in change:  # whose name stands in the words alone until something is put in
        assert explorer.picture != before[0]
    explorer.undo()
    assert (explorer.picture, explorer.caption) == before
    explorer.undo()  # nothing is left to undo
    assert (explorer.picture, explorer.caption) == before


def test_undo_goes_back_step_by_step_and_over_a_reset(explorer):
    captions = [explorer.caption]
    for change in (dict(block=2), dict(heads=((0, 1),)), dict(unseen=3)):
        explorer.set(**change)
        captions.append(explorer.caption)
    explorer.reset()
    assert explorer.caption == captions[0]
    for expected in reversed(captions):
        explorer.undo()
        assert explorer.caption == expected


def test_a_click_covers_and_hides(explorer):
    side = PANEL // 3
    explorer.click(side * 1.5, HEADER + side * 0.5)
    explorer.click(side * 2.5, HEADER + side * 0.5)
    assert explorer.state["patches"] == (1, 2)
    explorer.click(side * 1.5, HEADER + side * 0.5)
    assert explorer.state["patches"] == (2,)
    explorer.click(PANEL + GAP + side * 0.5, HEADER + side * 2.5)
    assert explorer.state["unseen"] == 7
    explorer.click(PANEL + GAP + side * 0.5, HEADER + side * 2.5)
    assert explorer.state["unseen"] == 0


def rows_through(monkeypatch, model, part):
    """(block, images) of each call of a part of a block."""
    ran = []
    for number, block in enumerate(model.blocks):
        module = block.get_submodule(part)
        forward = module.forward
        monkeypatch.setattr(
            module,
            "forward",
            lambda x, *given, number=number, forward=forward: (
                ran.append((number, len(x))),
                forward(x, *given),
            )[1],
        )
    return ran


@pytest.mark.parametrize(
    ("change", "attentions", "mlps"),
    [
        (dict(heads=((1, 1),)), [2], [1, 2]),  # what the heads of block 1 mix is kept
        (dict(heads=((2, 1),)), [], [2]),
        (dict(block=2), [2], [2]),
        (dict(patches=(3,), block=1), [1, 2], [1, 2]),
    ],
)
def test_only_what_changes_is_computed(explorer, model, monkeypatch, change, attentions, mlps):
    """For the measured images, blocks before the first changed one are not run again."""
    of_heads, of_mlps = [], rows_through(monkeypatch, model, "mlp")
    for number, block in enumerate(model.blocks):
        mixed = block.attn.mixed
        keep = lambda x, *a, number=number, mixed=mixed: (of_heads.append((number, len(x))), mixed(x, *a))[1]  # noqa: E731
        monkeypatch.setattr(block.attn, "mixed", keep)
    explorer.set(**change)
    assert sorted(number for number, images in of_heads if images == 30) == attentions
    assert sorted(number for number, images in of_mlps if images == 30) == mlps


def test_patches_go_through_the_first_block_once(model, measured, monkeypatch):
    """What a patch is there does not depend on what the class token sees; later it does."""
    asked, tokens = Measured(model, measured, here("cpu", "fp32")), []
    for block in model.blocks:
        forward = block.mlp.forward
        seen = lambda x, *a, forward=forward: (tokens.append(x.shape[1]), forward(x, *a))[1]  # noqa: E731
        monkeypatch.setattr(block.mlp, "forward", seen)
    asked(Away(unseen=(3,)))
    assert tokens == [1, model.config.num_tokens, 1]


def everything(seed):
    """A state of all controls, drawn at random."""
    draw = random.Random(seed)
    some = lambda items, most: tuple(sorted(draw.sample(items, draw.randint(0, most))))  # noqa: E731
    return Away(
        heads=some([(layer, head) for layer in range(3) for head in range(2)], 3),
        blocks=some([0, 1, 2], 2),
        patches=some(range(9), 3),
        unseen=some(range(9), 9),
        swap_rows=draw.choice([None, (0, 2), (1, 0)]),
        donor=(donor := draw.choice([None, "two"])),
        donor_layer=draw.randrange(3) if donor else None,
        donor_tokens=draw.choice([None, (0,), (1, 4, 9)]) if donor else None,
    )


@pytest.mark.parametrize("seed", range(40))
def test_answers_are_those_of_the_model_that_is_intervened_in(explorer, model, measured, seed):
    away = everything(seed)
    asked = away._asdict() | dict(donor=normal(measured.images[1]) if away.donor else None)
    with intervene(model, **asked), torch.no_grad():
        logits = model(normal(measured.images))
    right, loss = explorer._answers(away)
    assert right == pytest.approx(float((logits.argmax(1) == measured.labels).float().mean()))
    assert loss == pytest.approx(float(F.cross_entropy(logits, measured.labels)), rel=1e-5)


@pytest.mark.parametrize(
    "fields", [dict(representation_size=12), dict(representation_size=7), dict(num_registers=2)]
)
def test_answers_of_other_heads_and_with_registers(model, measured, fields):
    torch.manual_seed(0)
    other = ViT(replace(model.config, **fields)).eval()
    torch.nn.init.normal_(other.head.weight)
    with torch.no_grad():
        logits = other(normal(measured.images))
    right, loss = Measured(other, measured, here("cpu", "fp32"))(Away())
    assert right == pytest.approx(float((logits.argmax(1) == measured.labels).float().mean()))
    assert loss == pytest.approx(float(F.cross_entropy(logits, measured.labels)), rel=1e-5)


@pytest.mark.parametrize("away", [Away(heads=((0, 1),)), Away(unseen=(4,)), Away(blocks=(1,)), Away()])
def test_answers_in_bf16_are_near(model, measured, away):
    """Rounding apart, which stands in the second digit of these weights' large logits."""
    rounded = Measured(model, measured, here("cpu", "bf16"))(away)
    exact = Measured(model, measured, here("cpu", "fp32"))(away)
    assert rounded == pytest.approx(exact, rel=0.05, abs=0.04)


def test_the_model_stays_as_it_is(explorer, model, measured):
    plain = model(normal(measured.images))
    for change in CHANGES:
        explorer.set(**change)
    assert torch.equal(model(normal(measured.images)), plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_static_picture_has_words(explorer):
    bundle, metadata = explorer._repr_mimebundle_()
    assert {"image/png", "text/plain"} <= bundle.keys()
    assert metadata["image/png"]["alt"]


def test_errors(model, measured):
    mean = ViT(ViTConfig(image_size=12, patch_size=4, pool="mean", num_classes=3))
    with pytest.raises(ValueError, match="from the class token, which alone is read, and swaps"):
        InterventionExplorer(mean, {"one": measured.images[0]}, measured)
    with pytest.raises(ValueError, match="no image to look at"):
        InterventionExplorer(model, {}, measured)


def test_words_count_from_one(explorer):
    explorer.set(heads=((0, 1),), block=3, patches=(0, 4), row=2, place=("patches", 1))
    assert explorer.caption.startswith(
        "one without head 2 of layer 1, block 3; patches 1, 5 covered; positions of rows 2 and 1 swapped; "
        "with the patches of two from block 2 on: it says "
    )
    assert re.search(r"Class attention is largest on patch \d", explorer.caption)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_one_image_stands_for_all_whose_tokens_were_all_exchanged(model, measured, monkeypatch, layer):
    """They answer as the donor does, whatever they were; one of them is asked."""
    asked = Measured(model, measured, here("cpu", "fp32"))
    donor = model.embed(normal(measured.images[1:2]))
    for block in list(model.blocks)[:layer]:
        donor = block(donor)
    ran = rows_through(monkeypatch, model, "mlp")
    right, loss = asked(Away(donor="two", donor_layer=layer), donor)
    assert ran == [(number, 1) for number in range(layer, 3)]
    logits = model(normal(measured.images[1:2])).expand(len(measured.labels), -1)
    assert right == pytest.approx(float((logits.argmax(1) == measured.labels).float().mean()))
    assert loss == pytest.approx(float(F.cross_entropy(logits, measured.labels)), rel=1e-5)


@pytest.mark.parametrize("name", ["class_attention", "rollout", "relevance"])
def test_the_map_and_the_shares_come_of_one_pass(explorer, model, monkeypatch, name):
    """A move asks the model once about the image that is shown, and the shares are that answer's."""
    explorer.set(map=name)
    asked, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda images: asked.append(len(images)) or forward(images))
    explorer.set(row=2)
    assert asked == [1]
