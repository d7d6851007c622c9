"""Explorers of a model that is trained after they were made show what one made after it shows."""

import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from vitlab import ViT, ViTConfig
from vitlab.data import Dataset
from vitlab.widgets import (
    AlikePatchesExplorer,
    AttentionMapExplorer,
    AttentionStepExplorer,
    DataPathExplorer,
    FilterExplorer,
    HeadExplorer,
    InterventionExplorer,
    MapExplorer,
    ResolutionExplorer,
)
from vitlab.widgets.weights import weights_mark

CLASSES = ["shirt", "shoe", "bag"]
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=GENERATOR)
NAMED = {"one": IMAGES[0], "two": IMAGES[1]}
MEASURED = Dataset(IMAGES, torch.arange(6) % 3, CLASSES)

EXPLORERS = {
    InterventionExplorer: lambda model: InterventionExplorer(model, NAMED, MEASURED),
    DataPathExplorer: lambda model: DataPathExplorer(model, NAMED, CLASSES),
    AttentionStepExplorer: lambda model: AttentionStepExplorer(model, NAMED),
    HeadExplorer: lambda model: HeadExplorer(model, NAMED),
    AttentionMapExplorer: lambda model: AttentionMapExplorer(model, NAMED),
    FilterExplorer: lambda model: FilterExplorer({"trained": model.patch_embed}, NAMED),
    ResolutionExplorer: lambda model: ResolutionExplorer(
        model, MEASURED.subset([0, 1]), list(NAMED), [12, 24]
    ),
    MapExplorer: lambda model: MapExplorer(model, NAMED, CLASSES),
    AlikePatchesExplorer: lambda model: AlikePatchesExplorer(lambda size: model, NAMED, [12]),
}
OTHER = {  # a state besides the first one, at which what was kept and what is new would meet
    InterventionExplorer: dict(heads=((1, 1),)),
    DataPathExplorer: dict(step="block 2"),
    AttentionStepExplorer: dict(layer=2, head=2),
    HeadExplorer: dict(layer=2, head=2),
    AttentionMapExplorer: dict(layer=1, discard=0.5),
    FilterExplorer: dict(filter=7),
    ResolutionExplorer: dict(size=(24, 24)),
    MapExplorer: dict(map="relevance"),
    AlikePatchesExplorer: dict(row=1),
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = dict(image_size=12, patch_size=4, in_chans=3, embed_dim=12, depth=2, num_heads=2, mlp_dim=16)
    made = ViT(ViTConfig(num_classes=3, **sizes))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def train(model, rate=1.0, **kwargs):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, **kwargs)
    model(torch.randn(2, 3, 12, 12, generator=GENERATOR)).square().sum().backward()
    optimizer.step()


def by_data(model):
    for parameter in model.parameters():
        parameter.data -= 0.5 * parameter.detach().sin()


def loaded(model):
    model.load_state_dict({name: value.cos() for name, value in model.state_dict().items()})


def one_number(model):
    with torch.no_grad():
        model.blocks[1].attn.proj.weight[3, 1] += 5


TRAININGS = [train, lambda model: train(model, fused=True), by_data, loaded, one_number]


def shown(explorer):
    return explorer.caption, bytes(explorer.picture)


@pytest.mark.parametrize("kind", EXPLORERS, ids=lambda kind: kind.__name__)
def test_a_model_trained_after_the_explorer_was_made_is_asked_anew(model, kind):
    explorer, other = EXPLORERS[kind](model), OTHER[kind]
    first, pictures = explorer.state, []
    for change in (None, train, by_data):
        if change is not None:
            change(model)
        fresh = EXPLORERS[kind](model)
        for state in (first, other):
            explorer.set(**state)
            fresh.set(**state)
            assert shown(explorer) == shown(fresh)
        pictures.append(shown(explorer))
    assert len({*pictures}) == 3


@pytest.mark.parametrize("kind", EXPLORERS, ids=lambda kind: kind.__name__)
def test_shown_again_in_a_later_cell_it_is_of_the_model_as_it_is(model, kind):
    explorer = EXPLORERS[kind](model)
    explorer.set(**OTHER[kind])
    before = explorer.caption
    train(model)
    DisplayFormatter().format(explorer)
    fresh = EXPLORERS[kind](model)
    fresh.set(**OTHER[kind])
    assert explorer.caption != before
    assert shown(explorer) == shown(fresh)


@pytest.mark.parametrize("kind", EXPLORERS, ids=lambda kind: kind.__name__)
def test_what_an_explorer_does_changes_no_weight_and_nothing_is_asked_twice(model, kind, monkeypatch):
    explorer, before, asked = EXPLORERS[kind](model), weights_mark(model), []
    monkeypatch.setattr(explorer, "ask_anew", lambda: asked.append(1))
    for state in (OTHER[kind], explorer.state, OTHER[kind]):
        explorer.set(**state)
    if kind is InterventionExplorer:
        explorer.set(patches=(1,), unseen=3, row=1, with_row=2, place=("patches", 1))
    DisplayFormatter().format(explorer)
    assert weights_mark(model) == before
    assert asked == []


@pytest.mark.parametrize("change", TRAININGS, ids=["adam", "fused adam", "by data", "loaded", "one number"])
def test_every_way_to_change_weights_is_seen(model, change):
    before = weights_mark(model)
    assert weights_mark(model) == before
    change(model)
    assert weights_mark(model) != before


def test_moved_rounded_exchanged_and_frozen_weights(model):
    """Weights made without versions have a mark, and so have numbers that are none."""
    before = weights_mark(model)
    assert weights_mark(model.half().float()) != before
    before = weights_mark(model)
    model.head = torch.nn.Linear(12, 3)
    assert weights_mark(model) != before
    with torch.inference_mode():
        frozen = torch.nn.Linear(2, 2)
        frozen.bias.fill_(float("nan"))
    assert weights_mark(frozen) == weights_mark(frozen)


def test_a_step_of_attention_asked_for_by_code_is_of_one_model(model):
    """The parts of a residual add up to what the model had when it was asked."""
    explorer = EXPLORERS[AttentionStepExplorer](model)
    step = explorer.step(**explorer.state)
    one_number(model)
    after = explorer.step(**explorer.state)
    torch.testing.assert_close(after.head + after.others, step.head + step.others)
    torch.testing.assert_close(after.head, step.head)


def test_an_answer_that_fails_is_asked_for_again(model, monkeypatch):
    """What was kept of the old weights is not shown at the next move as if it were of the new ones."""
    explorer = EXPLORERS[HeadExplorer](model)
    train(model)

    def fails():
        raise MemoryError("no room")

    with monkeypatch.context() as failing:
        failing.setattr(explorer, "ask_anew", fails)
        with pytest.raises(MemoryError, match="no room"):
            explorer.set(query=1)
    fresh = EXPLORERS[HeadExplorer](model)
    for each in (explorer, fresh):
        each.set(query=2)
    assert shown(explorer) == shown(fresh)
