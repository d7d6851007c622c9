"""Pictures from files of all kinds: pixels against what was written, byte by byte, or another reader's."""

import io
import itertools
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageOps, features

from vitlab import data
from vitlab.data import pictures
from vitlab.widgets import PictureUpload

WHITE = [255, 255, 255]
needs_avif = pytest.mark.skipif(
    "AVIF" not in (Image.init(), Image.OPEN)[1] or not features.check("avif"),
    reason="this Pillow reads no AVIF (11.3 and newer do)",
)


@pytest.fixture
def drawn() -> np.ndarray:
    """A picture of few colours, higher than wide, with no symmetry: uint8 (H, W, 3)."""
    picture = np.zeros((24, 16, 3), dtype=np.uint8)
    picture[:8, :, 0] = 200
    picture[8:, :4, 1] = 150
    picture[12:, 8:] = (30, 60, 250)
    return picture


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def read(content: bytes, size=None) -> np.ndarray:
    """(H, W, 3), as `read_image` gives it."""
    return data.read_image(io.BytesIO(content), size).permute(1, 2, 0).numpy()


# -------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("kind", "options", "off"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("GIF", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", dict(compression="tiff_lzw"), 0),
        ("TIFF", dict(compression="tiff_adobe_deflate"), 0),
        ("WEBP", dict(lossless=True), 0),
        ("JPEG", dict(quality=100, subsampling=0), 4),
        pytest.param("AVIF", dict(quality=100, subsampling="4:4:4"), 4, marks=needs_avif),
    ],
)
def test_what_was_written_is_read_whatever_the_name(tmp_path, drawn, kind, options, off):
    content = encoded(Image.fromarray(drawn), kind, **options)
    assert np.abs(read(content).astype(int) - drawn).max() <= off
    for place, name in enumerate(("photo", "photo.jpg", "photo.txt")):
        (tmp_path / "ab"[place % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[place % 2] / name).write_bytes(content)
    images, labels, _ = data.image_folder(tmp_path, (24, 16))
    assert labels.tolist() == [0, 0, 1]
    assert all(np.array_equal(image.permute(1, 2, 0), read(content)) for image in images)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_torchvision_s_own_decoders_see_the_same(kind):
    photo = data.photos()["cat"]
    image = Image.fromarray(photo.permute(1, 2, 0).numpy())
    content = encoded(image.quantize(64) if kind == "GIF" else image, kind)
    wanted = torchvision.io.decode_image(
        torch.frombuffer(bytearray(content), dtype=torch.uint8), torchvision.io.ImageReadMode.RGB
    )
    off = (data.read_image(io.BytesIO(content)).int() - wanted.reshape(-1, *photo.shape)[0].int()).abs()
    assert off.max() <= 2


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GIF", {}),
        ("PNG", {}),
        ("PNG", dict(default_image=True)),
        ("WEBP", dict(lossless=True)),
        pytest.param("AVIF", dict(quality=100, subsampling="4:4:4"), marks=needs_avif),
    ],
)
def test_of_an_animation_the_first_frame(drawn, kind, options):
    frames = [Image.fromarray(np.roll(drawn, shift, axis=0)) for shift in (0, 5, 11)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert Image.open(io.BytesIO(content)).n_frames >= 2
    assert np.abs(read(content).astype(int) - drawn).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
def test_every_format_s_rotation_is_undone(drawn, kind, orientation):
    """EXIF 2.3, tag 0x0112: where row 0 and column 0 of what is stored lie in the picture."""
    stored = {
        1: drawn,
        2: drawn[:, ::-1],
        3: drawn[::-1, ::-1],
        4: drawn[::-1],
        5: drawn.transpose(1, 0, 2),
        6: drawn.transpose(1, 0, 2)[::-1],
        7: drawn[::-1, ::-1].transpose(1, 0, 2),
        8: drawn.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = dict(
        JPEG=dict(quality=100, subsampling=0),
        WEBP=dict(lossless=True),
        AVIF=dict(quality=100, subsampling="4:4:4"),
    ).get(kind, {})
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    assert np.abs(read(content).astype(int) - drawn).max() <= 5
    fitted = read(content, (24, 16))
    assert np.abs(fitted.astype(int) - drawn).max() <= 5


# --------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0", b"junk", b"Exif\0\0"])
def test_damaged_exif_is_no_reason_to_lose_a_picture(drawn, kind, exif):
    """Viewers show it as it is stored; Pillow raises SyntaxError, struct.error and others."""
    image = Image.fromarray(np.kron(drawn, np.ones((8, 8, 1), np.uint8)))
    whole, damaged = encoded(image, kind), encoded(image, kind, exif=exif)
    for size in (None, (8, 8)):
        assert np.array_equal(read(damaged, size), read(whole, size))
    with pytest.raises(OSError, match="truncated|Truncated|decoder"):
        read(damaged[: len(damaged) // 2])


def png(width: int, depth: int, colour: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG byte by byte (its specification, section 5): colour 0 grey, 2 RGB, 3 palette, 4 grey, alpha."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(pixels: bytes, width: int, height: int, bits, order="<", photometric=1, kind=1, **tags) -> bytes:
    """An uncompressed TIFF byte by byte (TIFF 6.0, section 2); `tags` are extra ones, as t274=6."""
    bits = bits if isinstance(bits, tuple) else (bits,)
    entries = {256: (4, width), 257: (4, height), 259: (3, 1), 262: (3, photometric), 277: (3, len(bits))}
    entries |= {278: (4, height), 279: (4, len(pixels)), 339: (3, kind)}
    entries |= {int(name[1:]): (3, value) for name, value in tags.items()}
    first = 8 + 2 + 12 * (len(entries) + 2) + 4
    after = b"" if len(bits) == 1 else struct.pack(f"{order}{len(bits)}H", *bits)
    entries[258] = (3, bits[0]) if len(bits) == 1 else (3, first)
    entries[273] = (4, first + len(after))
    directory = struct.pack(f"{order}H", len(entries))
    for tag, (size, value) in sorted(entries.items()):
        count = len(bits) if tag == 258 else 1
        long = size == 4 or (tag == 258 and count > 1)
        content = struct.pack(f"{order}I", value) if long else struct.pack(f"{order}HH", value, 0)
        directory += struct.pack(f"{order}HHI", tag, size, count) + content
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8) + directory + bytes(4) + after + pixels


def packed(values: list[int], depth: int) -> bytes:
    """A row of values of less than 8 bits."""
    text = "".join(f"{value:0{depth}b}" for value in values)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_with_a_transparent_value_at_every_depth(depth):
    """White where it is transparent; all others as they are without it (PNG specification, 11.3.2.1)."""
    most = 2**depth - 1
    values = sorted({0, 1, most // 3, most // 2, most - 1, most})
    row = struct.pack(f">{len(values)}H", *values) if depth == 16 else packed(values, depth)
    for clear in values:
        grey = [255 if v == clear else v >> 8 if depth == 16 else round(255 * v / most) for v in values]
        content = png(len(values), depth, 0, [row], (b"tRNS", struct.pack(">H", clear)))
        assert read(content)[0].tolist() == [[value] * 3 for value in grey], clear


def test_colour_with_a_transparent_one():
    row = bytes([1, 2, 3, 4, 5, 6])
    content = png(2, 8, 2, [row], (b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    assert read(content)[0].tolist() == [WHITE, [4, 5, 6]]
    deep = struct.pack(">6H", 0x0101, 0x0202, 0x0303, 0x0102, 0x0202, 0xF0F0)
    assert read(png(2, 16, 2, [deep]))[0].tolist() == [[1, 2, 3], [1, 2, 0xF0]]
    with pytest.raises(ValueError, match="16-bit colour with a transparent colour"):
        read(png(2, 16, 2, [deep], (b"tRNS", struct.pack(">HHH", 0x0101, 0x0202, 0x0303))))


def test_palettes_and_alpha_on_white():
    palette = (b"PLTE", bytes([10, 20, 30, 200, 100, 0, 7, 8, 9]))
    content = png(3, 8, 3, [bytes([0, 1, 2])], palette, (b"tRNS", bytes([0, 51])))
    assert read(content)[0].tolist() == [WHITE, [244, 224, 204], [7, 8, 9]]
    half = [round(0.8 * 255 + 0.2 * 100), round(0.8 * 255)]
    assert read(png(2, 8, 4, [bytes([100, 51, 0, 51])]))[0, :, 0].tolist() == half
    assert read(png(2, 16, 4, [struct.pack(">4H", 25700, 13107, 0, 13107)]))[0, :, 0].tolist() == half
    rgba = np.array([[[255, 0, 0, 51], [9, 9, 9, 0]]], dtype=np.uint8)
    kinds = [("PNG", {}), ("TIFF", {}), ("WEBP", dict(lossless=True, exact=True))]
    for kind, options in kinds:
        assert read(encoded(Image.fromarray(rgba), kind, **options))[0].tolist() == [[255, 204, 204], WHITE]
    gif = Image.new("P", (2, 1))
    gif.putpalette([0, 255, 0, 0, 0, 255])
    gif.putdata([0, 1])
    assert read(encoded(gif, "GIF", transparency=1))[0].tolist() == [[0, 255, 0], WHITE]
    assert read(encoded(Image.new("1", (3, 1), 1), "TIFF"))[0].tolist() == [WHITE] * 3


VALUES = [0, 0x1234, 0x8001, 0xFFFF]


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_of_16_bits_in_both_byte_orders(order):
    pixels = struct.pack(f"{order}4H", *VALUES)
    grey = read(tiff(pixels, 4, 1, 16, order))
    assert grey[0, :, 0].tolist() == [value >> 8 for value in VALUES]
    assert (grey == grey[..., :1]).all()
    colour = struct.pack(f"{order}6H", *VALUES, 0x4321, 0x00FF)
    wanted = [[0, 0x12, 0x80], [0xFF, 0x43, 0]]
    assert read(tiff(colour, 2, 1, (16,) * 3, order, photometric=2))[0].tolist() == wanted
    turned = read(tiff(struct.pack(f"{order}4H", *VALUES), 4, 1, 16, order, t274=6))
    assert turned[:, 0, 0].tolist() == [value >> 8 for value in VALUES]


def test_tiffs_in_which_white_is_zero():
    assert read(tiff(bytes([0, 50, 255]), 3, 1, 8, photometric=0))[0, :, 0].tolist() == [255, 205, 0]
    deep = read(tiff(struct.pack("<4H", *VALUES), 4, 1, 16, photometric=0))
    assert deep[0, :, 0].tolist() == [(0xFFFF - value) >> 8 for value in VALUES]


def test_other_pixels_of_tiffs():
    """Colour multiplied by its alpha before, or not (ExtraSamples 1 or 2); four inks; grey of 4 bits."""
    pixels = bytes([51, 0, 0, 51, 0, 0, 0, 0, 10, 20, 30, 255])
    multiplied = read(tiff(pixels, 3, 1, (8,) * 4, photometric=2, t338=1))
    assert multiplied[0].tolist() == [[255, 204, 204], WHITE, [10, 20, 30]]
    plain = read(tiff(pixels, 3, 1, (8,) * 4, photometric=2, t338=2))
    assert plain[0].tolist() == [[round(0.8 * 255 + 0.2 * 51), 204, 204], WHITE, [10, 20, 30]]
    inks = bytes([0, 255, 255, 0, 0, 0, 0, 255])
    assert read(tiff(inks, 2, 1, (8,) * 4, photometric=5))[0].tolist() == [[255, 0, 0], [0, 0, 0]]
    for photometric, wanted in ((1, [17, 255]), (0, [238, 0])):
        assert read(tiff(bytes([0x1F]), 2, 1, 4, photometric=photometric))[0, :, 0].tolist() == wanted


def test_the_first_page_of_several():
    pages = [Image.new("RGB", (2, 1), colour) for colour in ("red", "blue")]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert read(content)[0].tolist() == [[255, 0, 0]] * 2


def test_a_tiff_that_says_12_bits_has_them(recwarn):
    """Two values in three bytes."""
    values = [0, 0x123, 0x800, 0xFFF]
    content = tiff(packed(values, 12), 4, 1, 12)
    assert read(content)[0, :, 0].tolist() == [value >> 4 for value in values]
    assert not recwarn.list


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff(struct.pack("<2f", 0.0, 0.7), 2, 1, 32, kind=3), "pixels that are floats"),
        (tiff(struct.pack("<2I", 0, 2**20), 2, 1, 32), "whole numbers of 32 bits"),
        (tiff(struct.pack("<2h", -5, 300), 2, 1, 16, kind=2), "or with a sign"),
    ],
)
def test_pixels_whose_white_nobody_says_are_refused(content, words):
    assert Image.open(io.BytesIO(content)).size == (2, 1)
    with pytest.raises(ValueError, match=words):
        read(content)


# ------------------------------------------------------------------------------------- fewer bits than said


def grey16(values: list[int]) -> bytes:
    return png(len(values), 16, 0, [struct.pack(f">{len(values)}H", *values)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (grey16([0, 4000]), r"end at 4,000 of 65,535, as those of 12 bits do.*multiply them by 16"),
        (grey16([0, 4095]), "12 bits"),
        (grey16([0, 1023]), "10 bits.*multiply them by 64"),
        (grey16([255, 3]), "8 bits.*multiply them by 256"),
        (tiff(struct.pack(">2H", 7, 4000), 2, 1, 16, ">"), "12 bits"),
        (tiff(struct.pack("<3H", 9, 4000, 30), 1, 1, (16,) * 3, photometric=2), "12 bits"),
        (tiff(packed([0, 255], 12), 2, 1, 12), "255 of 4,095, as those of 8 bits do"),
        (
            png(2, 16, 0, [struct.pack(">2H", 65535, 4000)], (b"tRNS", b"\xff\xff")),
            "end at 4,000 of 65,535",
        ),
    ],
)
def test_values_that_fill_fewer_bits_bring_a_warning(content, words):
    with pytest.warns(UserWarning, match=words) as caught:
        read(content)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "content", [grey16([0, 4096]), grey16([0, 0]), grey16([0, 65535]), png(2, 8, 0, [bytes([0, 3])])]
)
def test_values_that_fill_them_bring_none(content, recwarn):
    read(content)
    assert not recwarn.list


def test_a_folder_names_them_in_one_warning(tmp_path):
    for name, content in {"a/1": grey16([0, 4000]), "a/2": grey16([0, 65535]), "b/1": grey16([9])}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.warns(UserWarning, match="doubtful") as caught:
        assert len(data.image_folder(tmp_path, 2).labels) == 3
    (one,) = (str(each.message) for each in caught)
    assert one.startswith(f"doubtful in {tmp_path}: a/1 (its values end at 4,000")
    assert "b/1 (its values end at 9 " in one
    assert "a/2" not in one


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.7 ...", "a PDF"),
        (encoded(Image.new("RGB", (9, 9)), "EPS"), "EPS or PostScript"),
        (encoded(Image.new("RGBA", (16, 16)), "ICNS"), "ICNS, icons of macOS"),
        (encoded(Image.new("RGB", (16, 16)), "ICO"), "ICO, icons of Windows"),
        (encoded(Image.new("RGB", (9, 9)), "PPM"), "PBM, PGM or PPM"),
        (encoded(Image.new("RGB", (9, 9)), "DDS"), "DDS"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, as phones write"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "a video or another container"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"RIFF\0\0\0\0WAVEfmt ", "no picture"),
        (b"", "empty"),
        (b"not an image", "no picture"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path, content, words):
    with pytest.raises(
        ValueError, match=f"^{words}; what is read is JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF$"
    ):
        read(content)
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        data.read_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WebP"])
def test_the_beginning_of_a_picture_alone_is_a_damaged_one(kind, drawn):
    content = encoded(Image.fromarray(drawn), kind)
    with pytest.raises(ValueError, match=f"^{kind}, but damaged or of a kind that Pillow does not read"):
        read(content[:13])


@pytest.mark.parametrize("without", ["AVIF", "WEBP"])
def test_a_pillow_without_a_format_says_what_to_install(monkeypatch, without):
    """As versions before 11.3 have no AVIF."""
    monkeypatch.delitem(Image.OPEN, without, raising=False)
    content = dict(AVIF=b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", WEBP=b"RIFF\x10\0\0\0WEBPVP8 ")[without]
    with pytest.raises(ValueError, match=r"does not read.*pip install --upgrade pillow.*11\.3"):
        read(content)
    still = np.full((2, 2, 3), 7, dtype=np.uint8)
    assert np.array_equal(read(encoded(Image.fromarray(still), "TIFF")), still)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders here")
def test_a_pipe_a_socket_or_a_device_in_a_folder_does_not_block(tmp_path):
    """In a process of its own, so that a build that waits for the pipe is ended."""
    script = """
import os, socket, sys, warnings
from PIL import Image
from vitlab import data
root = sys.argv[1]
for name in "ab":
    os.mkdir(f"{root}/{name}")
    Image.new("RGB", (8, 8)).save(f"{root}/{name}/1.png")
os.mkfifo(f"{root}/a/pipe.png")
os.chdir(f"{root}/b")
socket.socket(socket.AF_UNIX).bind("socket.png")
os.symlink("/dev/zero", "zero.png")
warnings.showwarning = lambda message, *_: print(message)
print(len(data.image_folder(root, 8).labels))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    for name in ("a/pipe.png", "b/socket.png", "b/zero.png"):
        assert f"{name} (a pipe, a socket or a device, and no file)" in done.stdout
    assert done.stdout.endswith("\n2\n")


# ------------------------------------------------------------------------------------------------ large JPEGs


@pytest.fixture(scope="module")
def large() -> bytes:
    """A photograph of 24 megapixels as a camera stores it."""
    photo = Image.fromarray(data.photos()["cat"].permute(1, 2, 0).numpy())
    sharp = np.asarray(photo.resize((1500, 1000), Image.Resampling.BICUBIC))
    return encoded(Image.fromarray(np.tile(sharp, (4, 4, 1))), "JPEG", quality=92)


def in_full(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """The picture decoded whole, turned, cropped and resized by Pillow's own functions."""
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(ImageOps.fit(upright, size[::-1], Image.Resampling.BICUBIC))


def test_a_large_jpeg_is_read_fast_and_is_the_same(large):
    def seconds(call) -> float:
        took = []
        for _ in range(3):
            start = time.process_time()
            call()
            took.append(time.process_time() - start)
        return min(took)

    size = (224, 224)
    ours, whole = seconds(lambda: read(large, size)), seconds(lambda: in_full(large, size))
    assert ours < 0.6 * whole, (ours, whole)
    assert ours < 1
    off = np.abs(read(large, size).astype(int) - in_full(large, size))
    assert off.mean() < 1
    assert off.max() < 8


def test_a_large_jpeg_needs_little_memory(tmp_path, large):
    """The peak of a process that reads it, beyond one that reads a small one: 24 MP in colour are 72 MB."""
    pytest.importorskip("resource", reason="peaks are measured by the operating system")
    (tmp_path / "large.jpg").write_bytes(large)
    script = """
import io, re, resource, sys
from pathlib import Path
from PIL import Image
from vitlab import data
def peak():
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss begins with the peak of the process that started this one
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Image.new("RGB", (640, 480)).save(small := io.BytesIO(), "JPEG")
data.read_image(small, (224, 224))
before = peak()
data.read_image(sys.argv[1], (224, 224))
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "large.jpg"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 25e6


def test_a_reduced_jpeg_is_cropped_where_a_whole_one_is():
    """For sides that 8 does not divide, in every orientation and shape; off by less than between pixels."""
    photo = Image.fromarray(data.photos()["coffee"].permute(1, 2, 0).numpy())
    size_of = itertools.cycle([(1601, 1207), (1003, 1999), (1530, 2041)])
    for orientation, size in itertools.product(range(1, 9), ((32, 32), (24, 56), (60, 40))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = photo.resize(next(size_of), Image.Resampling.BICUBIC)
        content = encoded(image, "JPEG", quality=95, exif=exif)
        wanted = in_full(content, size).astype(int)
        off = np.abs(read(content, size) - wanted)
        moved = min(np.abs(np.roll(wanted, 1, axis) - wanted).mean() for axis in (0, 1))
        assert off.max() < 10, (orientation, size)
        assert off.mean() < 1 < moved / 4, (orientation, size, off.mean(), moved)


def test_other_kinds_of_large_jpegs(drawn):
    """Grey, for print, progressive, and several pictures in one (MPO)."""
    photo = Image.fromarray(data.photos()["cat"].permute(1, 2, 0).numpy()).resize((1400, 900))
    several = dict(save_all=True, append_images=[photo.transpose(Image.Transpose.ROTATE_180)])
    for image, kind, options in (
        (photo.convert("L"), "JPEG", {}),
        (photo.convert("CMYK"), "JPEG", {}),
        (photo, "JPEG", dict(progressive=True)),
        (photo, "MPO", several),
    ):
        content = encoded(image, kind, quality=95, **options)
        off = np.abs(read(content, (40, 40)).astype(int) - in_full(content, (40, 40)))
        assert off.max() < 10, (image.mode, kind)
        assert off.mean() < 1, (image.mode, kind)


def test_a_jpeg_that_is_not_much_larger_is_decoded_in_full():
    photo = Image.fromarray(data.photos()["cat"].permute(1, 2, 0).numpy())  # 448 x 288
    content = encoded(photo, "JPEG", quality=95)
    for size in ((224, 224), (96, 96), (300, 500)):
        assert np.array_equal(read(content, size), in_full(content, size))
        picture = data.read_image(io.BytesIO(content))
        assert np.array_equal(read(content, size), data.fit_picture(picture, size).permute(1, 2, 0))


# --------------------------------------------------------------------------------------------------- uploads


def test_an_upload_takes_the_same_formats_and_says_the_same(drawn):
    upload = PictureUpload({})
    for ending in (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"):
        assert ending in upload.button.accept.split(",")
    upload.take([("a.gif", encoded(Image.fromarray(drawn), "GIF")), ("dark.png", grey16([0, 4000]))])
    assert upload.said.startswith(
        "a.gif: 24 × 16 pixels, added. dark.png: 1 × 2 pixels, added, but its values"
    )
    assert np.array_equal(upload.pictures["a.gif"].permute(1, 2, 0), drawn)
    upload.take([("a.pdf", b"%PDF-1.4"), ("f.tif", tiff(struct.pack("<f", 0.5), 1, 1, 32, kind=3))])
    assert "a.pdf: a PDF; what is read is JPEG" in upload.said
    assert "f.tif: pixels that are floats" in upload.said
    assert set(upload.pictures) == {"a.gif", "dark.png"}
    assert pictures.READ in upload.said
