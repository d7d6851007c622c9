"""No tensor is made on the wrong device: all of it runs on the meta device, where mixing devices raises."""

import pytest
import torch
import torch.nn.functional as F

import vitlab
from vitlab import ViT, ViTConfig, data


@pytest.mark.parametrize(
    ("pool", "pos_embed"), [("token", "learned"), ("mean", "sincos2d"), ("token", "none")]
)
def test_forward_and_backward_on_meta(pool, pos_embed):
    config = ViTConfig(
        image_size=(28, 56), pool=pool, pos_embed=pos_embed, representation_size=32, dropout=0.1
    )
    model = ViT(config).to("meta")
    images = data.normalise(torch.zeros(4, 1, 28, 56, dtype=torch.uint8, device="meta"))
    logits = model(images)
    F.cross_entropy(logits, torch.zeros(4, dtype=torch.long, device="meta")).backward()
    assert {p.grad.device.type for p in model.parameters()} == {"meta"}


def test_recording_rollout_and_distance_on_meta():
    model = ViT(ViTConfig(image_size=(28, 56))).to("meta")
    with vitlab.record_attention(model) as record:
        model(torch.zeros(2, 1, 28, 56, device="meta"))
    assert record.weights.device.type == "meta"
    rollout = vitlab.attention_rollout(record.weights, "max", 0.5)
    assert rollout.device.type == "meta"
    assert rollout.shape == (2, 99, 99)
    assert vitlab.attention.class_map(rollout, (7, 14)).shape == (2, 7, 14)
    distance = vitlab.mean_attention_distance(record.weights, (7, 14), 4, cls="renormalise")
    assert distance.device.type == "meta"
    assert distance.shape == (4, 4)


def test_patches_and_positions_on_meta():
    patches = vitlab.patchify(torch.zeros(2, 3, 8, 12, device="meta"), 4)
    assert vitlab.unpatchify(patches, 4, (8, 12), 3).device.type == "meta"
    table = vitlab.resize_pos_embed(torch.zeros(1, 17, 8, device="meta"), (4, 4), (6, 8))
    assert table.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_on_a_gpu():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8, generator=generator)
    small = data.Dataset(images, torch.arange(64) % 10, list("abcdefghij"))
    for precision in ("fp32", "bf16", "fp16"):
        run = vitlab.start(device="cuda", precision=precision)
        history = vitlab.train(
            ViT(ViTConfig()), small, small, vitlab.Recipe(steps=60, augment=False), run, progress=False
        )
        assert history.accuracy > 0.9, precision


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_computes_what_the_cpu_computes():
    model, images = ViT(ViTConfig()).eval(), torch.randn(4, 1, 28, 28)
    torch.nn.init.normal_(model.head.weight)
    with torch.no_grad():
        wanted = model(images)
        with vitlab.record_attention(model) as record:
            model(images)
        weights = record.weights
        model.cuda()
        torch.testing.assert_close(model(images.cuda()).cpu(), wanted, rtol=1e-3, atol=1e-4)
        with vitlab.record_attention(model) as record:
            torch.testing.assert_close(model(images.cuda()).cpu(), wanted, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(record.weights.cpu(), weights, rtol=1e-3, atol=1e-5)
