#!/usr/bin/env bash
# Pillow reads some valid grey pictures as other ones, and says nothing.
#
# 1. TIFF 6.0 has two kinds of grey, PhotometricInterpretation 0 (white is zero) and 1 (black is zero). Pillow turns
#    the first kind round when it has 1, 2, 4 or 8 bits, so that white is white. With 16 bits it does not: the same
#    picture, stored with twice the bits, comes out as its negative.
# 2. PNG's chunk tRNS names one grey value or colour that is transparent, counted in the picture's own bits (section
#    11.3.2.1). Pillow spreads grey of 2 and 4 bits to 8 and compares with the number as it stood in the file: the
#    transparent pixels stay opaque. Colour of 16 bits is cut to its upper halves, in the pixels and in the number
#    alike: colours that are near the transparent one vanish, too.
# Hit are those who read scans, X-rays and microscopy (1), and drawings and diagrams laid on another ground (2).
#
# Versions below. Exits non-zero once one of these is read otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0

"$folder/env/bin/python" - <<'PYTHON'
import io
import struct
import zlib

import PIL
from PIL import Image

print("Pillow", PIL.__version__)


def tiff(pixels, bits, photometric):
    """A row of grey pixels, byte by byte."""
    width = len(pixels) * 8 // bits
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1), (278, 1)]
    tags += [(279, len(pixels))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + pixels


def png(row, width, depth, colour, clear):
    """One row of pixels, byte by byte."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", clear), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def read(content):
    return Image.open(io.BytesIO(content))


eight = list(read(tiff(bytes([0, 255]), 8, 0)).tobytes())
sixteen = list(struct.unpack("<2H", read(tiff(struct.pack("<2H", 0, 65535), 16, 0)).tobytes()))
print("TIFF in which white is zero, pixels white and black,  8 bits:", eight, "as it should be")
print("the same,                                            16 bits:", sixteen, "where 65535, 0 would be right")

two = list(read(png(bytes([0b00011011]), 4, 2, 0, b"\0\2")).convert("RGBA").getchannel("A").tobytes())
print("PNG, 2-bit grey 0 1 2 3, of which 2 is transparent; alpha:", two, "where 255, 255, 0, 255 would be right")
colours = struct.pack(">6H", 0x0101, 0x0202, 0x0303, 0x01FF, 0x0202, 0x0303)
clear = struct.pack(">3H", 0x0101, 0x0202, 0x0303)
deep = list(read(png(colours, 2, 16, 2, clear)).convert("RGBA").getchannel("A").tobytes())
print("PNG, two 16-bit colours, the first transparent; alpha:", deep, "where 0, 255 would be right")
assert (eight, sixteen, two, deep) == ([255, 0], [0, 65535], [255] * 4, [0, 0]), "read otherwise now"
PYTHON
