"""Features of patches: their colours against NumPy's singular vectors, what is alike against loops."""

import numpy as np
import pytest
import torch

from vitlab import ViT, ViTConfig
from vitlab.attention import alike, patch_features, principal_colours, principal_map


def features(*shape) -> torch.Tensor:
    """Skewed numbers with directions of very different strength."""
    draw = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).exp()
    return draw * torch.linspace(0.2, 3, shape[-1]) + 5


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_features_are_the_tokens_of_patches_in_their_places(pool):
    model = ViT(ViTConfig((8, 12), 4, in_chans=3, embed_dim=12, depth=2, num_heads=2, pool=pool)).eval()
    images = torch.randn(2, 3, 8, 12)
    found, tokens = patch_features(model, images), model.forward_features(images)
    assert found.shape == (2, 2, 3, 12)
    for row in range(2):
        for column in range(3):
            place = row * 3 + column + (pool == "token")
            torch.testing.assert_close(found[:, row, column], tokens[:, place].detach())
    assert not found.requires_grad


def test_colours_are_the_first_three_components_by_singular_vectors():
    these = features(2, 5, 7, 8)
    flat = these.reshape(-1, 8).double().numpy()
    flat = flat - flat.mean(axis=0)
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    for channel in range(3):
        part = flat @ directions[channel]
        part = part if np.sum(part**3) > 0 else -part
        low, high = np.quantile(part, 0.02), np.quantile(part, 0.98)
        wanted = np.clip((part - low) / (high - low), 0, 1).reshape(2, 5, 7)
        np.testing.assert_allclose(principal_colours(these)[:, channel].numpy(), wanted, atol=1e-5)


def test_a_colour_means_the_same_in_each_picture():
    these = features(1, 4, 4, 6)
    both = principal_colours(torch.cat([these, these.flip(1, 2)]))
    torch.testing.assert_close(both[0], both[1].flip(1, 2))


def test_equal_features_have_no_colours_and_no_nan():
    assert principal_colours(torch.ones(1, 3, 3, 4)).isfinite().all()


@pytest.mark.parametrize("shape", [(3, 4, 8), (1, 3, 4, 2)])
def test_what_has_no_three_components_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(B, h, w, D\) with D of at least 3"):
        principal_colours(torch.ones(shape))


def test_alike_is_the_cosine_by_a_loop():
    these = features(1, 3, 4, 6)[0] - 6
    query = these[1, 2]
    for row in range(3):
        for column in range(4):
            a, b = query.tolist(), these[row, column].tolist()
            dot, lengths = sum(x * y for x, y in zip(a, b, strict=True)), 1.0
            for vector in (a, b):
                lengths *= sum(x * x for x in vector) ** 0.5
            assert alike(query, these)[row, column] == pytest.approx(dot / lengths, abs=1e-6)
    assert alike(query, these).argmax() == 1 * 4 + 2


@pytest.mark.parametrize("width", [3, 8, 60])
def test_a_map_is_each_picture_s_first_component_its_edge_below(width):
    """By NumPy's eigenvectors, picture by picture; a picture upside down has its map upside down."""
    these = features(4, 5, 6, width)
    edge = np.ones((5, 6), dtype=bool)
    edge[1:-1, 1:-1] = False
    for picture, found in zip(these.double().numpy(), principal_map(these).numpy(), strict=True):
        flat = picture.reshape(30, width) - picture.reshape(30, width).mean(axis=0)
        wanted = (flat @ np.linalg.eigh(flat.T @ flat)[1][:, -1]).reshape(5, 6)
        wanted = -wanted if wanted[edge].mean() > wanted[~edge].mean() else wanted
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
        assert found[edge].mean() <= found[~edge].mean()
    torch.testing.assert_close(principal_map(these.flip(1)), principal_map(these).flip(1))
    torch.testing.assert_close(principal_map(-these), principal_map(these))
    torch.testing.assert_close(principal_map(these[1:2]), principal_map(these)[1:2])


def test_a_map_of_equal_patches_is_flat_and_a_grid_that_is_all_edge_is_refused():
    assert principal_map(torch.ones(2, 3, 4, 5)).abs().max() == 0
    for shape in [(3, 4, 8), (1, 2, 9, 4), (1, 9, 2, 4)]:
        with pytest.raises(ValueError, match="3 rows and columns or more"):
            principal_map(torch.ones(shape))
