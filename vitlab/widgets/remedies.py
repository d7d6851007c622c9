"""Lesson 01: what can be done with an image that a patch size does not divide, side by side."""

import numpy as np
from PIL import Image

from vitlab.widgets import tiles

SIDE = 280  # the longer side of the largest of the three pictures
GAP = 20
HEADER = 46
STRIPE = 5  # width of the stripes over what is cut off or added, in pixels


def remedies(image_size: tuple[int, int], patch_size: int) -> dict[str, tuple[int, int]]:
    """The sizes (H, W) to which crop, pad and resize bring an image: multiples of `patch_size`, from below,
    from above, and the nearest that is not 0.

    >>> remedies((28, 28), 5)
    {'crop': (25, 25), 'pad': (30, 30), 'resize': (30, 30)}
    """
    below = tuple(side // patch_size * patch_size for side in image_size)
    above = tuple(-(-side // patch_size) * patch_size for side in image_size)
    nearest = tuple(max(1, round(side / patch_size)) * patch_size for side in image_size)
    return {"crop": below, "pad": above, "resize": nearest}


def told(image_size: tuple[int, int], patch_size: int) -> dict[str, str]:
    """What each remedy makes of an image and what it costs, in words.

    >>> told((28, 28), 5)["pad"]
    'adds 116 pixels of black to 784'
    """
    sizes, pixels = remedies(image_size, patch_size), image_size[0] * image_size[1]
    stretch = [new / old for new, old in zip(sizes["resize"], image_size, strict=True)]
    kept, padded = (height * width for height, width in (sizes["crop"], sizes["pad"]))
    return {
        "crop": f"loses {pixels - kept:,} of {pixels:,} pixels ({1 - kept / pixels:.1%})",
        "pad": f"adds {padded - pixels:,} pixels of black to {pixels:,}",
        "resize": "scales height by {:.3f}, width by {:.3f}".format(*stretch),
    }


def count(size: tuple[int, int], patch_size: int) -> str:
    """The grid that a size (H, W) makes, in words.

    >>> count((25, 30), 5)
    '5 × 6 patches: N = 30'
    """
    rows, columns = size[0] // patch_size, size[1] // patch_size
    return f"{rows} × {columns} patches: N = {rows * columns:,}"


def draw(array: np.ndarray, patch_size: int, canvas: tuple[int, int]) -> Image.Image:
    """RGB uint8 (H, W, 3) cropped, padded and resized: three pictures of one scale, each under its grid.

    What is cut off is still shown, and striped, as is what is added; the two sides share it evenly.
    `canvas` is the size (width, height) of what is returned.
    """
    sizes, words = remedies(array.shape[:2], patch_size), told(array.shape[:2], patch_size)
    scale = SIDE / max(sizes["pad"])
    picture = Image.new("RGB", canvas, "white")
    for i, (name, size) in enumerate(sizes.items()):
        left, shown = i * (SIDE + GAP), _shown(*_remedied(name, array, size), size, patch_size, scale)
        picture.paste(Image.fromarray(shown), (left, HEADER))
        tiles.write(picture, (left, 4), f"{name} to {size[0]} × {size[1]}")
        tiles.write(picture, (left, 24), count(size, patch_size), size=13)
        tiles.write(picture, (left, HEADER + len(shown) + 4), words[name], size=13)
    return picture


Part = tuple[slice, slice]  # rows and columns of a picture


def _remedied(name: str, array: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Part, Part]:
    """A picture to show, the part of it that is cut into patches, and the part that is not striped."""
    whole = _middle(size, size)
    if name == "crop":
        return array, _middle(size, array.shape), _middle(size, array.shape)
    if name == "resize":
        resized = Image.fromarray(array).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(resized), whole, whole
    padded, image = np.zeros((*size, 3), np.uint8), _middle(array.shape, size)
    padded[image] = array
    return padded, whole, image


def _shown(
    array: np.ndarray, cut: Part, plain: Part, size: tuple[int, int], patch_size: int, scale: float
) -> np.ndarray:
    cut, plain = _scaled(cut, scale), _scaled(plain, scale)
    height, width = (max(1, round(side * scale)) for side in array.shape[:2])
    shown = tiles.resize(array, height, width)
    stripes = np.add.outer(np.arange(height), np.arange(width)) // STRIPE % 2 * np.uint8(128)
    striped = shown // 2 + stripes[..., None].astype(np.uint8)
    striped[plain] = shown[plain]
    if 0 not in size:  # there is nothing left of an image that is cropped to less than a patch
        tiles.grid(striped[cut], size[0] // patch_size, size[1] // patch_size)
    return striped


def _middle(inner: tuple[int, ...], outer: tuple[int, ...]) -> Part:
    """Where something of the size `inner` lies in the middle of something of the size `outer`."""
    starts = [(large - small) // 2 for small, large in zip(inner[:2], outer[:2], strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, inner[:2], strict=True))


def _scaled(part: Part, scale: float) -> Part:
    return tuple(slice(round(side.start * scale), round(side.stop * scale)) for side in part)
