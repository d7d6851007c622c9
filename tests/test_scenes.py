"""Scenes against pixels placed one by one, and backgrounds found again in photographs that Pillow resized."""

import colorsys
import math
import time

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image, ImageOps

from vitlab import data
from vitlab.data import synthetic

OTHER = {"train": "test", "test": "train"}


@pytest.fixture(scope="module")
def many() -> data.Scenes:
    return data.scenes(1003, seed=3)


# --- what is returned --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 48, 70, (33, 57), (64, 32), (224, 96)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_types_shapes_and_ranges(size, split):
    images, labels, masks = data.scenes(5, image_size=size, split=split)
    height, width = (size, size) if isinstance(size, int) else size
    assert (images.shape, images.dtype) == ((5, 3, height, width), torch.uint8)
    assert (labels.shape, labels.dtype) == ((5,), torch.int64)
    assert (masks.shape, masks.dtype) == ((5, height, width), torch.bool)
    assert int(images.max()) - int(images.min()) > 100
    shorter = min(height, width)
    for mask in masks.numpy():  # trousers are slim, and no garment fills its square
        assert 0.01 * shorter**2 < mask.sum() < (0.7 * shorter) ** 2


def test_a_dataset_to_train_on(many):
    dataset = many.dataset
    assert dataset.images is many.images
    assert dataset.labels is many.labels
    assert dataset.classes == data.fashion_mnist("test").classes


def test_the_seed_decides_and_nothing_else(many):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = data.scenes(1003, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(many, again, strict=True))
    other = data.scenes(1003, seed=4)
    assert not torch.equal(many.images[0], other.images[0])
    assert not torch.equal(many.labels, other.labels)


@pytest.mark.parametrize("n", [1, 7, 500, 501])  # 500 are made at once
def test_more_scenes_go_on_where_fewer_end(many, n):
    fewer = data.scenes(n, seed=3)
    assert all(torch.equal(few, all_of_them[:n]) for few, all_of_them in zip(fewer, many, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(n=0), "at least 1; got 0"),
        (dict(n=2.5), "whole number of scenes, at least 1; got 2.5"),
        (dict(n=3, image_size=31), "at least 32 pixels high and wide; got 31"),
        (dict(n=3, image_size=(48, 28)), r"at least 32 pixels high and wide; got \(48, 28\)"),
        (dict(n=3, image_size=48.0), r"\(height, width\), each at least 1; got 48.0"),
        (dict(n=3, split="validation"), '"train" or "test"; got \'validation\''),
    ],
)
def test_what_makes_no_scene_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.scenes(**arguments)


# --- what is drawn -----------------------------------------------------------------------------------------


def test_every_class_is_as_likely(many):
    counts = data.scenes(5000, seed=1, image_size=32).labels.bincount(minlength=10)
    assert counts.sum() == 5000
    assert (counts - 500).abs().max() < 4 * math.sqrt(5000 * 0.1 * 0.9)  # four deviations


def test_garments_lie_anywhere_inside(many):
    """Over 1,003 scenes they come to every edge, at sizes from small to large, with their middle anywhere."""
    rows, columns, sides = [], [], []
    for mask in many.masks.numpy():
        y, x = mask.nonzero()
        rows += [y.min(), y.max()]
        columns += [x.min(), x.max()]
        sides.append(max(np.ptp(y), np.ptp(x)) + 1)
    assert min(rows) <= 1
    assert max(rows) >= 46
    assert min(columns) <= 1
    assert max(columns) >= 46
    assert min(sides) < 0.5 * 48
    assert 0.75 * 48 < max(sides) <= 0.7 * 48 * (math.cos(synthetic.TILT) + math.sin(synthetic.TILT)) + 1
    middle = many.masks.float().mean(dim=0)
    assert middle[24, 24] < 0.7  # no place that has a garment in nearly every scene
    assert (middle[20:28, 20:28].mean() > middle[:8, :8].mean()).item()


def test_colours_differ_from_scene_to_scene(many):
    inside = many.masks[:, None].expand(-1, 3, -1, -1)
    means = (many.images.float() * inside).sum((2, 3)) / inside.sum((2, 3))  # (n, 3)
    brightest = means.argmax(dim=1).bincount(minlength=3)
    assert brightest.min() > 200  # red, green and blue each lead in about a third
    assert (means.std(dim=0) > 25).all()


# --- where the garment is ----------------------------------------------------------------------------------


def without_garments(monkeypatch, **arguments) -> data.Scenes:
    """The same scenes of garments that are blank, and so leave no trace."""
    real = data.fashion_mnist
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "fashion_mnist", lambda split: blank(real(split)))
        return data.scenes(**arguments)


def blank(dataset: data.Dataset) -> data.Dataset:
    return dataset._replace(images=torch.zeros_like(dataset.images))


@pytest.mark.parametrize("size", [48, (64, 33)])
def test_masks_are_where_the_image_differs_from_its_background(monkeypatch, size):
    arguments = dict(n=60, seed=2, image_size=size)
    images, _, masks = data.scenes(**arguments)
    grounds = without_garments(monkeypatch, **arguments)
    assert not grounds.masks.any()
    for image, ground, mask in zip(images.numpy(), grounds.images.numpy(), masks.numpy(), strict=True):
        differs = (image != ground).any(axis=0)
        near = scipy.ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2)
        assert not (differs & ~near).any()
        assert differs[mask].mean() > 0.97  # by chance a garment has the colour of what is behind it


def place_by_loop(garment: np.ndarray, draw: list[float], size: tuple[int, int]):
    """Brightness and cover of one garment, pixel by pixel: turn back, scale back, mix four neighbours."""
    height, width = size
    side = (0.4 + 0.3 * draw[0]) * min(size)
    angle = math.radians(50 * draw[1] - 25)
    reach = side / 2 * (math.cos(angle) + abs(math.sin(angle)))
    y0 = reach + draw[2] * (height - 2 * reach)
    x0 = reach + draw[3] * (width - 2 * reach)
    grey, cover = np.zeros(size), np.zeros(size)
    for row in range(height):
        for column in range(width):
            dy, dx = row + 0.5 - y0, column + 0.5 - x0
            u = (math.cos(angle) * dx + math.sin(angle) * dy) * 28 / side + 13.5
            v = (math.cos(angle) * dy - math.sin(angle) * dx) * 28 / side + 13.5
            for y in (math.floor(v), math.floor(v) + 1):
                for x in (math.floor(u), math.floor(u) + 1):
                    if 0 <= y < 28 and 0 <= x < 28:
                        share = (1 - abs(v - y)) * (1 - abs(u - x))
                        grey[row, column] += share * (0.2 + 0.8 * garment[y, x] / 255)
                        cover[row, column] += share * (garment[y, x] > 12)
    return grey, cover


@pytest.mark.parametrize("size", [(48, 48), (36, 60), (60, 36)])
def test_garments_are_placed_as_pixel_by_pixel(size):
    garments = data.fashion_mnist("test").images[:4]
    draws = torch.rand(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws[0], draws[1] = torch.tensor([0.0, 0, 0, 0]), torch.tensor([1.0, 1, 1, 1])  # into the corners
    placed = synthetic.place(garments, draws, size)
    for garment, draw, (grey, cover) in zip(garments, draws, placed, strict=True):
        wanted = place_by_loop(garment[0].numpy(), draw.tolist(), size)
        np.testing.assert_allclose(grey.numpy(), wanted[0], atol=1e-3)
        np.testing.assert_allclose(cover.numpy(), wanted[1], atol=2e-3)


def test_tints_are_those_of_hsv():
    draws = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for (hue, saturation, value), colour in zip(draws.tolist(), synthetic.tint(draws), strict=True):
        wanted = colorsys.hsv_to_rgb(hue, 0.3 + 0.7 * saturation, 0.7 + 0.3 * value)
        np.testing.assert_allclose(colour.numpy(), wanted, atol=1e-6)


# --- what lies behind it -----------------------------------------------------------------------------------


def distance_to(photo: Image.Image, image: np.ndarray, outside: np.ndarray) -> float:
    """How near any piece of a photograph, at any of the zooms, turned any way, comes to an image.

    Mean difference in grey levels over the pixels `outside` the garment.
    """
    return min(
        distance_upright(way(photo), image, outside)
        for turned in (lambda p: p, lambda p: p.transpose(Image.Transpose.TRANSPOSE))
        for mirrored in (lambda p: p, ImageOps.mirror)
        for flipped in (lambda p: p, ImageOps.flip)
        for way in [lambda p, ways=(turned, mirrored, flipped): ways[2](ways[1](ways[0](p)))]
    )


def distance_upright(photo: Image.Image, image: np.ndarray, outside: np.ndarray) -> float:
    height, width = outside.shape
    places = np.argwhere(outside)[:: max(1, outside.sum() // 25)]  # 25 pixels tell most pieces apart
    y, x = places.T
    fit = max(height / photo.height, width / photo.width)
    best = math.inf
    for zoom in synthetic.ZOOMS:
        sides = [math.ceil(zoom * fit * side) for side in photo.size]
        level = np.asarray(photo.resize(sides, Image.Resampling.BICUBIC)).astype(int)
        windows = np.lib.stride_tricks.sliding_window_view(level, (height, width), axis=(0, 1))
        rough = np.abs(windows[..., y, x] - image[:, y, x].astype(int)).mean(axis=(2, 3))
        row, column = np.unravel_index(rough.argmin(), rough.shape)
        best = min(best, np.abs(windows[row, column] - image.astype(int))[:, outside].mean())
    return best


@pytest.mark.parametrize("split", ["train", "test"])
def test_backgrounds_are_pieces_of_the_split_s_own_photographs(monkeypatch, split):
    monkeypatch.setattr(synthetic, "CONTRAST", (1.0, 1.0))  # in their own light
    images, _, masks = data.scenes(3, seed=6, image_size=32, split=split)
    photos = {name: Image.fromarray(p.permute(1, 2, 0).numpy()) for name, p in data.photos().items()}
    assert set(synthetic.BACKGROUNDS["train"]).isdisjoint(synthetic.BACKGROUNDS["test"])
    assert {name for names in synthetic.BACKGROUNDS.values() for name in names} == set(photos)
    for image, mask in zip(images.numpy(), masks.numpy(), strict=True):
        outside = ~scipy.ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2)
        nearest = {
            which: min(distance_to(photos[name], image, outside) for name in synthetic.BACKGROUNDS[which])
            for which in OTHER
        }
        assert nearest[split] < 0.75  # Pillow rounds between its two passes, so not all pixels are equal
        assert nearest[OTHER[split]] > 1.5


@pytest.mark.parametrize("size", [(32, 32), (33, 57)])
def test_backgrounds_are_turned_every_way(size):
    """One level upright and one on its side give the eight ways of turning and mirroring a picture."""
    height, width = size
    upright = torch.arange(3 * height * width).remainder(251).byte().view(3, height, width)
    draws = torch.tensor([[0.0, 0, 0, mirror, flip] for mirror in (0.2, 0.7) for flip in (0.2, 0.7)])
    pieces = synthetic.cut([upright], draws, size)
    wanted = [upright.flip(1, 2), upright.flip(2), upright.flip(1), upright]
    assert all(torch.equal(piece, way) for piece, way in zip(pieces, wanted, strict=True))
    levels = synthetic.backgrounds("train", size)
    assert len(levels) == 2 * len(synthetic.ZOOMS) * len(synthetic.BACKGROUNDS["train"])
    if height == width:
        assert torch.equal(levels[0], levels[len(synthetic.ZOOMS)].transpose(1, 2))


def test_backgrounds_are_seen_in_any_light():
    pieces = torch.randint(0, 256, (50, 3, 6, 5), generator=torch.Generator().manual_seed(0)).byte()
    draws = torch.rand(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    draws[0], draws[1] = 1.0, 0.0
    lit = synthetic.relight(pieces, draws)
    for n in range(50):
        for channel in range(3):
            contrast = 0.3 + 0.7 * draws[n, channel].item()
            offset = 255 * (1 - contrast) * draws[n, 3 + channel].item()
            wanted = contrast * pieces[n, channel].numpy().astype(float) + offset
            np.testing.assert_allclose(lit[n, channel].numpy(), wanted, atol=1e-3)
    assert torch.equal(lit[0], pieces[0].float())
    assert lit.min() >= 0
    assert lit.max() <= 255.001


def test_train_and_test_take_their_own_garments(monkeypatch):
    real = data.fashion_mnist

    def labelled_by_split(split):
        dataset = real(split)
        return dataset._replace(labels=torch.full_like(dataset.labels, {"train": 3, "test": 7}[split]))

    monkeypatch.setattr(synthetic, "fashion_mnist", labelled_by_split)
    assert data.scenes(20, split="train").labels.tolist() == [3] * 20
    assert data.scenes(20, split="test").labels.tolist() == [7] * 20


# --- camouflage --------------------------------------------------------------------------------------------


def test_a_camouflaged_garment_is_all_but_its_colour_the_same(many):
    hidden = data.scenes(1003, seed=3, camouflage=True)
    assert torch.equal(hidden.labels, many.labels)
    assert torch.equal(hidden.masks, many.masks)
    differs = (hidden.images != many.images).any(dim=1)
    outside = ~torch.nn.functional.max_pool2d(many.masks[:, None].float(), 5, 1, padding=2)[:, 0].bool()
    assert not (differs & outside).any()
    assert differs[many.masks].float().mean() > 0.9


def test_a_camouflaged_garment_s_colour_is_one_of_its_background_s(monkeypatch):
    arguments = dict(n=60, seed=2, camouflage=True)
    images, _, masks = data.scenes(**arguments)
    grounds = without_garments(monkeypatch, **arguments).images.float()
    for image, ground, mask in zip(images.float(), grounds, masks, strict=True):
        brightest = image[:, mask][:, image[:, mask].sum(0).argmax()]  # rounding weighs least there
        chroma = brightest / brightest.sum()
        known = (ground / ground.sum(dim=0, keepdim=True).clamp(min=1)).flatten(1)
        nearest = (known - chroma[:, None]).abs().amax(dim=0).min()
        assert nearest < 0.02


def test_distance_in_chroma_finds_a_garment_unless_it_is_camouflaged():
    """The strongest rival of attention that needs no model: far from the median colour is garment."""
    found = {}
    for camouflage in (False, True):
        images, _, masks = data.scenes(400, seed=0, split="test", camouflage=camouflage)
        pixels = images.numpy().astype(np.float64)
        chroma = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
        distance = np.abs(chroma - np.median(chroma, axis=(2, 3), keepdims=True)).sum(axis=1)
        patches = distance.reshape(400, 8, 6, 8, 6).mean(axis=(2, 4)).reshape(400, -1)
        share = masks.numpy().reshape(400, 8, 6, 8, 6).mean(axis=(2, 4)).reshape(400, -1)
        found[camouflage] = (share[np.arange(400), patches.argmax(axis=1)] >= 0.5).mean()
    assert found[False] > 0.6
    assert found[True] < found[False] - 0.2


# --- how fast ----------------------------------------------------------------------------------------------


def test_five_thousand_scenes_a_second_on_two_cores():
    """Processor time, which others on the machine hardly touch: two cores give two seconds of it in one."""
    n, spent = 4000, []
    data.scenes(1)  # reads the files
    for _ in range(3):
        before = time.process_time()
        data.scenes(n)
        spent.append(time.process_time() - before)
    assert n / (min(spent) / 2) >= 5000, f"{n / (min(spent) / 2):,.0f} scenes a second"
