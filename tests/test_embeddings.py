"""Projection, position tables and their resizing against loops, formulas, timm and Google's own output."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import timm.layers
import torch
import torch.nn.functional as F
from PIL import Image

import vitlab
from vitlab.embeddings import PatchEmbed, principal_filters, resize_pos_embed, sincos2d

GRIDS = [((4, 4), (6, 6)), ((4, 4), (3, 5)), ((4, 6), (7, 5)), ((2, 8), (4, 4)), ((7, 7), (3, 9))]
ORACLE = Path(__file__).resolve().parents[2] / "shared" / "oracles" / "jax" / "posembed_resize_jax.npz"


def test_patch_embed_is_one_matrix_on_flat_patches():
    embed = PatchEmbed(patch_size=4, in_chans=3, embed_dim=10)
    images = torch.randn(2, 3, 8, 12)
    flat = F.unfold(images, kernel_size=4, stride=4).transpose(1, 2)
    wanted = flat @ embed.proj.weight.flatten(1).T + embed.proj.bias
    torch.testing.assert_close(embed(images), wanted, rtol=1e-5, atol=1e-5)


def test_patch_embed_never_drops_pixels():
    with pytest.raises(ValueError, match="30 is not divisible by 4"):
        PatchEmbed(4, 1, 8)(torch.zeros(1, 1, 28, 30))


def test_sincos2d_by_hand():
    grid, width = (3, 5), 16
    table = sincos2d(grid, width)
    for row in range(grid[0]):
        for column in range(grid[1]):
            wanted = []
            for place in (row, column):
                angles = [place / 10_000 ** (k / (width // 4 - 1)) for k in range(width // 4)]
                wanted += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(table[row * grid[1] + column], torch.tensor(wanted))


LOADED_BEFORE = """
import torch, vitlab
from transformers import initialization

with initialization.meta_device_safe_creation_ops(), torch.device("meta"):  # as from_pretrained does
    torch.empty(1)
with torch.device("meta"):
    assert torch.linspace(0, 1, 2).device.type == "cpu", "transformers no longer does this"
    model = vitlab.ViT(vitlab.ViTConfig(pos_embed="sincos2d"))
assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
"""


def test_sincos2d_heeds_the_device_after_transformers_loaded_a_model():
    """linspace then does not (transformers 5.23, torch 2.14): findings/linspace_after_transformers.sh."""
    pytest.importorskip("transformers")
    done = subprocess.run([sys.executable, "-c", LOADED_BEFORE], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_sincos2d_needs_a_width_of_fours():
    with pytest.raises(ValueError, match="divisible by 4; got 10"):
        sincos2d((2, 2), 10)


def bilinear_by_loop(table, old, new):
    """Corner on corner: new row r lies at r · (old - 1) / (new - 1) of the old rows."""
    wanted = np.zeros((*new, table.shape[-1]))
    for r in range(new[0]):
        for c in range(new[1]):
            y = r * (old[0] - 1) / (new[0] - 1)
            x = c * (old[1] - 1) / (new[1] - 1)
            top, left = min(int(y), old[0] - 2), min(int(x), old[1] - 2)
            dy, dx = y - top, x - left
            wanted[r, c] = (
                table[top, left] * (1 - dy) * (1 - dx)
                + table[top, left + 1] * (1 - dy) * dx
                + table[top + 1, left] * dy * (1 - dx)
                + table[top + 1, left + 1] * dy * dx
            )
    return wanted


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_jax_resize_equals_a_loop(old, new):
    table = torch.randn(1, 1 + math.prod(old), 5)
    resized = resize_pos_embed(table, old, new)
    assert torch.equal(resized[:, 0], table[:, 0])  # the class token's entry is not touched
    wanted = bilinear_by_loop(table[0, 1:].reshape(*old, 5).double().numpy(), old, new)
    np.testing.assert_allclose(resized[0, 1:].reshape(*new, 5).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [*GRIDS, ((14, 14), (24, 24))])
def test_jax_resize_is_scipys_zoom(old, new):
    """Google's checkpoint.py calls scipy.ndimage.zoom with order 1 on the grid."""
    table = torch.randn(1, 1 + math.prod(old), 3)
    grid = table[0, 1:].reshape(*old, 3).numpy()
    wanted = scipy.ndimage.zoom(grid, (new[0] / old[0], new[1] / old[1], 1), order=1)
    resized = resize_pos_embed(table, old, new)[0, 1:].reshape(*new, 3)
    np.testing.assert_allclose(resized.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_timm_resize_is_timms(old, new):
    table = torch.randn(1, 1 + math.prod(old), 8)
    wanted = timm.layers.resample_abs_pos_embed(table, new_size=new, old_size=old, num_prefix_tokens=1)
    torch.testing.assert_close(resize_pos_embed(table, old, new, method="timm"), wanted)


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_timm_resize_is_pillows_bicubic(old, new):
    """Pillow's kernel widens when it makes smaller, which is what antialiasing means here."""
    table = torch.randn(1, 1 + math.prod(old), 2)
    resized = resize_pos_embed(table, old, new, method="timm")[0, 1:].reshape(*new, 2)
    for channel in range(2):
        grid = Image.fromarray(table[0, 1:, channel].reshape(old).numpy())
        wanted = grid.resize((new[1], new[0]), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(resized[..., channel].numpy(), np.asarray(wanted), atol=1e-4)


def bicubic_by_loop(line, new):
    """One axis: cubic convolution with a = -0.75 of four neighbours, edges on edges, ends held."""
    wanted = np.zeros((new, *line.shape[1:]))
    for i in range(new):
        place = (i + 0.5) * len(line) / new - 0.5
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            d = abs(place - j)
            inner = (1.25 * d - 2.25) * d * d + 1
            outer = -0.75 * (((d - 5) * d + 8) * d - 4)
            wanted[i] += (inner if d <= 1 else outer) * line[min(max(j, 0), len(line) - 1)]
    return wanted


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_hf_resize_equals_a_loop(old, new):
    table = torch.randn(1, 1 + math.prod(old), 5)
    grid = table[0, 1:].reshape(*old, 5).double().numpy()
    wanted = bicubic_by_loop(bicubic_by_loop(grid, new[0]).swapaxes(0, 1), new[1]).swapaxes(0, 1)
    resized = resize_pos_embed(table, old, new, method="hf")
    np.testing.assert_allclose(resized[0, 1:].reshape(*new, 5).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("new", [(6, 6), (3, 5), (9, 4)])
def test_hf_resize_is_transformers_own(new):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from transformers.models.vit.modeling_vit import ViTEmbeddings

    embeddings = ViTEmbeddings(transformers.ViTConfig(image_size=16, patch_size=4, hidden_size=8))
    table = torch.randn(1, 1 + 16, 8)
    embeddings.position_embeddings.data = table
    tokens = torch.zeros(1, 1 + math.prod(new), 8)
    wanted = embeddings.interpolate_pos_encoding(tokens, 4 * new[0], 4 * new[1])
    torch.testing.assert_close(resize_pos_embed(table, (4, 4), new, method="hf"), wanted)


@pytest.mark.parametrize("method", ["jax", "timm", "hf", "torchvision"])
def test_resizing_keeps_the_prefix_and_what_is_the_same_everywhere(method):
    table = torch.cat([torch.randn(1, 2, 6), torch.full((1, 12, 6), 0.7)], dim=1)
    resized = resize_pos_embed(table, (3, 4), (5, 2), num_prefix_tokens=2, method=method)
    assert torch.equal(resized[:, :2], table[:, :2])
    torch.testing.assert_close(resized[:, 2:], torch.full((1, 10, 6), 0.7))


@pytest.mark.parametrize("method", ["jax", "timm", "hf", "torchvision"])
def test_rows_stay_rows_and_columns_stay_columns(method):
    """What depends on the column alone does so afterwards, on a grid whose sides are swapped."""
    table = torch.arange(8.0).repeat(2)[None, :, None]  # 2 rows of 8
    resized = resize_pos_embed(table, (2, 8), (8, 2), num_prefix_tokens=0, method=method).view(8, 2)
    torch.testing.assert_close(resized, resized[:1].expand(8, 2))
    assert resized[0, 1] - resized[0, 0] > 3


def test_resizing_by_grid_not_by_number_of_tokens():
    table = torch.randn(1, 16, 8)
    resized = resize_pos_embed(table, (2, 8), (4, 4), num_prefix_tokens=0)
    assert resized.shape == table.shape
    assert not torch.allclose(resized, table)


@pytest.mark.skipif(not ORACLE.exists(), reason="the oracles folder is not here")
def test_jax_resize_is_googles():
    oracle = {name: torch.tensor(value) for name, value in np.load(ORACLE).items()}
    table = oracle["pos_embedding_in"]
    for new in ((6, 6), (14, 14), (2, 2)):
        wanted = oracle[f"out_4x4_to_{new[0]}x{new[1]}"]
        torch.testing.assert_close(resize_pos_embed(table, (4, 4), new), wanted, rtol=0, atol=1e-5)
    bare = resize_pos_embed(oracle["pos_embedding_in_gap"], (4, 4), (6, 6), num_prefix_tokens=0)
    torch.testing.assert_close(bare, oracle["out_gap_4x4_to_6x6"], rtol=0, atol=1e-5)
    wide = resize_pos_embed(table, (4, 4), (7, 5))
    torch.testing.assert_close(wide, oracle["EXT_out_4x4_to_7x5"], rtol=0, atol=1e-5)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 17, D\); got \(1, 16, 8\)"):
        vitlab.resize_pos_embed(torch.zeros(1, 16, 8), (4, 4), (6, 6))
    with pytest.raises(ValueError, match="'jax', 'timm', 'hf', 'torchvision', 'flexivit'; got 'nearest'"):
        vitlab.resize_pos_embed(torch.zeros(1, 17, 8), (4, 4), (6, 6), method="nearest")


def test_a_grid_has_whole_sides():
    table = torch.randn(1, 10, 8)
    assert torch.equal(resize_pos_embed(table, 3, 5), resize_pos_embed(table, (3, 3), (5, 5)))
    with pytest.raises(ValueError, match=r"pair \(height, width\); got \(0, 4\)"):
        resize_pos_embed(table, (3, 3), (0, 4))


def test_principal_filters_by_the_covariance():
    weight = torch.randn(30, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    filters, shares = principal_filters(weight, count=5)
    values, vectors = np.linalg.eigh(np.cov(weight.flatten(1).double().numpy(), rowvar=False))
    for i in range(5):
        mine, theirs = filters[i].flatten().double().numpy(), vectors[:, -1 - i]
        assert abs(mine @ theirs) == pytest.approx(1, abs=1e-5)  # but for the sign
        assert shares[i] == pytest.approx(values[-1 - i] / values.sum(), abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "count"), [((5, 3, 2, 2), 5), ((30, 1, 2, 2), 5), ((30, 12), 3), ((30, 3, 2, 2), 0)]
)
def test_principal_filters_that_there_are_not(shape, count):
    with pytest.raises(ValueError, match="at most D - 1 and C·P·P components"):
        principal_filters(torch.zeros(shape), count)


def test_wave_patterns_are_a_basis_from_even_to_checked():
    """All of length 1 and at right angles; two of them written out."""
    P = 5
    patterns = vitlab.embeddings.wave_patterns(P)
    products = patterns.flatten(1) @ patterns.flatten(1).T
    torch.testing.assert_close(products, torch.eye(P * P), atol=1e-5, rtol=0)
    torch.testing.assert_close(patterns[0], torch.full((P, P), 1 / P))
    wave = torch.tensor([[math.cos(math.pi * (x + 0.5) * 2 / P) for x in range(P)] for _ in range(P)])
    torch.testing.assert_close(patterns[2], wave / wave.norm())


def test_mean_likeness_is_that_of_a_loop():
    grid = (4, 6)
    table = torch.randn(24, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = [(row, column) for row in range(4) for column in range(6)]
    wanted = [[], [], [], []]
    for one, (y, x) in zip(table, places, strict=True):
        for other, (v, u) in zip(table, places, strict=True):
            cosine = F.cosine_similarity(one, other, dim=0).item()
            steps = abs(y - v) + abs(x - u)
            far = steps >= 3
            lists = steps == 1, far, far and (v, u) == (y, 5 - x), far and (v, u) == (3 - y, x)
            for numbers, where in zip(wanted, lists, strict=True):
                numbers += [cosine] * where
    assert vitlab.embeddings.mean_likeness(table, grid) == pytest.approx([sum(it) / len(it) for it in wanted])


@pytest.mark.parametrize(
    ("shape", "grid", "words"),
    [
        ((16, 8), (4, 5), r"a 4 x 5 grid takes a table of shape \(20, D\).*got \(16, 8\)"),
        ((17, 8), (4, 4), "without the class token; got"),
        ((1, 16, 8), (4, 4), r"got \(1, 16, 8\)"),
        ((1, 8), (1, 1), "at least 4 x 4; got 1 x 1"),
        ((12, 8), (3, 4), "at least 4 x 4; got 3 x 4"),
        ((20, 8), (10, 2), "at least 4 x 4; got 10 x 2"),
    ],
)
def test_mean_likeness_refuses_what_has_no_mirror_images(shape, grid, words):
    with pytest.raises(ValueError, match=words):
        vitlab.embeddings.mean_likeness(torch.randn(shape), grid)


def test_mean_likeness_is_a_number_on_the_smallest_grid():
    table = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    unit = F.normalize(table, dim=-1).view(4, 4, 3)
    found = vitlab.embeddings.mean_likeness(table, (4, 4))
    assert found[2] == pytest.approx((unit[:, 0] * unit[:, 3]).sum(-1).mean().item(), abs=1e-6)
    assert found[3] == pytest.approx((unit[0] * unit[3]).sum(-1).mean().item(), abs=1e-6)
