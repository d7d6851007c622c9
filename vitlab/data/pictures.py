"""One picture from a file: upright, on white, in 8-bit colour, whole or fitted to a model's size."""

import os
import stat
import warnings
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # as Pillow calls them
READ = "JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF"
ENDINGS = ".jpg,.jpeg,.png,.apng,.webp,.gif,.bmp,.tif,.tiff,.avif"  # what a browser offers to choose from
OTHERS = {  # how files begin that people take for pictures, or that other programs read as such
    b"%PDF": "a PDF",
    b"%!PS": "EPS or PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"icns": "ICNS, icons of macOS",
    b"\0\0\1\0": "ICO, icons of Windows",
    b"8BPS": "Photoshop's PSD",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"<svg": "SVG, a drawing",
    b"DDS ": "DDS",
    b"v/1\x01": "OpenEXR",
    b"qoif": "QOI",
    b"SIMPLE  =": "FITS",
    **{b"P%d" % kind: "PBM, PGM or PPM" for kind in range(1, 7)},
}
BRANDS = {  # of files whose second word is ftyp
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "HEIC, as phones write"),
}
ORIENTATION = 0x0112  # the tag of EXIF and TIFF; from 5 on, rows are stored as columns
KEPT = 2  # pixels a side that a JPEG is decoded to, at least, for each one of the result


def read_image(path: str | os.PathLike | BinaryIO, size: tuple[int, int] | None = None) -> Tensor:
    """A picture as uint8 (3, H, W), upright and on white; its centre cropped and resized to `size` (H, W).

    Its content, not its name, decides: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF, and of an animation the first
    frame. `path` may be an open binary file, such as an upload. 16 bits become 8; a warning says so where
    they seem to hold fewer. With `size` a large JPEG is decoded at a half, a quarter or an eighth of its
    sides, as far as that leaves two pixels for each. Raises ValueError for another format, and for pixels
    whose black and white nothing says (floats, 32 bits); for a damaged file what Pillow raises.

    >>> from vitlab.files import find
    >>> read_image(find("photos/cat.jpg"), (24, 32)).shape
    torch.Size([3, 24, 32])
    """
    picture, remark = read_picture(path, size)
    if remark:
        name = getattr(path, "name", "the picture") if hasattr(path, "read") else path
        warnings.warn(f"{name}: {remark}", stacklevel=2)
    return picture


def read_picture(
    path: str | os.PathLike | BinaryIO, size: tuple[int, int] | None = None
) -> tuple[Tensor, str]:
    """What `read_image` gives, and what it would warn of, or nothing."""
    from PIL import Image, ImageOps

    with opened(path) as image:
        deep = image.format in ("PNG", "TIFF") and ";16" in str(image.tile)  # before it is decoded
        check_pixels(image, deep)
        drop_damaged_exif(image)
        box = None if size is None else reduced(image, size)
        if box is not None:
            wanted = size if stands(image) else size[::-1]
            image = image.convert("RGB").resize(wanted[::-1], Image.Resampling.BICUBIC, box)
        ImageOps.exif_transpose(image, in_place=True)
        image, remark = in_colour(image, deep)
        return as_tensor(image if size is None or box is not None else fit(image, size)), remark


def opened(path: str | os.PathLike | BinaryIO):
    """The picture that Pillow opens. Raises ValueError for another format, and for what is no file."""
    from PIL import Image, UnidentifiedImageError

    is_file = hasattr(path, "read")
    if not is_file and not (stat.S_ISREG(mode := os.stat(path).st_mode) or stat.S_ISDIR(mode)):
        raise ValueError("a pipe, a socket or a device, and no file")  # reading it might never end
    Image.init()  # so that OPEN knows all formats of this Pillow
    try:
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        if is_file:
            path.seek(0)
            head = path.read(132)
        else:
            with open(path, "rb") as file:
                head = file.read(132)
        raise ValueError(unread(head)) from error


def unread(head: bytes) -> str:
    """What to say of a file that Pillow does not open, by how it begins.

    >>> unread(b"%PDF-1.7")
    'a PDF; what is read is JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF'
    """
    import PIL
    from PIL import features

    beginnings = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP"}
    beginnings |= {b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    if head[4:8] == b"ftyp":
        kind = BRANDS.get(head[8:12], "a video or another container")
        kind = "AVIF" if b"avif" in head[8:48] else kind  # one of the brands that it is compatible with
    else:
        kind = next((name for begin, name in (OTHERS | beginnings).items() if head.startswith(begin)), None)
    kind = "DICOM" if head[128:132] == b"DICM" else kind
    if kind == "WebP" and head[8:12] != b"WEBP":
        kind = None
    if kind in ("AVIF", "WebP") and not (kind.upper() in PIL.Image.OPEN and features.check(kind.lower())):
        return (
            f"{kind}, which Pillow {PIL.__version__} does not read as it is installed here; "
            "`pip install --upgrade pillow` gets one that does (AVIF: 11.3 or newer)"
        )
    if kind == "AVIF" or kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP"):
        return f"{kind}, but damaged or of a kind that Pillow does not read"
    return f"{kind or ('no picture' if head else 'empty')}; what is read is {READ}"


def check_pixels(image, deep: bool) -> None:
    """Raise ValueError for pixels of which nobody can say how bright they are; mend what Pillow misreads.

    It compares a transparent value of 2 or 4 bits with grey values that it has spread to 8, and one of
    three times 16 bits with colours that it has cut to 8.
    """
    if image.mode in ("I", "F"):
        kind = "floats" if image.mode == "F" else "whole numbers of 32 bits, or with a sign"
        raise ValueError(f"pixels that are {kind}; which are black and white, nobody says: save 8 or 16 bits")
    clear = image.info.get("transparency")
    if deep and isinstance(clear, tuple):
        raise ValueError("16-bit colour with a transparent colour, of which Pillow keeps 8 bits: save 8 bits")
    steps = {"L;2": 3, "L;4": 15}.get(image.tile[0][3] if image.tile else None)
    if steps and isinstance(clear, int) and clear <= steps:
        image.info["transparency"] = clear * 255 // steps


def drop_damaged_exif(image) -> None:
    """Take EXIF that cannot be read away: its pixels are whole, and are shown as they are stored."""
    from PIL import Image

    try:
        image.getexif()
        copy = Image.new("L", (1, 1))  # asked anew, as Pillow raises for damage no more than once
        copy.info = image.info
        copy.getexif()
    except OSError:  # of a PNG the pixels come first, and those may be cut short
        raise
    except Exception:  # Pillow has an error of its own for each kind of damage
        for key in ("exif", "Raw profile type exif"):
            image.info.pop(key, None)


def stands(image) -> bool:
    """Whether a picture's rows are stored as rows, whatever way they are to be turned."""
    return image.getexif().get(ORIENTATION) not in (5, 6, 7, 8)


def reduced(image, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Have a large JPEG decoded at a half, a quarter or an eighth of its sides, as far as `size` allows.

    The centred part that `fit` would take, in the reduced one's pixels; None where it is decoded in full.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    height, width = size if stands(image) else size[::-1]
    box = centred(image.size, (width, height))
    spare = (box[2] - box[0]) / (KEPT * width)
    scale = next((scale for scale in (8, 4, 2) if scale <= spare), 1)
    whole = image.size
    drafted = image.draft(None, (whole[0] // scale, whole[1] // scale)) if scale > 1 else None
    if drafted is None:
        return None
    _, (_, _, width, _) = drafted  # a share of a pixel is counted as one, unlike in image.size
    return tuple(side * width / whole[0] for side in box)


def in_colour(image, deep: bool):
    """A picture in 8-bit colour on white, and a remark on values of 16 bits that seem to hold fewer."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return in_grey(image)
    highest = int(np.asarray(image)[..., :3].max()) if deep and image.mode in ("RGB", "RGBA") else 255
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    colour = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    return colour, remark_on(256 * highest + 255, 16)


def in_grey(image):
    """The same for grey of 12 or 16 bits, of which Pillow's own conversion keeps what is below 256."""
    from PIL import Image

    values, tags = np.asarray(image).astype(np.uint16), getattr(image, "tag_v2", {})
    bits, clear = tags.get(258, (16,))[0], image.info.get("transparency")  # 258: BitsPerSample
    shown = np.ones(values.shape, bool) if clear is None else values != clear
    remark = remark_on(int(values.max(initial=0, where=shown)), bits)
    if tags.get(262) == 0:  # PhotometricInterpretation: white is zero. Pillow minds it up to 8 bits
        values = (1 << bits) - 1 - values
    grey = np.where(shown, values >> (bits - 8), 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB"), remark


def remark_on(highest: int, bits: int) -> str:
    """What to say of a picture whose values of so many bits end at `highest`; nothing if they fill them.

    >>> remark_on(4000, 16)
    'its values end at 4,000 of 65,535, as those of 12 bits do, and so it has hardly any contrast; multiply \
them by 16 and save it again'
    """
    fewer = next(n for n in (8, 10, 12, 16) if highest < 1 << n)
    if not highest or fewer > bits - 4:
        return ""
    return (
        f"its values end at {highest:,} of {(1 << bits) - 1:,}, as those of {fewer} bits do, and so it has "
        f"hardly any contrast; multiply them by {1 << (bits - fewer)} and save it again"
    )


def centred(sides: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centred part of the wanted shape: left, top, right, bottom. Sizes are (W, H).

    >>> centred((30, 10), (5, 5))
    (10.0, 0.0, 20.0, 10.0)
    """
    (width, height), ratio = sides, wanted[0] / wanted[1]
    part = (ratio * height, height) if width / height > ratio else (width, width / ratio)
    left, top = (width - part[0]) * 0.5, (height - part[1]) * 0.5
    return left, top, left + part[0], top + part[1]


def fit(image, size: tuple[int, int]):
    """The centred part of a picture resized to `size` (H, W), bicubic and antialiased."""
    from PIL import Image

    wanted = size[::-1]
    return image.resize(wanted, Image.Resampling.BICUBIC, centred(image.size, wanted))


def as_tensor(image) -> Tensor:
    """A Pillow image in colour as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(np.asarray(image).transpose(2, 0, 1), order="C"))


def fit_picture(picture: Tensor, image_size: int | tuple[int, int], in_chans: int = 3) -> Tensor:
    """A picture uint8 (3, H, W) as `image_folder` would read it from a file: (in_chans, *image_size), uint8.

    The largest centred part of the wanted shape is resized (bicubic, antialiased); with `in_chans=1` it turns
    grey. Raises ValueError for another type or shape, and for other numbers of channels.

    >>> fit_picture(torch.zeros(3, 288, 448, dtype=torch.uint8), 48).shape
    torch.Size([3, 48, 48])
    """
    from PIL import Image

    size = check_size(image_size)
    if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) != 3:
        raise ValueError(
            f"a picture is uint8 of shape (3, H, W); got {picture.dtype} {tuple(picture.shape)}: read_image "
            "makes one from a file"
        )
    if in_chans not in (1, 3):
        raise ValueError(f"in_chans is 3 (colour) or 1 (grey); got {in_chans}")
    image = fit(Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()), size)
    return as_tensor(image) if in_chans == 3 else torch.from_numpy(np.array(image.convert("L")))[None]


def check_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """An image size as (H, W). Raises ValueError unless it is one or two whole numbers, at least 1 each."""
    size = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"image_size is a number of pixels or (height, width), each at least 1; got {image_size!r}"
        )
    return size
