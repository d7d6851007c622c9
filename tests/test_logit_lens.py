"""The logit lens: models that end after each block."""

import pytest
import torch

from vitlab import ViT, ViTConfig
from vitlab.attention import intervene, logit_lens

SIZES = dict(image_size=8, patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_dim=16, num_classes=5)


@pytest.mark.parametrize(
    "fields",
    [{}, dict(pool="mean"), dict(representation_size=7), dict(pool="mean", norm_after_pool=True)],
)
def test_each_is_a_model_that_ends_there(fields):
    torch.manual_seed(0)
    model, images = ViT(ViTConfig(**(SIZES | fields))), torch.randn(2, 1, 8, 8)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    found = logit_lens(model, images)
    assert found.shape == (3, 2, 5)
    for depth in (1, 2, 3):
        short = ViT(ViTConfig(**(SIZES | fields | dict(depth=depth))))
        short.load_state_dict(model.state_dict(), strict=False)
        torch.testing.assert_close(found[depth - 1], short(images), atol=1e-5, rtol=1e-5)
    assert model.training
    with intervene(model, blocks=1):
        skipped = logit_lens(model, images)
    torch.testing.assert_close(skipped[1], skipped[0])


def test_errors():
    with pytest.raises(ValueError, match="got a Linear"):
        logit_lens(torch.nn.Linear(2, 2), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="without classes"):
        logit_lens(ViT(ViTConfig(**(SIZES | dict(num_classes=0)))), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="this model takes"):
        logit_lens(ViT(ViTConfig(**SIZES)), torch.zeros(1, 1, 9, 9))
