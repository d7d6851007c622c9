"""Features of other libraries' models through a view, by what each library does before its head."""

import pytest
import torch

import vitlab
from vitlab import ViT, ViTConfig, fine_tuning
from vitlab.data import Dataset

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
pytest.importorskip("vit_pytorch")

import timm  # noqa: E402
from attach_kinds import all_kinds, randomised  # noqa: E402

KINDS = {kind.id: kind for kind in all_kinds()}
HALF = dict(mean=[0.5] * 3, std=[0.5] * 3)
RUN = dict(device="cpu", precision="fp32")
WIDE = (24, 48)


def viewed(name, size=WIDE, **keywords):
    kind = KINDS[name]
    torch.manual_seed(0)
    sizes = {key: size if value is ... else value for key, value in kind.keywords.items()}
    return vitlab.attach(randomised(kind.build(size)), **sizes | HALF | keywords)


def pictures(n=5, size=WIDE):
    images = torch.randint(0, 256, (n, 3, *size), generator=torch.Generator().manual_seed(2))
    return Dataset(images.byte(), torch.arange(n) % 2, ["a", "b"])


def prepared(dataset):
    return (dataset.images.double() / 255 - 0.5).float() / 0.5


def of_timm(model, images):
    tokens = model.forward_features(images)
    if hasattr(model, "head_dist"):
        return torch.cat([tokens[:, 0], tokens[:, 1]], dim=-1)
    return model.forward_head(tokens, pre_logits=True)


def of_torchvision(model, images):
    x = model.conv_proj(images).flatten(2).mT
    return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], dim=1))[:, 0]


def of_transformers(model, images):
    (body,) = [each for name, each in model.named_children() if hasattr(each, "embeddings")]
    tokens = body(images, interpolate_pos_encoding=True).last_hidden_state
    if hasattr(model, "distillation_classifier"):
        return torch.cat([tokens[:, 0], tokens[:, 1]], dim=-1)
    return tokens[:, 0] if hasattr(body.embeddings, "cls_token") else tokens.mean(dim=1)


def of_dinov2(model, images):
    tokens = model.dinov2_with_registers(images).last_hidden_state
    return torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=-1)


def of_simple_vit(model, images):
    x = model.to_patch_embedding(images)
    return model.transformer(x + model.pos_embedding.to(x)).mean(dim=1)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("timm: ViT", of_timm),
        ("timm: DINOv2, registers", of_timm),
        ("timm: ViT, registers, avgmax", of_timm),
        ("timm: DINOv3", of_timm),
        ("timm: EVA-02", of_timm),
        ("timm: SigLIP", of_timm),
        ("timm: DeiT, distilled", of_timm),
        ("torchvision: vit_b_16", of_torchvision),
        ("transformers: ViT (sdpa)", of_transformers),
        ("transformers: DeiT (sdpa)", of_transformers),
        ("transformers: I-JEPA (eager)", of_transformers),
        ("transformers: DINOv2, registers (sdpa)", of_dinov2),
        ("vit-pytorch: SimpleViT", of_simple_vit),
    ],
)
def test_what_the_head_reads(name, reference):
    size = KINDS[name].sizes[1]
    view, dataset = viewed(name, size), pictures(size=size)
    view.model.train()
    found = fine_tuning.features(view, dataset, vitlab.start(**RUN), batch_size=2)
    assert view.model.training
    assert not any(each._forward_hooks for each in view.model.modules())
    with torch.no_grad():
        wanted = reference(view.model.eval(), prepared(dataset))
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
    torch.nn.Linear(found.shape[1], 2)(found).sum().backward()  # a head can be trained on them


@pytest.mark.parametrize(
    "name",
    ["open_clip: CoCa, attention pooling", "transformers: DINOv2 (sdpa)", "transformers: SigLIP (sdpa)"],
)
def test_of_models_without_classes_the_output(name):
    view, dataset = viewed(name), pictures()
    found = fine_tuning.features(view, dataset, vitlab.start(**RUN))
    with torch.no_grad():
        torch.testing.assert_close(found, view(prepared(dataset)), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "reads", ["token", "mean", "mean_all", "max", "max_all", "mean+max_all", "token+mean"]
)
def test_of_models_that_pool_nothing_what_the_user_says(reads):
    view, dataset = viewed("transformers: ViT-MAE (sdpa)", reads=reads), pictures()
    found = fine_tuning.features(view, dataset, vitlab.start(**RUN))
    with torch.no_grad():
        tokens = view(prepared(dataset))
    for b, image in enumerate(tokens):
        rows = list(image)
        mean, largest = sum(rows[1:]) / (len(rows) - 1), torch.stack(rows[1:]).max(dim=0).values
        ways = {"token": rows[0], "mean": mean, "mean_all": sum(rows) / len(rows), "max": largest}
        ways["max_all"] = torch.maximum(largest, rows[0])
        ways["mean+max_all"] = (ways["mean_all"] + ways["max_all"]) / 2
        wanted = ways[reads] if reads in ways else torch.cat([rows[0], mean])
        torch.testing.assert_close(found[b], wanted, atol=2e-5, rtol=1e-4)


def test_what_is_read_has_to_be_known():
    run, dataset = vitlab.start(**RUN), pictures()
    with pytest.raises(ValueError, match="pools no tokens.*reads='token'"):
        fine_tuning.features(viewed("transformers: ViT-MAE (sdpa)"), dataset, run)
    with pytest.raises(ValueError, match="nobody said what the images are normalised with"):
        fine_tuning.features(vitlab.attach(KINDS["transformers: ViT (sdpa)"].build(WIDE)), dataset, run)
    with pytest.raises(ValueError, match="not what a linear layer makes"):
        fine_tuning.features(doubled(), dataset, run)
    with pytest.raises(ValueError, match="attach\\(model\\) makes a view"):
        fine_tuning.features(viewed("timm: ViT").model, dataset, run)


def doubled():
    """A model whose output is more than what its last layer makes."""

    class Doubled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return 2 * self.inner(images)

    inner = viewed("timm: ViT")
    return vitlab.attach(Doubled(inner.model), WIDE, 8, num_prefix_tokens=1, **HALF)


def test_a_norm_for_a_head_gives_features():
    """vit-pytorch's SimpleViT with QK-norm ends on a norm, whatever number of classes it was asked for."""
    view, dataset = viewed("vit-pytorch: SimpleViT, QK-norm"), pictures()
    assert view.classifies is False
    with torch.no_grad():
        expected = view.model(prepared(dataset))
    assert expected.shape == (5, 32)
    found = fine_tuning.features(view, dataset, vitlab.start(**RUN))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="no classes to ask about"):
        vitlab.attention.maps.relevance(view, prepared(dataset), 1)


def test_a_view_of_our_own_model_is_the_model():
    model = randomised(ViT(ViTConfig(image_size=WIDE, patch_size=8, in_chans=3, representation_size=7)))
    run, dataset, view = vitlab.start(**RUN), pictures(), vitlab.attach(model)
    found = fine_tuning.features(view, dataset, run)
    assert torch.equal(found, fine_tuning.features(model, dataset, run))
    torch.testing.assert_close(view.prepare(dataset.images), vitlab.data.normalise(dataset.images))
    torch.testing.assert_close(found, model.pooled_features(dataset.images / 127.5 - 1))


def test_a_probe_of_a_view():
    """Bright pictures and dark ones, told apart by a timm model with random weights; the labels by name."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=1, num_heads=2)
    run, view = vitlab.start(**RUN), vitlab.attach(randomised(model))
    labels = torch.arange(40) % 2
    images = torch.randint(0, 100, (40, 3, 32, 32), generator=torch.Generator().manual_seed(3))
    images = (images + 120 * labels[:, None, None, None]).byte()
    train = Dataset(images[:30], labels[:30], ["dark", "bright"])
    test = Dataset(images[30:], 1 - labels[30:], ["bright", "dark"])
    read = [fine_tuning.features(view, each, run) for each in (train, test)]
    assert fine_tuning.linear_probe(read[0], train, read[1], test) == 1.0
