"""Data: files against published checksums, readers against slow or foreign ones, batches against loops."""

import gzip
import hashlib
import http.server
import io
import pickle
import re
import shutil
import struct
import subprocess
import tarfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from vitlab import data, files

DATA = Path(__file__).resolve().parents[1] / "data"
README = (DATA / "README.md").read_text("utf-8")


# ----------------------------------------------------------------------------------------- the shipped files


def row(path: Path) -> str:
    """A file's row in the table of data/README.md."""
    content = path.read_bytes()
    name = path.relative_to(DATA).as_posix()
    return f"| `{name}` | {len(content)} | `{hashlib.sha256(content).hexdigest()}` |"


def test_the_readme_has_a_true_row_for_every_file():
    rows = {line for line in (DATA / "README.md").read_text("utf-8").splitlines() if line.count("|") == 4}
    rows -= {"| file | bytes | SHA-256 |", "| --- | ---: | --- |"}
    present = [path for path in DATA.rglob("*") if path.is_file() and path != DATA / "README.md"]
    true_rows = {row(path) for path in present}
    assert rows == true_rows, "the table in data/README.md should be:\n" + "\n".join(sorted(true_rows))


def test_the_readme_s_shell_command_checks_every_file():
    if not (shutil.which("sha256sum") and shutil.which("sed")):
        pytest.skip("needs sed and sha256sum")
    command = re.search(r"```sh\n(.+?)\n```", (DATA / "README.md").read_text("utf-8"), re.DOTALL)[1]
    result = subprocess.run(command, shell=True, cwd=DATA, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": OK") == len(files.checksums())


def test_fashion_mnist_is_the_published_one():
    published = dict(torchvision.datasets.FashionMNIST.resources)
    assert len(published) == 4
    for name, md5 in published.items():
        assert hashlib.md5((DATA / "fashion-mnist" / name).read_bytes()).hexdigest() == md5


def test_photos_are_small_and_fit_common_patches():
    photos = data.photos()
    assert 4 <= len(photos) <= 6
    assert {path.stem for path in (DATA / "photos").iterdir()} == set(photos)
    for name, photo in photos.items():
        path = DATA / "photos" / f"{name}.jpg"
        assert path.stat().st_size <= 150_000
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert not image.getexif()
            wanted = np.asarray(image)
        assert photo.dtype == torch.uint8
        assert photo.is_contiguous()
        np.testing.assert_array_equal(photo.permute(1, 2, 0).numpy(), wanted)
        assert photo.shape[1] % 32 == photo.shape[2] % 32 == 0
        assert f"| `{name}` | {photo.shape[1]} × {photo.shape[2]} |" in (DATA / "README.md").read_text(
            "utf-8"
        )
    assert any(photo.shape[1] > photo.shape[2] for photo in photos.values())
    assert any(photo.shape[1] < photo.shape[2] for photo in photos.values())


@pytest.mark.parametrize(("split", "prefix", "n"), [("train", "train", 60_000), ("test", "t10k", 10_000)])
def test_fashion_mnist_equals_a_slow_reader(split, prefix, n):
    images, labels, classes = data.fashion_mnist(split)
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert images.shape == (n, 1, 28, 28)
    with gzip.open(DATA / f"fashion-mnist/{prefix}-images-idx3-ubyte.gz") as file:
        assert struct.unpack(">HBBIII", file.read(16)) == (0, 8, 3, n, 28, 28)
        for i in range(n):
            pixels = file.read(784)
            if i % 1000 in (0, 999):
                for y in range(28):
                    assert images[i, 0, y].tolist() == [pixels[28 * y + x] for x in range(28)]
    with gzip.open(DATA / f"fashion-mnist/{prefix}-labels-idx1-ubyte.gz") as file:
        assert struct.unpack(">HBBI", file.read(8)) == (0, 8, 1, n)
        assert labels.tolist() == [struct.unpack("B", file.read(1))[0] for _ in range(n)]
    assert Counter(labels.tolist()) == dict.fromkeys(range(10), n // 10)
    assert classes == torchvision.datasets.FashionMNIST.classes


def test_fashion_mnist_equals_torchvision_s_reader(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(gzip.decompress((DATA / "fashion-mnist/t10k-images-idx3-ubyte.gz").read_bytes()))
    assert torch.equal(
        data.fashion_mnist("test").images[:, 0], torchvision.datasets.mnist.read_image_file(str(path))
    )


@pytest.mark.parametrize("read", [data.fashion_mnist, data.cifar10, data.cifar100])
def test_other_splits_are_refused(read):
    with pytest.raises(ValueError, match='"train" or "test"; got \'validation\''):
        read("validation")


# ------------------------------------------------------------------------ damaged files, and where files are


@pytest.fixture
def own_data(tmp_path, monkeypatch) -> Path:
    """A copy of the photographs and of the test images, in the folder that VITLAB_DATA names."""
    shutil.copytree(DATA / "photos", tmp_path / "photos")
    shutil.copytree(
        DATA / "fashion-mnist", tmp_path / "fashion-mnist", ignore=lambda *_: ["train-images-idx3-ubyte.gz"]
    )
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    return tmp_path


IMAGES = "fashion-mnist/t10k-images-idx3-ubyte.gz"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def change_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "error", "word"),
    [
        (truncate, ValueError, "truncated"),
        (empty, ValueError, "truncated"),
        (lengthen, ValueError, "altered"),
        (change_one_bit, ValueError, "altered"),
        (Path.unlink, FileNotFoundError, "missing"),
    ],
)
def test_a_damaged_file_is_named_with_its_checksum_and_the_remedy(own_data, damage, error, word):
    assert len(data.fashion_mnist("test").labels) == 10_000  # the copy is good, so far
    damage(own_data / IMAGES)
    with pytest.raises(error) as caught:
        data.fashion_mnist("test")
    message = str(caught.value)
    assert str(own_data / IMAGES) in message
    assert f" {word}" in message
    assert hashlib.sha256((DATA / IMAGES).read_bytes()).hexdigest() in message
    assert "4,422,102 bytes" in message
    assert "git checkout -- data" in message
    assert "VITLAB_DATA" in message


def test_a_damaged_photograph_is_named(own_data):
    change_one_bit(own_data / "photos/rocket.jpg")
    with pytest.raises(ValueError, match=r"rocket\.jpg is altered"):
        data.photos()


def test_a_file_is_hashed_once_unless_it_changes(own_data, monkeypatch):
    hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: hashed.append(file.name) or digest(file, kind)
    )
    data.find(IMAGES)
    data.find(IMAGES)
    assert len(hashed) == 1
    change_one_bit(own_data / IMAGES)
    with pytest.raises(ValueError, match="altered"):
        data.find(IMAGES)


def test_vitlab_data_comes_first_and_the_repository_second(tmp_path, monkeypatch):
    monkeypatch.delenv("VITLAB_DATA", raising=False)
    assert data.root() == DATA
    assert data.find("photos/cat.jpg") == DATA / "photos/cat.jpg"
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    assert data.root() == tmp_path
    assert data.root("photos") == DATA
    shutil.copytree(DATA / "photos", tmp_path / "photos")
    assert data.root("photos") == tmp_path
    assert data.find("photos/cat.jpg") == tmp_path / "photos/cat.jpg"
    assert len(data.photos()) == 5


def test_a_vitlab_data_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path / "typo"))
    with pytest.raises(FileNotFoundError, match="VITLAB_DATA names .*typo"):
        data.fashion_mnist("test")


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """vitlab as if installed in site-packages, with someone else's data/ beside it and none of its own."""
    monkeypatch.delenv("VITLAB_DATA", raising=False)
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "vitlab")
    (tmp_path / "data" / "photos").mkdir(parents=True)
    files.checksums.cache_clear()
    yield tmp_path / "vitlab"
    files.checksums.cache_clear()


def test_an_installed_package_uses_its_own_data(installed):
    shutil.copytree(DATA / "photos", installed / "_data" / "photos")
    shutil.copy(DATA / "README.md", installed / "_data")
    assert data.root("photos") == installed / "_data"
    assert len(data.photos()) == 5
    with pytest.raises(
        FileNotFoundError, match=r"t10k-images-idx3-ubyte\.gz is missing: expected 4,422,102 bytes"
    ):
        data.fashion_mnist("test")


def test_a_package_without_data_says_so(installed):
    with pytest.raises(FileNotFoundError, match="without its data"):
        data.root()
    with pytest.raises(FileNotFoundError, match="checksums, is missing"):
        data.photos()


def test_what_does_not_ship_is_named():
    with pytest.raises(ValueError, match=r"photos/dog\.jpg.*photos/cat\.jpg"):
        data.find("photos/dog.jpg")
    with pytest.raises(FileNotFoundError, match="'mnist'"):
        data.root("mnist")


# --------------------------------------------------------------------------------------------- image folders

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(path: Path, image: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def two_classes(path: Path, n: int = 1) -> None:
    for i in range(n):
        save(path / "cat" / f"{i}.png", Image.new("RGB", (12, 10), RED))
        save(path / "dog" / f"{i}.jpg", Image.new("RGB", (10, 14), BLUE), quality=95)


def test_image_folder_reads_class_subfolders(tmp_path):
    two_classes(tmp_path, 3)
    images, labels, classes = data.image_folder(tmp_path, 8)
    assert classes == ["cat", "dog"]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert labels.dtype == torch.int64
    assert images.dtype == torch.uint8
    assert images.shape == (6, 3, 8, 8)
    for image, colour in zip(images, [RED] * 3 + [BLUE] * 3, strict=True):
        assert (image.flatten(1).int() - torch.tensor(colour)[:, None]).abs().max() <= 2
    assert data.image_folder(str(tmp_path), (4, 6)).images.shape == (6, 3, 4, 6)


def bands(colours, along: str, side: int = 30) -> Image.Image:
    """Squares of these colours beside each other ("x") or below each other ("y")."""
    size = (side * len(colours), side) if along == "x" else (side, side * len(colours))
    image = Image.new("RGB", size)
    for i, colour in enumerate(colours):
        image.paste(
            colour,
            (side * i, 0, side * i + side, side) if along == "x" else (0, side * i, side, side * i + side),
        )
    return image


@pytest.mark.parametrize("along", ["x", "y"])
def test_the_centre_is_cropped_and_nothing_is_squeezed(tmp_path, along):
    two_classes(tmp_path)
    save(tmp_path / "cat" / "0.png", bands([RED, GREEN, BLUE], along))
    image = data.image_folder(tmp_path, 15).images[0]
    inside = image[:, 1:-1, 1:-1].permute(1, 2, 0)  # at the border, bicubic resizing mixes in the neighbours
    assert (inside == torch.tensor(GREEN, dtype=torch.uint8)).all()
    wide = data.image_folder(tmp_path, (10, 30) if along == "x" else (30, 10)).images[0]
    middle, last = wide[:, 5, 15] if along == "x" else wide[:, 15, 5], wide[:, -1, -1]
    assert (middle.tolist(), last.tolist()) == (list(GREEN), list(BLUE))


@pytest.mark.parametrize("extension", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation, extension):
    """The upright picture has its red corner at the top left, whatever way the camera stored it."""
    upright = Image.new("RGB", (64, 64), BLUE)
    upright.paste(RED, (0, 0, 32, 32))
    T = Image.Transpose  # how a camera that wrote this tag had stored the picture (EXIF 2.3, tag 0x0112)
    stored_as = [
        None,
        T.FLIP_LEFT_RIGHT,
        T.ROTATE_180,
        T.FLIP_TOP_BOTTOM,
        T.TRANSPOSE,
        T.ROTATE_90,
        T.TRANSVERSE,
    ]
    stored_as.append(T.ROTATE_270)
    stored = upright if orientation == 1 else upright.transpose(stored_as[orientation - 1])
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / f"image.{extension}", stored, exif=exif)
    image = data.read_image(tmp_path / f"image.{extension}").int()
    corners = [image[:, y, x].tolist() for y in (8, 56) for x in (8, 56)]
    for corner, colour in zip(corners, [RED, BLUE, BLUE, BLUE], strict=True):
        assert max(abs(a - b) for a, b in zip(corner, colour, strict=True)) < 12, orientation


def test_every_kind_of_pixel_becomes_8_bit_colour(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([*GREEN, *BLUE])
    palette.putdata([0, 1])
    grey16 = Image.fromarray(np.array([[0, 0x8001, 0xFFFF]], dtype=np.uint16))
    half = Image.fromarray(
        np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [255, 0, 0, 51]]], dtype=np.uint8), "RGBA"
    )
    grey_alpha = Image.fromarray(np.array([[[7, 255], [7, 0]]], dtype=np.uint8), "LA")
    kinds = {
        "grey": (Image.new("L", (1, 1), 77), {}, [[77, 77, 77]]),
        "one bit": (Image.new("1", (1, 1), 1), {}, [WHITE]),
        "palette": (palette, {}, [GREEN, BLUE]),
        "palette with a transparent entry": (palette, {"transparency": 0}, [WHITE, BLUE]),
        "colour with a transparent colour": (Image.new("RGB", (1, 1), RED), {"transparency": RED}, [WHITE]),
        "grey with alpha": (grey_alpha, {}, [(7, 7, 7), WHITE]),
        "colour with alpha": (half, {}, [(0, 0, 0), WHITE, (255, 204, 204)]),
        "16-bit grey": (grey16, {}, [(0, 0, 0), (128, 128, 128), WHITE]),
    }
    for name, (image, options, wanted) in kinds.items():
        save(tmp_path / f"{name}.png", image, **options)
        pixels = data.read_image(tmp_path / f"{name}.png")[:, 0].T
        assert pixels.tolist() == [list(pixel) for pixel in wanted], name


def test_cmyk_jpegs_are_read_as_colour(tmp_path):
    save(tmp_path / "print.jpg", Image.new("RGB", (16, 16), RED).convert("CMYK"), quality=95)
    red, green, blue = data.read_image(tmp_path / "print.jpg")[:, 8, 8].tolist()
    assert red > 240
    assert max(green, blue) < 20


def test_odd_files_are_skipped_and_one_warning_names_them(tmp_path, monkeypatch):
    two_classes(tmp_path, 2)
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG")
    (tmp_path / "cat" / "cut.jpg").write_bytes(whole.getvalue()[:-900])
    Image.fromarray(noise).save(whole := io.BytesIO(), "PNG")
    (tmp_path / "cat" / "cut.png").write_bytes(whole.getvalue()[:-900])
    (tmp_path / "cat" / "flipped.png").write_bytes(whole.getvalue().replace(b"IDAT", b"IDAB"))
    (tmp_path / "cat" / "empty.jpg").touch()
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "dog" / "page.jpg").write_text("<html>404</html>")
    save(tmp_path / "dog" / "drawing.ico", Image.new("RGB", (16, 16)))
    save(tmp_path / "dog" / "huge.png", Image.new("1", (400, 400)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    (tmp_path / "dog" / "puppies").mkdir()
    (tmp_path / "dog" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "stray.png").write_bytes((tmp_path / "cat" / "0.png").read_bytes())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "only.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "bare").mkdir()
    for hidden in ("cat/.DS_Store", ".directory", ".cache/thumb.png"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).touch()
    with pytest.warns(UserWarning, match="skipped in") as caught:
        images, labels, classes = data.image_folder(tmp_path, 8)
    assert len(caught) == 2
    assert {each.filename for each in caught} == {__file__}
    message, bare = (str(each.message) for each in caught)
    assert "'bare' (label 0); 'broken' (label 1): each keeps its number" in bare
    named = re.findall(r"[:;] ([^;(]+) \(", message.removeprefix(f"skipped in {tmp_path}"))
    assert sorted(named) == sorted(
        ["broken/only.png", "cat/cut.jpg", "cat/cut.png", "cat/empty.jpg", "cat/flipped.png", "cat/notes.txt"]
        + ["dog/drawing.ico", "dog/huge.png", "dog/lost.png", "dog/page.jpg", "dog/puppies", "stray.png"]
    )
    assert message.count(str(tmp_path)) == 1
    assert labels.tolist() == [2, 2, 3, 3]
    assert classes == ["bare", "broken", "cat", "dog"]
    assert len(images) == 4


def test_an_image_is_known_by_its_content(tmp_path):
    two_classes(tmp_path)
    save(tmp_path / "cat" / "photo", Image.new("RGB", (9, 9), GREEN), format="PNG")
    save(tmp_path / "cat" / "photo.JPEG", Image.new("RGB", (9, 9), GREEN))
    assert data.image_folder(tmp_path, 8).labels.tolist() == [0, 0, 0, 1]


def test_a_long_warning_counts_the_rest(tmp_path):
    two_classes(tmp_path)
    for i in range(23):
        (tmp_path / "dog" / f"bad{i:02d}.jpg").touch()
    with pytest.warns(UserWarning, match=r"bad19\.jpg \(.*; and 3 more$"):
        data.image_folder(tmp_path, 8)


def test_folders_without_two_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="missing is not a folder"):
        data.image_folder(tmp_path / "missing", 8)
    with pytest.raises(ValueError, match=r"0 classes \(none\).*subfolder"):
        data.image_folder(tmp_path, 8)
    save(tmp_path / "cat" / "0.png", Image.new("RGB", (9, 9)))
    with pytest.raises(ValueError, match=r"1 class \(cat\)"):
        data.image_folder(tmp_path, 8)
    with pytest.raises(ValueError, match=r"0\.png is not a folder"):
        data.image_folder(tmp_path / "cat" / "0.png", 8)


def test_split_folders_are_pointed_out(tmp_path):
    two_classes(tmp_path / "photos" / "train")
    two_classes(tmp_path / "photos" / "test")
    with pytest.warns(UserWarning, match="train/cat"), pytest.raises(ValueError, match="directly in it"):
        data.image_folder(tmp_path / "photos", 8)


@pytest.mark.parametrize("size", [0, -3, (8, 0), (8,), (8, 8, 3), 8.5, (8.0, 8), "88"])
def test_impossible_image_sizes_are_refused(tmp_path, size):
    two_classes(tmp_path)
    with pytest.raises(ValueError, match="image_size"):
        data.image_folder(tmp_path, size)


# ----------------------------------------------------------------------------------------------------- CIFAR


def cifar_standin(name: str) -> tuple[bytes, dict[str, bytes], dict[str, np.ndarray]]:
    """A tiny data set in CIFAR's format: archive, its files, and both splits' images (n, 3, 32, 32)."""
    rng = np.random.default_rng(0)
    ten = name == "CIFAR10"
    parts = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"] if ten else ["train", "test"]
    images = {part: rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8) for part in parts}
    contents = {}
    for part in parts:
        entry = {"data": images[part].reshape(3, 3072), ("labels" if ten else "fine_labels"): [2, 0, 1]}
        contents[part] = pickle.dumps(entry)
    names = {("label_names" if ten else "fine_label_names"): ["plane", "car", "bird"]}
    contents["batches.meta" if ten else "meta"] = pickle.dumps(names)
    folder = getattr(torchvision.datasets, name).base_folder
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    splits = {"train": np.concatenate([images[part] for part in parts[:-1]]), "test": images[parts[-1]]}
    return packed.getvalue(), contents, splits


class Server(http.server.ThreadingHTTPServer):
    """Sends one file, or as much of it as `sends` says, and counts the requests."""

    content, sends, requests = b"", None, 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.sends])

    def log_message(self, *_):
        pass


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def cifar(request, tmp_path, monkeypatch):
    """A server on this machine in the place of CIFAR's, with the stand-in: (read, server, images)."""
    archive, contents, images = cifar_standin(request.param)

    def md5(content):
        return hashlib.md5(content).hexdigest()

    kind = getattr(torchvision.datasets, request.param)
    server = Server(("127.0.0.1", 0), Handler)
    server.content = archive
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(kind, "url", f"http://127.0.0.1:{server.server_port}/{kind.filename}")
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    for table in ("train_list", "test_list"):
        monkeypatch.setattr(kind, table, [[file, md5(contents[file])] for file, _ in getattr(kind, table)])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(contents[kind.meta["filename"]])})
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    yield getattr(data, request.param.lower()), server, images, tmp_path / kind.base_folder
    server.shutdown()
    server.server_close()


def test_cifar_is_downloaded_only_when_asked(cifar):
    read, server, wanted, _ = cifar
    with pytest.raises(FileNotFoundError, match=rf'{read.__name__}\("train", download=True\)'):
        read("train")
    assert server.requests == 0
    train = read("train", download=True)
    fetched = server.requests
    assert fetched > 0
    test = read("test")
    assert read("test", download=True).classes == test.classes == ["plane", "car", "bird"]
    assert server.requests == fetched
    for split, dataset in (("train", train), ("test", test)):
        np.testing.assert_array_equal(dataset.images.numpy(), wanted[split])
        assert dataset.labels.tolist() == [2, 0, 1] * (len(wanted[split]) // 3)
        assert dataset.labels.dtype == torch.int64


def test_cifar_goes_to_the_cache_and_is_found_in_a_clone(cifar, tmp_path, monkeypatch):
    read, _, wanted, folder = cifar
    monkeypatch.delenv("VITLAB_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "clone" / "vitlab")
    read("test", download=True)
    cached = tmp_path / "home/.cache/vitlab" / folder.name
    assert cached.is_dir()
    (tmp_path / "clone" / "data").mkdir(parents=True)
    (tmp_path / "clone" / "pyproject.toml").touch()
    cached.rename(tmp_path / "clone" / "data" / folder.name)
    np.testing.assert_array_equal(read("test").images.numpy(), wanted["test"])


def test_half_a_cifar_download_is_never_taken_for_whole(cifar):
    read, server, wanted, _ = cifar
    server.sends = len(server.content) // 2
    with pytest.raises(ConnectionError, match="try again"):
        read("test", download=True)
    with pytest.raises(FileNotFoundError, match="absent or damaged"):
        read("test")
    server.sends = None
    np.testing.assert_array_equal(read("test", download=True).images.numpy(), wanted["test"])


def test_an_altered_cifar_file_is_not_unpickled(cifar, tmp_path):
    read, _, _, folder = cifar
    read("train", download=True)

    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harmed",)

    file = sorted(folder.glob("*test*"))[0]
    file.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(FileNotFoundError, match="absent or damaged"):
        read("test")
    assert not (tmp_path / "harmed").exists()
    pickle.loads(file.read_bytes())  # the trap works, so the line above could have failed
    assert (tmp_path / "harmed").exists()


def test_a_server_that_is_not_there(cifar):
    read, server, _, _ = cifar
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=r"from http://127\.0\.0\.1"):
        read("train", download=True)


# --------------------------------------------------------------------------------------------------- Dataset


@pytest.fixture
def numbered() -> data.Dataset:
    """Ten images of 2 × 4 × 6 whose every pixel is the label times ten."""
    labels = torch.arange(10)
    return data.Dataset(
        (labels * 10).byte()[:, None, None, None].expand(10, 2, 4, 6), labels, list("abcdefghij")
    )


def test_one_of_each_is_the_first_of_its_class():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 4, 4)
    given = data.Dataset(images, torch.tensor([2, 0, 2, 3, 0]), ["a", "b", "c", "d"])
    assert {name: int(image[0, 0, 0]) for name, image in given.one_of_each().items()} == {
        "a": 1,
        "c": 0,
        "d": 3,
    }
    assert {name: int(image[0, 0, 0]) for name, image in given.one_of_each("d", "a").items()} == {
        "d": 3,
        "a": 1,
    }
    assert list(given.one_of_each("d", "a")) == ["d", "a"]
    for name in ("b", "e"):
        with pytest.raises(ValueError, match=f"no image of '{name}'; there are some of a, c, d"):
            given.one_of_each(name)


def test_mirror_likeness_is_a_mean_correlation():
    images = torch.randint(
        0, 256, (5, 2, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    pixels = images.numpy().astype(float)
    wanted = [
        np.mean([np.corrcoef(one.ravel(), np.flip(one, axis).ravel())[0, 1] for one in pixels])
        for axis in (2, 1)
    ]
    assert data.mirror_likeness(images) == pytest.approx(wanted, abs=1e-6)
    assert data.mirror_likeness(torch.full((2, 1, 4, 4), 7, dtype=torch.uint8)) == (0, 0)


def test_subsets(numbered):
    assert numbered.subset([3, 3, 7]).labels.tolist() == [3, 3, 7]
    assert numbered.subset(torch.tensor([9, 0])).images[:, 0, 0, 0].tolist() == [90, 0]
    some = numbered.subset(6, seed=1)
    assert len(set(some.labels.tolist())) == 6
    assert some.labels.tolist() == numbered.subset(6, seed=1).labels.tolist()
    assert some.labels.tolist() != numbered.subset(6, seed=2).labels.tolist()
    assert torch.equal(some.images[:, 0, 0, 0], some.labels * 10)
    assert sorted(numbered.subset(np.int64(10)).labels.tolist()) == list(range(10))
    for n in (0, 11, -1):
        with pytest.raises(ValueError, match=f"1 to 10 of them; got {n}"):
            numbered.subset(n)


def test_selected_classes_are_renumbered(numbered):
    part = data.select_classes(numbered, [7, 2])
    assert part.labels.tolist() == [1, 0]
    assert part.images[:, 0, 0, 0].tolist() == [20, 70]
    assert part.classes == ["h", "c"]
    for wrong in ([], [3, 3], [10], [-1], [0, 1.5]):
        with pytest.raises(ValueError, match="from 0 to 9"):
            data.select_classes(numbered, wrong)


def test_a_dataset_prints_in_one_line(numbered):
    assert repr(numbered) == "Dataset(10 images of 2×4×6, classes: a, b, c, d, e, f, g, h, i, j; on cpu)"
    many = data.Dataset(*numbered[:2], [f"c{i}" for i in range(100)])
    assert "c9, …; on cpu" in repr(many)
    images, labels, classes = numbered.to("meta")
    assert (images.device.type, labels.device.type, classes) == ("meta", "meta", numbered.classes)


# ------------------------------------------------------------------------------------- normalise and augment


def test_normalise_covers_minus_one_to_one():
    values = torch.arange(256, dtype=torch.uint8)
    wanted = [2 * i / 255 - 1 for i in range(256)]
    normal = data.normalise(values)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal, torch.tensor(wanted), rtol=0, atol=1e-7)
    assert values.tolist() == list(range(256))
    with pytest.raises(ValueError, match="already"):
        data.normalise(normal)


def moved(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """An image (C, H, W) moved and mirrored, pixel by pixel, with zeros where nothing came from."""
    C, H, W = image.shape
    result = np.zeros_like(image)
    for c in range(C):
        for y in range(H):
            for x in range(W):
                source_y, source_x = y - down, x - right
                if mirrored:
                    source_x = W - 1 - x - right
                if 0 <= source_y < H and 0 <= source_x < W:
                    result[c, y, x] = image[c, source_y, source_x]
    return result


@pytest.mark.parametrize(
    ("C", "H", "W", "shift", "flip"), [(1, 6, 6, 2, True), (3, 5, 8, 1, True), (2, 7, 4, 2, False)]
)
def test_augment_gives_every_move_equally_often_and_nothing_else(C, H, W, shift, flip):
    n = 60 * (2 * shift + 1) ** 2 * (1 + flip)
    image = np.random.default_rng(0).integers(1, 256, (C, H, W), dtype=np.uint8)
    moves = {
        moved(image, down, right, mirrored).tobytes(): (down, right, mirrored)
        for down in range(-shift, shift + 1)
        for right in range(-shift, shift + 1)
        for mirrored in range(1 + flip)
    }
    images = torch.from_numpy(image).expand(n, C, H, W)
    augmented = data.augment(images, torch.Generator().manual_seed(0), shift, flip)
    assert augmented.dtype == torch.uint8
    counts = Counter(moves[one.numpy().tobytes()] for one in augmented)
    assert len(counts) == len(moves) == n // 60
    assert 30 < min(counts.values()) <= max(counts.values()) < 100


def test_augment_keeps_images_apart():
    images = torch.arange(1, 51, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 8, 8)
    augmented = data.augment(images, torch.Generator().manual_seed(0))
    assert augmented.amax(dim=(1, 2, 3)).tolist() == list(range(1, 51))
    assert set(augmented.unique().tolist()) <= set(range(51))


def test_augment_is_decided_by_its_generator():
    images = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    first, again, other = (data.augment(images, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(data.augment(images, torch.Generator(), shift=0, flip=False), images)
    state = torch.random.get_rng_state()
    data.augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is left alone
    with pytest.raises(ValueError, match="shift"):
        data.augment(images, torch.Generator(), shift=-1)


def test_augment_and_normalise_stay_on_their_device():
    images = torch.zeros(4, 3, 8, 12, dtype=torch.uint8, device="meta")
    batch = data.normalise(data.augment(images, torch.Generator().manual_seed(0)))
    assert (batch.device.type, batch.shape, batch.dtype) == ("meta", (4, 3, 8, 12), torch.float32)


# --------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 13, 25])
def test_each_pass_has_each_image_once(numbered, batch_size):
    passes = 13
    labels = []
    for images, batch_labels in data.batches(
        numbered, batch_size, seed=0, steps=-(-10 * passes // batch_size)
    ):
        assert images.shape == (batch_size, 2, 4, 6)
        assert images.dtype == torch.float32
        wanted = batch_labels[:, None, None, None].expand_as(images) * 10 / 127.5 - 1
        torch.testing.assert_close(images, wanted)
        labels += batch_labels.tolist()
    orders = [tuple(labels[i : i + 10]) for i in range(0, 10 * passes, 10)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == passes


def test_steps_and_seeds(numbered):
    def drawn(seed, **options):
        return [labels.tolist() for _, labels in data.batches(numbered, 4, seed, **options)]

    assert drawn(3, steps=7) == drawn(3, steps=7) == drawn(torch.Generator().manual_seed(3), steps=7)
    assert drawn(3, steps=7) != drawn(4, steps=7)
    assert drawn(3, steps=7)[:2] == drawn(3, steps=2)
    assert drawn(3, steps=0) == []
    endless = data.batches(numbered, 4)
    assert len([next(endless) for _ in range(100)]) == 100


def test_batches_augment_when_asked():
    images = torch.full((20, 1, 8, 8), 255, dtype=torch.uint8)
    dataset = data.Dataset(images, torch.zeros(20, dtype=torch.long), ["white"])
    plain, _ = next(data.batches(dataset, 20))
    augmented, _ = next(data.batches(dataset, 20, augment=True))
    assert (plain == 1).all()
    assert set(augmented.unique().tolist()) == {-1.0, 1.0}  # zeros moved in at the border
    assert (augmented[:, :, 2:-2, 2:-2] == 1).all()


def test_batches_refuse_what_they_cannot_do(numbered):
    with pytest.raises(ValueError, match="batch_size is at least 1; got 0"):
        data.batches(numbered, 0)
    with pytest.raises(ValueError, match="empty"):
        data.batches(data.Dataset(*(part[:0] for part in numbered[:2]), numbered.classes), 4)
    with pytest.raises(ValueError, match=r"0 to 8; got 9 for image 9 \(wrong: 1 of 10"):
        data.batches(numbered._replace(classes=list("abcdefghi")), 4)
    with pytest.raises(ValueError, match=r"got -1 for image 1 \(wrong: 2 of 3"):
        data.check_labels(torch.tensor([0, -1, 5]), 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_batches_are_the_same_on_a_gpu(numbered):
    for (images, labels), (gpu_images, gpu_labels) in zip(
        data.batches(numbered, 4, seed=0, augment=True, steps=9),
        data.batches(numbered.to("cuda"), 4, seed=0, augment=True, steps=9),
        strict=True,
    ):
        assert gpu_images.is_cuda
        assert torch.equal(images, gpu_images.cpu())
        assert torch.equal(labels, gpu_labels.cpu())
    generator = torch.Generator("cuda").manual_seed(0)
    images, _ = next(data.batches(numbered.to("cuda"), 4, generator, augment=True))
    assert images.is_cuda


# --------------------------------------------------------------------- one's own pictures, and example images


def test_a_picture_fits_as_a_file_would(tmp_path):
    draw = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 40, 61), dtype=torch.uint8, generator=draw)
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    for number, name in enumerate(("cat", "dog")):
        save(tmp_path / name / f"{number}.png", image)
    for size in (16, (20, 12)):
        fitted = data.fit_picture(picture, size)
        assert torch.equal(fitted, data.image_folder(tmp_path, size).images[0])
    grey = data.fit_picture(picture, 16, in_chans=1)
    weighted = (
        data.fit_picture(picture, 16).float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    ).sum(0)
    assert grey.shape == (1, 16, 16)
    assert (grey[0] - weighted).abs().max() <= 1


@pytest.mark.parametrize(
    ("picture", "in_chans", "words"),
    [
        (torch.zeros(3, 8, 8), 3, "read_image makes one"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), 3, r"got torch.uint8 \(1, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), 4, "in_chans is 3"),
    ],
)
def test_what_is_no_picture_is_refused(picture, in_chans, words):
    with pytest.raises(ValueError, match=words):
        data.fit_picture(picture, 8, in_chans)


def test_an_open_file_is_read_as_its_path_is(tmp_path):
    save(tmp_path / "one.png", bands([RED, BLUE], "x"))
    content = io.BytesIO((tmp_path / "one.png").read_bytes())
    assert torch.equal(data.read_image(content), data.read_image(tmp_path / "one.png"))


# ------------------------------------------------------------------------------------ photographs with masks


def test_every_photograph_has_a_mask_of_its_size_and_both_are_listed():
    images, masks, names = data.photos_with_masks(384)
    assert len(names) >= 12
    assert names == sorted(names)
    files_there = {path.name for path in (DATA / "masked-photos").iterdir()}
    assert files_there == {f"{name}.{ending}" for name in names for ending in ("jpg", "png")}
    readme = (DATA / "README.md").read_text("utf-8")
    for image, mask, name in zip(images, masks, names, strict=True):
        with Image.open(DATA / "masked-photos" / f"{name}.jpg") as photo:
            assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (384, 384))
            assert not photo.getexif()
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(photo))
        with Image.open(DATA / "masked-photos" / f"{name}.png") as outline:
            assert (outline.format, outline.mode) == ("PNG", "1")
            np.testing.assert_array_equal(mask.numpy(), np.asarray(outline))
        rows = [line for line in readme.splitlines() if line.startswith(f"| `{name}` |")]
        (line,) = (line for line in rows if line.count("|") == 7)
        shown, share, author, source, crop = (cell.strip() for cell in line.split("|")[2:7])
        assert shown
        assert source
        assert float(share) == round(100 * mask.double().mean().item(), 1)
        assert re.search(r"CC0|public domain|CC BY [23]\.0", author)
        assert not re.search("SA|NC|ND", author.replace("NASA", ""))
        assert len([int(number) for number in crop.split(",")]) == 3
    assert sum(path.stat().st_size for path in (DATA / "masked-photos").iterdir()) < 1_500_000


def test_masks_leave_some_of_the_picture_and_follow_its_edges():
    """Along an outline the colours change more than along the same one elsewhere, or mirrored."""
    images, masks, names = data.photos_with_masks(384)
    values = images.double().mean(1)
    steep = torch.zeros_like(values)
    steep[:, 1:-1] += (values[:, 2:] - values[:, :-2]).abs()
    steep[:, :, 1:-1] += (values[:, :, 2:] - values[:, :, :-2]).abs()
    for slope, mask, name in zip(steep, masks, names, strict=True):
        assert 0.01 < mask.double().mean() < 0.7, name
        edge = torch.zeros_like(mask)
        edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
        edge[1:] |= mask[1:] != mask[:-1]
        here = slope[edge].mean()
        for moved in (edge.flip(1), *(edge.roll(by, (0, 1)) for by in ((9, 9), (-9, 9), (9, -9), (-9, -9)))):
            assert here > 1.2 * slope[moved].mean(), name


def test_a_smaller_photograph_keeps_its_mask():
    """Against a loop over blocks of four pixels, and against torch's antialiased resizing."""
    whole, half = data.photos_with_masks(384), data.photos_with_masks(192)
    blocks = whole.masks.float().unfold(1, 2, 2).unfold(2, 2, 2).sum((-1, -2))  # how many of four
    assert torch.equal(half.masks, blocks >= 2)
    resized = torch.nn.functional.interpolate(whole.images.float(), size=192, mode="bicubic", antialias=True)
    difference = (half.images - resized.clamp(0, 255)).abs()
    assert difference.mean() < 0.4  # Pillow rounds after each of the two directions
    assert difference.max() < 6
    small = data.photos_with_masks(50)
    share = whole.masks.double().mean((1, 2))
    assert (small.masks.double().mean((1, 2)) - share).abs().max() < 0.02
    assert small.images.shape == (len(share), 3, 50, 50)
    assert data.photos_with_masks(500).masks.shape == (len(share), 500, 500)


@pytest.mark.parametrize("size", [(224, 224), 0, 22.4, "224"])
def test_masked_photographs_are_square_and_have_a_size(size):
    with pytest.raises(ValueError, match="image_size is a number of pixels"):
        data.photos_with_masks(size)


def test_a_damaged_mask_is_named(own_data):
    shutil.copytree(DATA / "masked-photos", own_data / "masked-photos")
    assert data.photos_with_masks(32).images.shape[1:] == (3, 32, 32)  # the copy is good, so far
    change_one_bit(own_data / "masked-photos/dog.png")
    with pytest.raises(ValueError, match=r"dog\.png is altered"):
        data.photos_with_masks()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def test_the_example_folder_is_read_back_and_is_the_same_each_time(tmp_path):
    one, other = (data.example_folder(tmp_path / name, per_class=4) for name in ("deep/one", "other"))
    images, labels, classes = data.image_folder(one, 48)
    assert classes == ["bags", "shoes", "trousers"]
    assert labels.bincount().tolist() == [4, 4, 4]
    assert len(images.flatten(1).unique(dim=0)) == 12
    assert {Image.open(file).size for file in one.glob("*/*")} == {(128, 96), (96, 128), (112, 112)}
    assert {Image.open(file).format for file in one.glob("*/*")} == {"JPEG"}
    assert contents(one) == contents(other)
    assert contents(data.example_folder(tmp_path / "third", 4, seed=1)) != contents(one)


def test_the_example_folder_shows_what_its_classes_say(tmp_path):
    """Each image is nearer to a scene of its class's garments than JPEG is from what it stores."""
    folder = data.example_folder(tmp_path / "mine", per_class=2)
    made = data.scenes(140, seed=0, image_size=(96, 128), split="test").dataset
    for name, garments in {"bags": ["Bag"], "trousers": ["Trouser"]}.items():
        stored = data.read_image(folder / name / "000.jpg").float()
        nearest = (made.images.float() - stored).abs().mean((1, 2, 3)).argmin()
        assert made.classes[made.labels[nearest]] in garments


def test_the_example_folder_overwrites_nothing(tmp_path):
    mine = tmp_path / "mine"
    (mine / "bags").mkdir(parents=True)
    (mine / "bags" / "000.jpg").write_bytes(b"a learner's own")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="is there already"):
        data.example_folder(mine, per_class=2)
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="is there already"):
        data.example_folder(tmp_path / "file")
    assert contents(tmp_path) == before | {"file": b"text"}
    with pytest.raises(ValueError, match="at least 1; got 0"):
        data.example_folder(tmp_path / "none", per_class=0)


def test_an_example_folder_that_is_there_is_kept_as_it_is(tmp_path):
    folder = data.example_folder(tmp_path / "mine", per_class=1)
    (folder / "bags" / "000.jpg").write_bytes(b"changed")
    before = contents(folder)
    assert data.example_folder(folder, per_class=1) == folder
    assert contents(folder) == before


def test_a_stopped_example_leaves_nothing_behind(tmp_path, monkeypatch):
    def stopped(image, file, **options):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        data.example_folder(tmp_path / "mine", per_class=1)
    assert list(tmp_path.iterdir()) == []


def test_the_photographs_of_the_example_are_ten_classes_that_torchvision_reads_alike(tmp_path):
    folder = data.example_folder(tmp_path / "mine", pictures="photographs")
    images, labels, classes = data.image_folder(folder, 224)
    theirs = torchvision.datasets.ImageFolder(folder)
    assert classes == theirs.classes
    assert labels.tolist() == theirs.targets
    counts = dict(zip(classes, labels.bincount().tolist(), strict=True))
    assert len(counts) == 10
    assert min(counts.values()) >= 10
    table = re.findall(r"^\| `(\w+)`[^|]* \| (\d+) \| (?:GCompris|Stellarium)", README, re.MULTILINE)
    assert {name: int(number) for name, number in table} == counts
    assert all(file.stat().st_mode & 0o200 for file in folder.glob("*/*"))  # one's own, to change
    again = data.example_folder(folder, pictures="photographs")
    assert again == folder
    assert images.shape == (sum(counts.values()), 3, 224, 224)


def test_every_photograph_of_the_example_is_small_and_names_its_author_and_licence():
    text = (DATA / "example-photos" / "CREDITS.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE))
    photographs = sorted((DATA / "example-photos").glob("*/*"))
    assert [f"{file.parent.name}/{file.stem}" for file in photographs] == sorted(rows)
    free = {"public domain", "CC0", "CC BY 4.0", "free use with credit"}
    for file in photographs:
        author, licence, source, origin = rows[f"{file.parent.name}/{file.stem}"].split(" | ")
        assert licence in free
        assert author
        assert origin.split(", ")[0] in {"gcompris-qt-data", "stellarium-data", "budgie-backgrounds"}
        with Image.open(file) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert image.info["comment"].decode("utf-8") == f"{author}; {licence}; {source}"
            assert not image.getexif()
            assert 126 <= min(image.size) <= 168
            assert max(image.size) <= 320
    assert len({rows[key].split(" | ")[3] for key in rows}) == len(rows)  # no file serves twice
    assert sum(file.stat().st_size for file in photographs) < 3_000_000


def in_small(pictures: list[torch.Tensor]) -> torch.Tensor:
    """Each picture's grey values at 32 × 32, centred and of length 1: (n, 32, 32)."""
    resize = torch.nn.functional.adaptive_avg_pool2d
    small = torch.stack([resize(picture.double().mean(0, keepdim=True), 32)[0] for picture in pictures])
    small = small - small.mean((1, 2), keepdim=True)
    return small / small.norm(dim=(1, 2), keepdim=True)


def test_no_photograph_of_the_example_is_there_twice():
    """So that a held-out one is new. A copy that is mirrored and compressed would be found."""
    limit = 0.97
    shown = [data.read_image(file) for file in sorted((DATA / "example-photos").glob("*/*.jpg"))]
    small, copies = in_small(shown).flatten(1), []
    mirrored = in_small([picture.flip(2) for picture in shown]).flatten(1)
    likeness = torch.maximum(small @ small.T, small @ mirrored.T).fill_diagonal_(0)
    assert likeness.max() < limit
    for picture in shown:
        buffer = io.BytesIO()
        Image.fromarray(picture.flip(2).permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=30)
        copies.append(data.read_image(buffer))
    assert (in_small(copies).flatten(1) * mirrored).sum(1).min() > limit


def test_some_photographs_of_each_class_are_drawn_by_the_seed(tmp_path):
    whole = data.example_folder(tmp_path / "whole", pictures="photographs")
    drawn = [
        contents(data.example_folder(tmp_path / f"{number}", 6, seed, "photographs"))
        for number, seed in enumerate((0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    for files_drawn in drawn:
        assert Counter(name.split("/")[0] for name in files_drawn) == dict.fromkeys(
            (entry.name for entry in whole.iterdir()), 6
        )
        assert files_drawn.items() <= contents(whole).items()
    most = contents(data.example_folder(tmp_path / "ten", 10, pictures="photographs"))
    assert {name for name in contents(whole) if name.startswith("birds/")} <= set(most)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"per_class": 11}, r"10 to 16 photographs of each class.* at most 10; got 11"),
        ({"per_class": 0}, r"at least 1; got 0"),
        ({"pictures": "photos"}, r'"scenes" or "photographs"; got \'photos\''),
    ],
)
def test_other_examples_are_refused_and_nothing_is_made(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        data.example_folder(tmp_path / "mine", **({"pictures": "photographs"} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_photographs_of_the_example_overwrite_nothing_and_come_whole(tmp_path, own_data):
    mine = tmp_path / "mine"
    (mine / "fish").mkdir(parents=True)
    (mine / "fish" / "fish_01.jpg").write_bytes(b"a learner's own")
    with pytest.raises(ValueError, match="is there already"):
        data.example_folder(mine, pictures="photographs")
    assert contents(mine) == {"fish/fish_01.jpg": b"a learner's own"}
    shutil.copytree(DATA / "example-photos", own_data / "example-photos")
    change_one_bit(own_data / "example-photos" / "windmills" / "windmill_15.jpg")  # the last one
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"windmill_15\.jpg is altered"):
        data.example_folder(tmp_path / "other", pictures="photographs")
    assert set(tmp_path.iterdir()) == before


def test_a_subset_by_a_mask():
    nine = data.Dataset(torch.zeros(9, 1, 2, 2, dtype=torch.uint8), torch.arange(9) % 3, list("abc"))
    assert nine.subset(nine.labels == 2).labels.tolist() == [2, 2, 2]
    assert nine.subset((nine.labels == 2).numpy()).labels.tolist() == [2, 2, 2]
    for wrong in ([True, False], [0.5, 1.0], torch.tensor(3)):
        with pytest.raises(ValueError, match="a subset is"):
            nine.subset(wrong)
