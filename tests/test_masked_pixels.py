"""Masked patches whose pixels are predicted (MAE): against transformers' loss, loops in fp64, and a file."""

import json
import math
import shlex
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

import vitlab
from vitlab import Recipe, ViT, ViTConfig, data
from vitlab.fine_tuning import adapt
from vitlab.pretraining import (
    Corruption,
    MaskedPatchViT,
    __main__,
    masked_patch_prediction,
    normalised_pixels,
    seen_and_guessed,
)
from vitlab.pretraining.masked import MASKED
from vitlab.training import command

SMALL = dict(image_size=(12, 20), num_classes=0, embed_dim=24, depth=2, num_heads=3, mlp_dim=40)


def tiny(channels: int = 3, **fields) -> MaskedPatchViT:
    torch.manual_seed(1)
    model = MaskedPatchViT(ViTConfig(**(SMALL | dict(in_chans=channels) | fields)), target="pixels")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def pictures(n: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, 12, 20, generator=draw) * 2 - 1


def box(place: int) -> tuple[slice, slice]:
    """Where a patch of 4 pixels lies, 5 to a row."""
    return slice(4 * (place // 5), 4 * (place // 5) + 4), slice(4 * (place % 5), 4 * (place % 5) + 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_that_of_transformers_mae(channels):
    """Its loss where its decoder says what ours predicts: its patches are (P, P, C), ours (C, P, P)."""
    transformers = pytest.importorskip("transformers")
    sizes = dict(image_size=16, patch_size=4, num_channels=channels, hidden_size=8, num_hidden_layers=1)
    sizes |= dict(num_attention_heads=1, intermediate_size=8, decoder_hidden_size=8, norm_pix_loss=True)
    sizes |= dict(decoder_num_hidden_layers=1, decoder_num_attention_heads=1, decoder_intermediate_size=8)
    theirs = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**sizes, mask_ratio=0.5))
    model = tiny(channels, image_size=16)
    images = torch.rand(5, channels, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    images[0, :, :4, :4] = 0.25  # a flat patch
    hidden = model.draw(images)
    predicted, _ = model(images, hidden)
    everywhere = torch.zeros(5, 16, channels * 16)
    everywhere.scatter_(1, hidden.patches[..., None].expand_as(predicted), predicted.detach())
    everywhere = everywhere.unflatten(2, (channels, 16)).transpose(2, 3).flatten(2)
    theirs.decoder = Says(everywhere)
    noise = torch.zeros(5, 16).scatter(1, hidden.patches, 1.0)  # the largest are masked
    found = theirs(images, noise=noise)
    assert torch.equal(found.mask, noise)
    model.draw = lambda *_: hidden
    loss, _, counted, divisor = masked_patch_prediction(model, images, labels=None)
    torch.testing.assert_close(loss, found.loss)
    assert counted == divisor == 5 * 8


class Says(torch.nn.Module):
    """In the place of a decoder, always the same."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, *_, **__) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


@pytest.mark.parametrize("fields", [{}, dict(pool="mean"), dict(num_registers=2), dict(pos_embed="none")])
@torch.no_grad()
def test_loss_and_right_ones_against_a_loop(fields):
    """Patch by patch, in fp64: mask, encode, and compare with pixels that are normalised by hand."""
    model, images = tiny(**fields).double(), pictures(4).double()
    images[1, :, :4, 4:8] = 0.5
    vit, c = model.vit, model.vit.config
    torch.manual_seed(3)
    loss, correct, counted, _ = masked_patch_prediction(model, images, labels=None)
    torch.manual_seed(3)
    hidden = model.draw(images)
    assert (hidden.kinds == MASKED).all()
    assert torch.equal(hidden.sources, hidden.patches)
    errors, hits = [], 0
    for image, places in zip(images, hidden.patches.tolist(), strict=True):
        weight, bias = vit.patch_embed.proj.weight.flatten(1), vit.patch_embed.proj.bias
        sequence = [weight @ image[:, *box(i)].flatten() + bias for i in range(15)]
        for place in places:
            sequence[place] = model.mask_token[0, 0]
        tokens = vit.norm(vit.blocks(vit.sequence(torch.stack(sequence)[None])))[0, c.num_prefix_tokens :]
        for place in places:
            pixels = image[:, *box(place)].flatten().tolist()
            mean = sum(pixels) / 48
            deviation = math.sqrt(sum((x - mean) ** 2 for x in pixels) / 47 + 1e-6)
            true = torch.tensor([(x - mean) / deviation for x in pixels], dtype=torch.float64)
            guess = model.head.weight @ tokens[place] + model.head.bias
            errors.append(float(((guess - true) ** 2).mean()))
            hits += errors[-1] < float((true**2).mean())
    assert counted == len(errors) == 4 * 7
    assert loss.item() == pytest.approx(sum(errors) / counted, rel=1e-5)  # a loss is fp32
    assert correct.item() == hits


def test_targets_have_mean_0_and_deviation_1_and_flat_ones_are_0():
    images = pictures(3)
    images[2, :, 4:8, 8:12] = -0.3
    made = normalised_pixels(images, 4)
    assert made.shape == (3, 15, 48)
    torch.testing.assert_close(made.mean(dim=2), torch.zeros(3, 15), rtol=0, atol=1e-5)
    wanted = torch.ones(3, 15)
    wanted[2, 5 + 2] = 0
    torch.testing.assert_close(made.std(dim=2), wanted, rtol=0, atol=1e-4)
    # brightness and contrast of an image are not in it
    torch.testing.assert_close(normalised_pixels(images[:2] * 0.5 + 0.2, 4), made[:2], rtol=1e-3, atol=1e-4)
    assert normalised_pixels(torch.rand(1, 1, 2, 2), 1).tolist() == [[[0.0]] * 4]
    with pytest.raises(ValueError, match="floats in .*; got torch.uint8; use vitlab.data.normalise"):
        normalised_pixels(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 4)


def test_the_first_loss_is_the_targets_mean_square():
    torch.manual_seed(0)
    model, images = MaskedPatchViT(ViTConfig(in_chans=3, num_classes=0), "pixels"), torch.rand(2, 3, 28, 28)
    loss, correct, *_ = masked_patch_prediction(model, images, labels=None)
    assert loss.item() == pytest.approx(47 / 48, abs=1e-3)
    assert correct == 0
    assert model.head.out_features == 48


def test_what_masked_patches_show_is_nowhere_but_in_the_loss():
    model, a, b = tiny().eval(), pictures(2), pictures(2, seed=1)
    every = torch.arange(15).expand(2, -1)
    masked = Corruption(every, torch.full_like(every, MASKED), every)
    with torch.no_grad():
        (first, true), (second, other) = model(a, masked), model(b, masked)
    assert torch.equal(first, second)
    assert not torch.allclose(true, other)


def test_every_weight_gets_a_gradient():
    model = tiny()
    masked_patch_prediction(model, pictures(8), labels=None).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bf16_keeps_predictions_and_loss_in_fp32():
    model, images = tiny().eval(), pictures(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted, true = model(images)
        loss = masked_patch_prediction(model, images, None).loss
    exact, same = model(images)
    assert predicted.dtype == loss.dtype == torch.float32
    assert torch.equal(true, same)
    torch.testing.assert_close(predicted, exact, rtol=0.1, atol=0.3)


def test_it_learns_pixels_and_serves_for_classification():
    run = vitlab.start(seed=0, device="cpu", precision="fp32")
    train, test = data.fashion_mnist("train").subset(1000), data.fashion_mnist("test").subset(200)
    model = MaskedPatchViT(ViTConfig(patch_size=7, num_classes=0, embed_dim=48, depth=2), "pixels")
    recipe = Recipe(steps=150, batch_size=64, learning_rate=3e-3, augment=False)
    history = vitlab.train(
        model, train, test, recipe, run, progress=False, evaluations=1, task=masked_patch_prediction
    )
    assert history.evaluations[-1].loss < 0.85 * history.rows[0]["loss"]
    assert history.accuracy > 0.5
    classifier = adapt(model.vit, num_classes=10)
    assert torch.equal(classifier.blocks[1].mlp.fc1.weight, model.vit.blocks[1].mlp.fc1.weight)


def test_what_the_model_sees_and_guesses_pixel_by_pixel():
    model, images = tiny().train(), pictures(2)
    seen, guessed, true = seen_and_guessed(model, images, seed=3)
    assert model.training
    hidden = model.draw(images, torch.Generator().manual_seed(3))
    with torch.no_grad():
        predicted, _ = model.eval()(images, hidden)
    assert torch.equal(true, images)
    for image in range(2):
        at = {place: i for i, place in enumerate(hidden.patches[image].tolist())}
        for place in range(15):
            inside = (image, slice(None), *box(place))
            if place not in at:
                assert torch.equal(seen[inside], images[inside])
                assert torch.equal(guessed[inside], images[inside])
                continue
            pixels = images[inside].flatten()
            guess = predicted[image, at[place]] * (pixels.var() + 1e-6).sqrt() + pixels.mean()
            assert not seen[inside].any()
            torch.testing.assert_close(guessed[inside].flatten(), guess.clamp(-1, 1))


def test_a_file_keeps_the_target(tmp_path):
    model, images = tiny().eval(), pictures(3)
    again = vitlab.load_checkpoint(vitlab.save_checkpoint(model, tmp_path / "m.safetensors"))
    assert again.target == "pixels"
    for one, other in zip(model(images), again(images), strict=True):
        assert torch.equal(one, other)
    plain = MaskedPatchViT(ViTConfig(**SMALL))
    assert (
        vitlab.load_checkpoint(vitlab.save_checkpoint(plain, tmp_path / "p.safetensors")).target
        == "mean colour"
    )
    ours = vitlab.load_checkpoint(vitlab.files.find("checkpoints/fashion_mnist_masked.safetensors"))
    assert ours.target == "mean colour", "a file that says nothing of a target"
    with pytest.raises(ValueError, match="target is 'mean colour' or 'pixels'; got 'colours'"):
        MaskedPatchViT(ViTConfig(**SMALL), target="colours")


def test_a_file_with_a_damaged_target_is_named(tmp_path):
    path = vitlab.save_checkpoint(tiny(), tmp_path / "m.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file(tiny().state_dict(), path, metadata | {"target": "pixel5"})
    with pytest.raises(ValueError, match=r"m\.safetensors, .*target is .* or 'pixels'; got 'pixel5'"):
        vitlab.load_checkpoint(path)


def test_the_command_line_trains_for_pixels(tmp_path, monkeypatch):
    few = {split: data.fashion_mnist(split).subset(range(60)) for split in ("train", "test")}
    monkeypatch.setattr(data, "fashion_mnist", few.__getitem__)
    path = tmp_path / "made.safetensors"
    options = "--steps 2 --batch_size 8 --precision fp32 --embed_dim 16 --depth 1 --num_heads 2 --mlp_dim 24"
    words = ["masked", "--target", "pixels", "--out", str(path), "--seed", "4", *options.split()]
    __main__.main(words)
    model, card = vitlab.load_checkpoint(path), json.loads(path.with_suffix(".json").read_text())
    assert model.target == "pixels"
    assert shlex.split(card["command"])[3:6] == ["masked", "--target", "pixels"]
    run = vitlab.start(seed=4, device="cpu", precision="fp32")
    vit = ViT(ViTConfig(embed_dim=16, depth=1, num_heads=2, mlp_dim=24))
    same = MaskedPatchViT(adapt(vit, num_classes=0), "pixels")
    recipe = Recipe(steps=2, batch_size=8, seed=4)
    vitlab.train(same, few["train"], None, recipe, run, progress=False, task=masked_patch_prediction)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_the_command_line_refuses_other_targets_and_shows_these(capsys, tmp_path):
    with pytest.raises(SystemExit):
        __main__.main(["masked", "--out", str(tmp_path / "m.safetensors"), "--target", "depth"])
    assert "mean colour" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--out", str(tmp_path / "m.safetensors"), "--target", "pixels"])
    assert "there is no option --target" in capsys.readouterr().err


def test_a_training_for_colours_is_not_gone_on_with_for_pixels(tmp_path):
    few = data.fashion_mnist("train").subset(range(32))
    recipe = Recipe(steps=2, batch_size=8)
    common = dict(progress=False, task=masked_patch_prediction, checkpoint_dir=tmp_path)
    sizes = dict(patch_size=7, num_classes=0, embed_dim=16, depth=1, num_heads=2)
    vitlab.train(MaskedPatchViT(ViTConfig(**sizes)), few, None, recipe, **common)
    with pytest.raises(ValueError, match="is of another training"):
        vitlab.train(MaskedPatchViT(ViTConfig(**sizes), "pixels"), few, None, recipe, **common)


def test_a_training_in_two_parts_is_one(tmp_path):
    few, recipe = data.fashion_mnist("train").subset(range(32)), Recipe(steps=6, batch_size=8, augment=False)

    def trained(folder=None, stop=None):
        run = vitlab.start(seed=2, device="cpu", precision="fp32")
        model = MaskedPatchViT(ViTConfig(num_classes=0, embed_dim=16, depth=1, num_heads=2), "pixels")

        def on_step(history):
            if history.rows[-1]["step"] == stop:
                raise KeyboardInterrupt

        vitlab.train(
            model, few, None, recipe, run, on_step, False, task=masked_patch_prediction, checkpoint_dir=folder
        )
        return model.state_dict()

    whole = trained()
    trained(tmp_path, stop=3)
    parts = trained(tmp_path)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
