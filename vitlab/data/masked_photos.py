"""Photographs with outlines drawn by hand: where the object is, for what was not made to be known."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitlab.data.pictures import as_tensor, check_size, fit
from vitlab.files import checksums, find

FOLDER = "masked-photos/"  # a name.jpg and a name.png of each, both 384 × 384


class MaskedPhotos(NamedTuple):
    """Images uint8 (n, 3, S, S), masks bool (n, S, S), true on the object, and the photographs' names (n).

    >>> photos_with_masks(32).names[:3]
    ['airplane', 'astronaut', 'cameraman']
    """

    images: Tensor
    masks: Tensor
    names: list[str]


def photos_with_masks(image_size: int = 224) -> MaskedPhotos:
    """The shipped photographs of one main object, or few, and its outline to the pixel; by name, from A to Z.

    Each is square and was 384 pixels a side; a pixel of a smaller one is on the object where half of it is.
    `data/README.md` names authors and licences, and says how the outlines were made. Raises ValueError for
    another size than one whole number, and what `find` raises for a missing or damaged file.

    >>> images, masks, names = photos_with_masks(224)
    >>> images.shape, masks.shape, len(names)
    (torch.Size([15, 3, 224, 224]), torch.Size([15, 224, 224]), 15)
    """
    from PIL import Image

    size = check_size((image_size, image_size))
    names = sorted({Path(name).stem for name in checksums() if name.startswith(FOLDER)})
    images, masks = [], []
    for name in names:
        with (
            Image.open(find(f"{FOLDER}{name}.jpg")) as photo,
            Image.open(find(f"{FOLDER}{name}.png")) as mask,
        ):
            images.append(as_tensor(fit(photo, size)))
            cover = mask.convert("L").resize(size, Image.Resampling.BOX)
            masks.append(torch.from_numpy(np.asarray(cover) > 127))
    return MaskedPhotos(torch.stack(images), torch.stack(masks), names)
