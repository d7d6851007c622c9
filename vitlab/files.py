"""Where the files that ship with vitlab are, and whether they are whole.

The table in `data/README.md` has the size and SHA-256 of each; a file is compared with it before it is used.
"""

import functools
import hashlib
import os
import re
import tempfile
from pathlib import Path

from filelock import FileLock

PACKAGE = Path(__file__).resolve().parent
REMEDY = (
    "To restore it: `git checkout -- data` in a clone, or install vitlab again. If VITLAB_DATA names a "
    "folder of your own, put a true copy there, or unset VITLAB_DATA."
)


def roots() -> list[Path]:
    """The folders in which data is looked for: VITLAB_DATA, then those of `shipped_roots`."""
    if not os.environ.get("VITLAB_DATA"):
        return shipped_roots()
    own = Path(os.environ["VITLAB_DATA"]).expanduser()
    if not own.is_dir():
        raise FileNotFoundError(
            f"VITLAB_DATA names {own}, which is not a folder; create it, or unset VITLAB_DATA"
        )
    return [own, *shipped_roots()]


def shipped_roots() -> list[Path]:
    """The folders that came with vitlab: data/ in a clone, and the installed package's own."""
    in_clone = (
        PACKAGE.parent / "pyproject.toml"
    ).is_file()  # else this is site-packages, and data/ is not ours
    places = [PACKAGE.parent / "data"] if in_clone else []
    return [place for place in [*places, PACKAGE / "_data"] if place.is_dir()]


def root(folder: str = "") -> Path:
    """The first data folder that contains `folder` ("photos", "checkpoints", …), or the first of all.

    Looked for in VITLAB_DATA, the repository's data/ and the installed package, in this order. Raises
    FileNotFoundError that names the places where it looked.

    >>> (root("photos") / "photos" / "cat.jpg").is_file()
    True
    """
    places = roots()
    for place in places:
        if (place / folder).is_dir():
            return place
    looked = f"looked in {', '.join(map(str, places))}" if places else "vitlab was installed without its data"
    raise FileNotFoundError(f"there is no data folder {folder!r} ({looked}). {REMEDY}")


def find(name: str) -> Path:
    """The path of a shipped file, such as "photos/cat.jpg", once its size and SHA-256 are found right.

    The file is looked for where `root` finds its folder. Raises FileNotFoundError for a missing file and
    ValueError for a truncated or altered one, with its path, what was expected and how to restore it.
    A file is hashed once per process, unless it changes.

    >>> find("photos/cat.jpg").name
    'cat.jpg'
    """
    if name not in checksums():
        raise ValueError(f"{name!r} does not ship with vitlab; there are {', '.join(checksums())}")
    size, sha256 = checksums()[name]
    expected = f"expected {size:,} bytes with SHA-256 {sha256}. {REMEDY}"
    folder = name.rpartition("/")[0]
    path = next((place for place in roots() if (place / folder).is_dir()), roots()[0]) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {expected}")
    found = path.stat()
    if found.st_size != size:
        fault = "truncated" if found.st_size < size else "altered"
        raise ValueError(f"{path} is {fault}, it has {found.st_size:,} bytes: {expected}")
    if (digest := file_sha256(path, found.st_mtime_ns)) != sha256:
        raise ValueError(f"{path} is altered, its SHA-256 is {digest}: {expected}")
    return path


@functools.cache
def file_sha256(path: Path, mtime_ns: int) -> str:
    """A file's SHA-256; `mtime_ns` is there so that the cache forgets a file that was changed."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def checksums() -> dict[str, tuple[int, str]]:
    """name -> (bytes, SHA-256) of every shipped file: the table in the README of the shipped data."""
    for place in shipped_roots():
        if (place / "README.md").is_file():
            text = (place / "README.md").read_text("utf-8")
            rows = re.findall(r"^\| `([^`]+)` \| (\d+) \| `([0-9a-f]{64})` \|$", text, re.MULTILINE)
            return {name: (int(size), sha256) for name, size, sha256 in rows}
    raise FileNotFoundError(f"the README.md of vitlab's data, with the checksums, is missing. {REMEDY}")


def locked(path: Path) -> FileLock:
    """A context in which no other process of this machine writes the file, if it asks here, too."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    # for every user of the machine; not beside the file, as a lock's file stays
    return FileLock(Path(tempfile.gettempdir(), f"vitlab-{name}.lock"), mode=0o666)
