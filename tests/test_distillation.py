"""A distillation token beside timm's, attention with two class tokens, and what is learnt of a teacher."""

import copy
import functools
import math

import pytest
import timm
import torch
from test_checkpoints_published import close, pictures, stirred
from test_training_resume import SMALL, PowerCutError, assert_same, noise, power_cut
from timm.models.deit import VisionTransformerDistilled
from torch import nn

import vitlab
from vitlab import Recipe, ViT, ViTConfig
from vitlab.attention import head_importance, intervene, logit_lens, maps, pooled_features
from vitlab.checkpoints import timm_arguments
from vitlab.fine_tuning import adapt
from vitlab.resnet import ResNet, ResNetConfig
from vitlab.training import distillation, evaluate, make_optimizer
from vitlab.training.fingerprint import fingerprint
from vitlab.vit import costs_by_part, count_parameters, multiply_adds
from vitlab.widgets import (
    AttentionMapExplorer,
    AttentionStepExplorer,
    DataPathExplorer,
    HeadExplorer,
    InterventionExplorer,
)

FIELDS = dict(image_size=32, patch_size=8, in_chans=3, embed_dim=48, depth=3, num_heads=4, mlp_dim=96)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def distilled(**fields) -> ViT:
    return stirred(ViT(ViTConfig(**FIELDS | dict(num_classes=5, distilled=True) | fields)))


def beside_timm(**fields) -> tuple[ViT, nn.Module]:
    ours = distilled(**fields)
    theirs = VisionTransformerDistilled(**timm_arguments(ours.config)).eval()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


# --- the model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [5, 0])
def test_logits_are_those_of_timms(classes):
    ours, theirs = beside_timm(num_classes=classes)
    images = pictures((32, 32))
    with torch.no_grad():
        close(ours(images), theirs(images), 2e-5)
        close(ours.forward_features(images), theirs.forward_features(images), 2e-5)
        close(ours.pooled_features(images), theirs.forward_head(theirs.forward_features(images), True), 2e-5)
        theirs.set_distilled_training(True)
        both = theirs.train()(images)
        close(ours.logits_by_head(ours.forward_features(images)), torch.stack(both, dim=1), 2e-5)


def test_timms_architecture_made_small_takes_the_weights():
    sizes = dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4, mlp_ratio=2, num_classes=5)
    theirs, ours = timm.create_model("deit_tiny_distilled_patch16_224", **sizes).eval(), distilled()
    assert {n: t.shape for n, t in theirs.state_dict().items()} == {
        n: t.shape for n, t in ours.state_dict().items()
    }


@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("pos_embed", ["learned", "sincos2d", "none"])
def test_the_sequence_is_class_token_distillation_token_registers_patches(registers, pos_embed):
    model, images = distilled(num_registers=registers, pos_embed=pos_embed), pictures((32, 32))
    assert (model.config.num_class_tokens, model.config.num_prefix_tokens) == (2, 2 + registers)
    with torch.no_grad():
        patches, tokens = model.patch_embed(images), model.embed(images)
        table = torch.zeros(1, 18, 48) if pos_embed == "none" else model.pos_embed
        for b in range(2):
            wanted = [model.cls_token[0, 0] + table[0, 0], model.dist_token[0, 0] + table[0, 1]]
            wanted += [model.reg_token[0, r] for r in range(registers)]
            wanted += [patch + table[0, 2 + i] for i, patch in enumerate(patches[b])]
            close(tokens[b], torch.stack(wanted), 1e-6)
        features = model.norm(model.blocks(tokens))
        close(model(images), (model.head(features[:, 0]) + model.head_dist(features[:, 1])) / 2, 1e-5)
    if pos_embed == "sincos2d":
        assert not table[0, :2].any()


def test_the_tokens_start_apart_learn_and_are_not_decayed():
    model = ViT(ViTConfig(distilled=True, pos_embed="none"))
    assert not model.head_dist.weight.any()
    assert model.dist_token.any()
    for head in model.heads:
        head.weight.data.normal_(std=0.1)
    model(pictures((28, 28), 1)).square().sum().backward()
    assert model.dist_token.grad.any()
    assert model.cls_token.grad.any()
    decayed, spared = make_optimizer(model, Recipe()).param_groups
    assert any(p is model.dist_token for p in spared["params"])
    assert any(p is model.head_dist.weight for p in decayed["params"])


def test_what_it_costs():
    with_it, without = ViT(ViTConfig(distilled=True)), ViT(ViTConfig())
    assert count_parameters(with_it) - count_parameters(without) == 2 * 96 + 96 * 10 + 10
    assert multiply_adds(with_it.config)["head"] == 2 * 96 * 10
    assert with_it.config.num_tokens == 51
    parts = costs_by_part(with_it)
    assert sum(numbers for numbers, _ in parts.values()) == count_parameters(with_it)
    assert parts["head"] == (2 * (96 * 10 + 10), 2 * 96 * 10)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(distilled=1), "distilled is True or False; got 1"),
        (dict(pool="mean"), "so pool is 'token'; got 'mean'"),
        (dict(pool="mean", unread_class_token=True), "so pool is 'token'"),
        (dict(representation_size=8), "so representation_size is None; got 8"),
        (dict(norm_after_pool=True), "so norm_after_pool is False; got True"),
    ],
)
def test_what_does_not_go_with_it(fields, said):
    with pytest.raises(ValueError, match=said):
        ViTConfig(**dict(distilled=True) | fields)


def test_another_size_keeps_both_tokens_positions():
    model, images = distilled(), pictures((48, 40))
    larger, asked = adapt(model, image_size=(48, 40)), model.at(image_size=(48, 40))
    assert torch.equal(larger.pos_embed[:, :2], model.pos_embed[:, :2])
    assert larger.pos_embed.shape[1] == 2 + 6 * 5
    assert torch.equal(asked.positions()[:, :2], model.pos_embed[:, :2])
    table = vitlab.resize_pos_embed(model.pos_embed, (4, 4), (6, 5), 2, "timm")
    theirs = VisionTransformerDistilled(**timm_arguments(larger.config)).eval()
    theirs.load_state_dict(model.state_dict() | {"pos_embed": table})
    with torch.no_grad():
        close(model.at(image_size=(48, 40), method="timm")(images), theirs(images), 2e-5)


def test_new_heads_are_both_new():
    model = distilled()
    adapted = adapt(model, num_classes=3)
    assert not adapted.head.weight.any()
    assert not adapted.head_dist.weight.any()
    assert adapted(pictures((32, 32))).shape == (2, 3)
    assert torch.equal(adapted.dist_token, model.dist_token)


@pytest.mark.parametrize("layout", ["vitlab", "timm"])
def test_saved_and_loaded_again(tmp_path, layout):
    model, images = distilled(), pictures((32, 32))
    path = vitlab.save_checkpoint(model, tmp_path / "own.safetensors", layout=layout)
    again = vitlab.load_checkpoint(path)
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_timms_has_no_registers_beside_it():
    with pytest.raises(ValueError, match="has no registers, and this model has 2"):
        timm_arguments(ViTConfig(distilled=True, num_registers=2))


def test_timms_would_drop_the_distillation_token_like_a_patch(tmp_path):
    model = distilled(patch_dropout=0.25)
    with pytest.raises(ValueError, match="drops the distillation token .*this model has patch_dropout=0.25"):
        timm_arguments(model.config)
    with pytest.raises(ValueError, match="only layout='vitlab' keeps it"):
        vitlab.save_checkpoint(model, tmp_path / "own.safetensors", layout="timm")
    assert not list(tmp_path.iterdir())
    theirs = VisionTransformerDistilled(**timm_arguments(distilled().config) | dict(patch_drop_rate=0.25))
    assert theirs.patch_drop.num_prefix_tokens == 1  # of the two


# --- attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", maps.MAPS)
def test_maps_are_those_of_timms(name):
    ours, theirs = beside_timm()
    images = pictures((32, 32))
    view = vitlab.attach(theirs)
    assert view.reads == vitlab.attach(ours).reads == "pair"
    close(maps.MAPS[name](ours, images), maps.MAPS[name](view, images), 1e-5)


def test_tokens_by_name():
    model = distilled(num_registers=2)
    names = ("class token", "distillation token", "register 1", "register 2")
    assert vitlab.attach(model).description.prefix_names() == names


def test_class_attention_is_the_mean_of_two_rows():
    model, images = distilled(num_registers=2), pictures((32, 32))
    with torch.no_grad(), vitlab.record_attention(model) as record:
        model(images)
    rows = record.weights[-1][:, :, :2, 4:].mean(dim=(1, 2))  # (B, N)
    close(maps.class_attention(model, images).flatten(1), rows, 1e-6)
    shares = head_importance(model, images)
    by_hand = record.weights[:, :, :, :2, 4:].sum(dim=-1).mean(dim=(1, 3))
    close(shares["class_attention"], by_hand, 1e-5)


def moved_by_hand(model: ViT, weights: torch.Tensor, layer: int, head: int) -> float:
    """How far the mean of the first two rows of rollout moves without a head, over patches."""

    def joint(without: bool):
        made, tokens = torch.eye(weights.shape[-1], dtype=torch.float64), weights.shape[-1]
        made = made.expand(weights.shape[1], tokens, tokens)
        for place, each in enumerate(weights.double()):
            heads = [h for h in range(each.shape[1]) if not (without and (place, h) == (layer, head))]
            mixed = (each[:, heads].mean(dim=1) + torch.eye(tokens, dtype=torch.float64)) / 2
            made = mixed @ made
        row = made[:, :2].mean(dim=1)[:, model.config.num_prefix_tokens :]
        return row / row.sum(dim=-1, keepdim=True)

    return float((joint(True) - joint(False)).abs().sum(dim=-1).mean() / 2)


@pytest.mark.parametrize("place", [(0, 1), (2, 3)])
def test_rollout_without_a_head(place):
    model, images = distilled(num_registers=1), pictures((32, 32))
    with torch.no_grad(), vitlab.record_attention(model) as record:
        model(images)
    assert head_importance(model, images)["rollout"][place] == pytest.approx(
        moved_by_hand(model, record.weights, *place), abs=1e-5
    )


def test_a_patch_is_hidden_from_both_that_are_read():
    ours, theirs = beside_timm()
    images = pictures((32, 32))
    with intervene(ours, unseen=[5]), vitlab.record_attention(ours) as record, torch.no_grad():
        logits = ours(images)
    assert not record.weights[:, :, :, :2, 2 + 5].any()
    assert record.weights[:, :, :, 2:, 2 + 5].all()
    with intervene(vitlab.attach(theirs), unseen=[5]), torch.no_grad():
        close(logits, theirs(images), 2e-5)
    mask = torch.zeros(18, 18)
    mask[:2, 7] = -math.inf
    with torch.no_grad():  # a slow loop over the blocks
        x = ours.embed(images)
        for block in ours.blocks:
            q, k, v = block.attn.heads(block.attn.qkv(block.norm1(x)))
            weights = (q @ k.mT / math.sqrt(12) + mask).softmax(dim=-1)
            x = x + block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
            x = x + block.mlp(block.norm2(x))
        close(logits, ours.logits_by_head(ours.norm(x)).mean(dim=1), 2e-5)


def test_the_logit_lens_ends_on_the_logits():
    model, images = distilled(), pictures((32, 32))
    with torch.no_grad():
        close(logit_lens(model, images)[-1], model(images), 1e-5)


@pytest.mark.parametrize("classes", [5, 0])
def test_a_probe_reads_what_both_heads_are_given(classes):
    ours, theirs = beside_timm(num_classes=classes)
    images = pictures((32, 32))
    with torch.no_grad():
        found = pooled_features(vitlab.attach(ours), images)
        close(found, pooled_features(vitlab.attach(theirs), images), 2e-5)
        if classes:
            close(found, ours.forward_features(images)[:, :2].flatten(1), 1e-6)


@pytest.mark.parametrize("fields", [{}, dict(num_registers=2)])
def test_an_explorer_begins_with_what_is_read(fields):
    model, pixels = distilled(**fields), torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    explorer = AttentionMapExplorer(model, {"noise": pixels})
    assert explorer.caption.startswith("noise, query: the mean of class and distillation token. Layer 3")
    with torch.no_grad(), vitlab.record_attention(model) as record:
        model(vitlab.data.normalise(pixels[None]))
    row = record.weights[-1, 0].mean(dim=0)[:2].mean(dim=0)
    assert f"{row[0]:.1%} to the class token; {row[1]:.1%} to the distillation token" in explorer.caption
    best = int(row[model.config.num_prefix_tokens :].argmax()) + 1
    assert f"most to patch {best} ({row[model.config.num_prefix_tokens + best - 1]:.1%})" in explorer.caption


@pytest.mark.parametrize(
    "kind", [HeadExplorer, AttentionStepExplorer, lambda *a: DataPathExplorer(*a, list("abcdefghij"))]
)
def test_explorers_that_name_one_class_token_refuse_it(kind):
    model, blank = ViT(ViTConfig(distilled=True)), {"blank": torch.zeros(1, 28, 28, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="the model has a distillation token as well; AttentionMapExplorer"):
        kind(model, blank)


def test_interventions_on_one_class_token_refuse_it():
    blank = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    data = vitlab.data.Dataset(blank, torch.tensor([0]), list("abcdefghij"))
    with pytest.raises(ValueError, match="no distillation token"):
        InterventionExplorer(ViT(ViTConfig(distilled=True)), {"blank": blank[0]}, data)


def test_the_exercises_make_none():
    with pytest.raises(ValueError, match="a ViT with distilled=False; got True"):
        vitlab.checks.assemble(ViT(ViTConfig(distilled=True)))


# --- the loss ----------------------------------------------------------------------------------------------


class Says(nn.Module):
    """A model with fixed logits (B, classes), and names for them."""

    def __init__(self, logits, class_names=None):
        super().__init__()
        self.logits, self.class_names = nn.Parameter(torch.as_tensor(logits)), class_names
        self.modes = []

    def forward(self, images):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.logits + 0 * images.mean()


def shares_of(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def loss_by_hand(first, second, labels, teacher, kind, share, temperature) -> float:
    """Equations 2 and 3 of the paper, image by image; `first` answers to labels, `second` to the teacher."""
    total = 0.0
    for one, two, label, said in zip(first, second, labels, teacher, strict=True):
        true = -math.log(shares_of(one)[label])
        if kind == "hard":
            taught = -math.log(shares_of(two)[said.index(max(said))])
        else:
            pairs = zip(shares_of(said, temperature), shares_of(two, temperature), strict=True)
            taught = temperature**2 * sum(p * math.log(p / q) for p, q in pairs)
        total += (1 - share) * true + share * taught
    return total / len(labels)


CASES = [
    (dict(), ("soft", 0.1, 3.0)),
    (dict(kind="soft", share=0.7, temperature=1.5), ("soft", 0.7, 1.5)),
    (dict(kind="soft", share=1.0, temperature=1.0), ("soft", 1.0, 1.0)),
    (dict(kind="hard"), ("hard", 0.5, 1.0)),
    (dict(kind="hard", share=0.25), ("hard", 0.25, 1.0)),
]


@pytest.mark.parametrize(("given", "meant"), CASES)
@pytest.mark.parametrize("token", [True, False])
def test_the_loss_is_the_papers(given, meant, token):
    model, images, labels = distilled(distilled=token), pictures((32, 32)), torch.tensor([3, 0])
    teacher = Says(torch.randn(2, 5) * 2)
    outcome = distillation(model, images, labels, teacher, **given)
    with torch.no_grad():
        logits = model(images)
        both = model.logits_by_head(model.forward_features(images)) if token else logits[:, None]
    first, second = both[:, 0].tolist(), both[:, -1].tolist()
    wanted = loss_by_hand(first, second, labels.tolist(), teacher.logits.tolist(), *meant)
    assert outcome.loss.item() == pytest.approx(wanted, abs=1e-5)
    assert int(outcome.correct) == int((logits.argmax(dim=1) == labels).sum())
    assert outcome.counted == 2


def test_each_head_has_its_own_gradient():
    model, images, labels = distilled(), pictures((32, 32)), torch.tensor([3, 0])
    for share, learns, rests in ((0.0, "head", "head_dist"), (1.0, "head_dist", "head")):
        model.zero_grad()
        distillation(model, images, labels, Says(torch.randn(2, 5)), share=share).loss.backward()
        assert getattr(model, learns).weight.grad.any()
        assert not getattr(model, rests).weight.grad.any()


def test_smoothed_labels_are_the_labels_part_alone():
    model, images, labels = distilled(), pictures((32, 32)), torch.tensor([3, 0])
    task = functools.partial(distillation, model, images, labels, Says(torch.randn(2, 5)))
    first = model.logits_by_head(model.forward_features(images))[:, 0].double()
    smooth = -(0.8 * first.log_softmax(1)[range(2), labels] + 0.2 * first.log_softmax(1).mean(dim=1)).mean()
    assert task(share=0.0, label_smoothing=0.2).loss.item() == pytest.approx(smooth.item(), abs=1e-5)
    assert task(share=1.0, label_smoothing=0.2).loss == task(share=1.0).loss


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_an_untrained_students_loss_with_a_teacher_that_knows_nothing(kind):
    model = ViT(ViTConfig(distilled=True))
    loss = distillation(model, pictures((28, 28), 1), torch.tensor([1, 2]), ResNet(ResNetConfig()), kind).loss
    assert loss.item() == pytest.approx(math.log(10) * (0.9 if kind == "soft" else 1), abs=1e-6)


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential], ids=["DataParallel", "Sequential"])
def test_two_heads_inside_another_module_are_refused(wrap):
    model = wrap(distilled())
    (name,) = (name for name, part in model.named_modules() if isinstance(part, ViT))
    said = f"the distilled ViT inside this {wrap.__name__} .*the ViT itself, .*get_submodule\\('{name}'\\)"
    with pytest.raises(ValueError, match=said):
        distillation(model, pictures((32, 32)), torch.tensor([3, 0]), Says(torch.randn(2, 5)))


def test_one_head_on_a_distilled_model_without_heads_learns_from_both():
    model = nn.Sequential(distilled(num_classes=0), nn.Linear(48, 5))
    images, labels, teacher = pictures((32, 32)), torch.tensor([3, 0]), Says(torch.randn(2, 5))
    loss = distillation(model, images, labels, teacher, kind="hard").loss
    said = model(images).tolist()
    wanted = loss_by_hand(said, said, labels.tolist(), teacher.logits.tolist(), "hard", 0.5, 1.0)
    assert loss.item() == pytest.approx(wanted, abs=1e-5)


# --- the teacher -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_answers_in_evaluation_mode_without_gradients(training):
    teacher = Says(torch.randn(2, 5)).train(training)
    distillation(distilled(), pictures((32, 32)), torch.tensor([3, 0]), teacher).loss.backward()
    assert teacher.modes == [(False, False)]
    assert teacher.training is training
    assert teacher.logits.grad is None


def test_classes_are_matched_by_name():
    model, images, labels = distilled(num_classes=3), pictures((32, 32)), torch.tensor([2, 0])
    said = torch.tensor([[0.1, 2.0, -1.0, 0.7], [1.0, 0.3, 0.2, 3.0]])
    model.class_names = ["cat", "dog", "owl"]
    other = distillation(model, images, labels, Says(said, ["owl", "cat", "eel", "dog"]))
    same = distillation(model, images, labels, Says(said[:, [1, 3, 0]]))
    assert other.loss == same.loss
    assert other.loss != distillation(model, images, labels, Says(said[:, :3])).loss


@pytest.mark.parametrize(
    ("names", "theirs", "count", "said"),
    [
        (
            ["cat", "dog", "owl"],
            ["cat", "dog", "eel"],
            3,
            "does not know 'owl'; it knows 'cat', 'dog', ",
        ),
        (["cat", "dog", "owl"], None, 4, "the model has 3 outputs, the teacher 4, and not both have names"),
        (None, ["a", "b"], 2, "the model has 3 outputs, the teacher 2"),
        (["cat", "dog"], ["cat", "dog"], 2, "has 3 outputs and names for 2 .*num_classes=2"),
        (
            ["cat", "dog", "owl"],
            ["cat", "dog", "owl", "cat"],
            4,
            "the teacher has 'cat' more than once among its classes",
        ),
        (["cat", "dog", "cat"], ["cat", "dog", "owl"], 3, "the model has 'cat' more than once"),
        (
            ["cat", "dog", "owl"],
            ["cat", "dog", "eel", "owl"],
            3,
            "the teacher has 3 outputs, but its class_names has 4 names",
        ),
        (None, ["cat", "dog", "eel", "owl"], 3, "the teacher has 3 outputs, but its class_names has 4 names"),
    ],
)
def test_classes_that_cannot_be_matched_are_refused(names, theirs, count, said):
    model = distilled(num_classes=3)
    model.class_names = names
    with pytest.raises(ValueError, match=said):
        distillation(model, pictures((32, 32)), torch.tensor([2, 0]), Says(torch.randn(2, count), theirs))


class Wordy(nn.Module):
    def forward(self, images):
        return {"logits": images}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(kind="medium"), "kind is 'soft' or 'hard'; got 'medium'"),
        (dict(kind="hard", temperature=2.0), "temperature is of kind='soft'.*got 2.0: leave it out"),
        (dict(share=1.5), "share is the teacher's part of the loss, from 0 to 1; got 1.5"),
        (dict(temperature=0), "temperature is above 0 and finite; got 0"),
        (dict(temperature=math.inf), "temperature is above 0 and finite; got inf"),
        (dict(temperature=math.nan), "temperature is above 0 and finite; got nan"),
        (dict(teacher="a word"), "a teacher is a module from images to logits; got a str"),
        (dict(teacher=Wordy()), r"logits of shape \(2, classes\) for 2 images; this Wordy gives a dict"),
        (dict(teacher=nn.Identity()), r"this Identity gives shape \(2, 3, 32, 32\)"),
    ],
)
def test_what_is_no_teacher_and_no_setting_is_refused(given, said):
    given = dict(teacher=Says(torch.randn(2, 5))) | given
    with pytest.raises(ValueError, match=said):
        distillation(distilled(), pictures((32, 32)), torch.tensor([3, 0]), **given)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_teacher_that_answers_with_no_number_is_refused(kind, value):
    said = torch.randn(2, 6)
    said[1, 4] = value
    model, images, labels = distilled(), pictures((32, 32)), torch.tensor([3, 0])
    with pytest.raises(ValueError, match="this Says answers with logits that are NaN or infinite"):
        distillation(model, images, labels, Says(said[:, :5]), kind)
    model.class_names = list("abcde")
    outcome = distillation(model, images, labels, Says(said, list("abcdxe")), kind)  # none of x is learnt
    assert outcome.loss.isfinite()


def test_a_model_does_not_teach_itself():
    model = distilled()
    for teacher in (model, model.at(patch_size=16)):
        with pytest.raises(ValueError, match=r"has the model's own parameters.*copy.deepcopy\(model\)"):
            distillation(model, pictures((32, 32)), torch.tensor([3, 0]), teacher)
    assert distillation(model, pictures((32, 32)), torch.tensor([3, 0]), copy.deepcopy(model)).loss > 0


# --- training ----------------------------------------------------------------------------------------------


def student(**fields) -> ViT:
    vitlab.start(device="cpu", precision="fp32", seed=7)
    return ViT(ViTConfig(**SMALL | dict(distilled=True) | fields))


def a_teacher(seed: int = 1) -> ResNet:
    torch.manual_seed(seed)
    model = ResNet(ResNetConfig(num_classes=3, in_chans=1))
    model.head.weight.data.normal_()
    model.class_names = ["a", "b", "c"]
    return model.eval()


def train(task, folder=None, model=None, on_step=None, recipe=None):
    model, device = model or student(), vitlab.runtime.here("cpu", "fp32")
    recipe = recipe or Recipe(steps=12, batch_size=16)
    options = dict(progress=False, task=task, checkpoint_dir=folder, on_step=on_step)
    return model, vitlab.train(model, noise(), noise(seed=1), recipe, device, **options)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("token", [True, False])
def test_it_goes_on_bit_for_bit_with_the_same_teacher_alone(tmp_path, kind, token):
    def task(seed=1):
        return functools.partial(distillation, teacher=a_teacher(seed), kind=kind)

    with pytest.raises(PowerCutError):
        train(task(), tmp_path, student(distilled=token), power_cut(11))
    with pytest.raises(ValueError, match="another training: its task is .*teacher=vitlab.resnet.ResNet"):
        train(task(seed=2), tmp_path, student(distilled=token))
    resumed = train(task(), tmp_path, student(distilled=token))
    assert_same(resumed, train(task(), model=student(distilled=token)))
    assert resumed[0].class_names == ["a", "b", "c"]


def test_settings_and_the_token_belong_to_the_training(tmp_path):
    task = functools.partial(distillation, teacher=a_teacher())
    train(task, tmp_path)
    with pytest.raises(ValueError, match="its task is .*kind='hard'"):
        train(functools.partial(task, kind="hard"), tmp_path)
    with pytest.raises(ValueError, match="another training: its model is 'ViT with"):
        train(task, tmp_path, student(distilled=False))


class Own(nn.Linear):
    pass


def test_a_teacher_that_cannot_be_told_from_another_is_refused(tmp_path):
    for break_it, said in (
        (lambda teacher: setattr(teacher, "head", Own(8, 3)), "'head' of 'teacher' of the task, .*class of"),
        (lambda teacher: teacher.head.register_forward_hook(print), "'head' of 'teacher' .*has a hook"),
        (lambda teacher: setattr(teacher, "extra", object()), "'extra' of 'teacher' of the task is a object"),
    ):
        teacher = a_teacher()
        break_it(teacher)
        with pytest.raises(ValueError, match=f"{said}.*leave checkpoint_dir out"):
            train(functools.partial(distillation, teacher=teacher), tmp_path / "steps")
    assert not (tmp_path / "steps").exists()


def test_what_a_fingerprint_tells_apart():
    def of(teacher):
        return fingerprint(functools.partial(distillation, teacher=teacher))

    base = of(a_teacher())
    assert base == of(a_teacher())
    others = [a_teacher() for _ in range(4)]
    others[0].head.weight.data[0, 0] += 1e-6
    others[1].class_names = ["b", "a", "c"]
    others[2].train()
    others[3].stem.requires_grad_(False)
    *apart, frozen = map(of, others)
    assert len({base, *apart}) == 4
    assert frozen == base
    kept = dict(pool="mean", unread_class_token=True)
    read, unread = (ViT(ViTConfig(**SMALL | fields)) for fields in ({}, kept))
    unread.load_state_dict(read.state_dict())
    assert of(read) != of(unread)  # of the same weights, one reads another token


def test_a_teacher_that_changes_while_it_teaches_is_refused(tmp_path):
    teacher = a_teacher()

    def change(history):
        teacher.head.weight.data += 1

    with pytest.raises(ValueError, match="the task's 'teacher' is not what it was when the training began"):
        train(functools.partial(distillation, teacher=teacher), tmp_path, on_step=change)


def test_each_head_learns_its_own_target():
    data = noise()._replace(labels=torch.zeros(50, dtype=torch.long))
    teacher = Says(torch.tensor([[0.0, 0.0, 9.0]]).repeat(16, 1))
    task = functools.partial(distillation, teacher=teacher, kind="hard")
    model, recipe = student(dropout=0.0), Recipe(steps=60, batch_size=16, learning_rate=0.01)
    vitlab.train(model, data, None, recipe, vitlab.runtime.here("cpu", "fp32"), progress=False, task=task)
    with torch.no_grad():
        images = vitlab.data.normalise(data.images)
        found = model.eval().logits_by_head(model.forward_features(images)).argmax(dim=-1)
    assert found.float().mean(dim=0).tolist() == [0.0, 2.0]


def test_it_is_measured_as_any_classification():
    model, teacher = student().eval(), a_teacher()
    model.class_names = ["a", "b", "c"]
    task, device = functools.partial(distillation, teacher=teacher, kind="hard"), vitlab.runtime.here("cpu")
    with torch.no_grad():
        images = vitlab.data.normalise(noise().images)
        wanted = float((model(images).argmax(dim=1) == noise().labels).float().mean())
    loss, accuracy = evaluate(model, noise(), device, batch_size=7, task=task)
    assert accuracy == pytest.approx(wanted)
    assert loss == pytest.approx(evaluate(model, noise(), device, batch_size=50, task=task)[0], abs=1e-5)
    renamed = noise()._replace(classes=["c", "b", "a"], labels=2 - noise().labels)
    assert evaluate(model, renamed, device, task=task)[1] == pytest.approx(wanted)


def test_labels_that_the_model_does_not_know_are_refused_by_number():
    data = noise()._replace(labels=noise().labels + 1, classes=[])
    task = functools.partial(distillation, teacher=a_teacher())
    with pytest.raises(ValueError, match="run from 1 to 3, but the model knows 3 classes"):
        vitlab.train(student(), data, None, Recipe(steps=2), task=task)


def test_what_the_recipe_says_of_classification_is_not_lost():
    task = functools.partial(distillation, teacher=a_teacher())
    with pytest.raises(
        ValueError, match="label_smoothing is of the task classification.*have the task do it"
    ):
        train(task, recipe=Recipe(steps=2, label_smoothing=0.1))


def test_at_several_patch_sizes():
    recipe = Recipe(steps=6, batch_size=16, patch_sizes=(2, 4))
    task = functools.partial(distillation, teacher=a_teacher(), kind="hard")
    _, history = train(task, recipe=recipe)
    assert all(math.isfinite(row["loss"]) for row in history.rows)


@pytest.mark.parametrize("before", [None, ["x", "y", "z"]])
def test_the_teachers_classes_have_their_names_at_every_patch_size(before):
    """Output 0 of the teacher, "c", is the model's output 2, though copies are made before it has names."""
    teacher = Says(torch.tensor([[9.0, 0.0, 0.0]]).repeat(16, 1), ["c", "a", "b"])
    task = functools.partial(distillation, teacher=teacher, kind="hard", share=1)
    recipe = Recipe(steps=60, batch_size=16, learning_rate=0.01, patch_sizes=(2, 4))
    model = student(dropout=0.0)
    model.class_names = before
    device = vitlab.runtime.here("cpu", "fp32")
    history = vitlab.train(model, noise(), None, recipe, device, progress=False, task=task)
    assert history.rows[-1]["loss"] < 0.1  # as all that is to be learnt is one class
    images = vitlab.data.normalise(noise().images)
    for size in (2, 4):
        with torch.no_grad():
            said = model.eval().at(patch_size=size)(images).argmax(dim=1)
        assert said.tolist() == [2] * 50, size
