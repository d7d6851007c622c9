"""Files from the network: resumed where they broke off, checked by size and checksum, put in place whole."""

import hashlib
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from vitlab import files

TIMEOUT = 30  # seconds without a byte
TRIES = 5  # in a row without a byte more
PAUSE = 0.5  # seconds, times the tries so far
BLOCK = 2**18
BROKEN = (OSError, HTTPException)  # what a connection that fails raises; urllib's URLError is an OSError


class Remote(NamedTuple):
    """What a server says of a file: its size in bytes and its SHA-256, or git's SHA-1 of a small one."""

    size: int
    digest: str


class StayPut(urllib.request.HTTPRedirectHandler):
    """Leaves redirections to the caller: the first answer has the checksum, not the place it points to."""

    def redirect_request(self, *_):
        return None


def kept() -> Path:
    """The folder in which published weights are kept: in VITLAB_DATA, or ~/.cache/vitlab without it."""
    return Path(os.environ.get("VITLAB_DATA") or "~/.cache/vitlab").expanduser() / "pretrained"


def look(url: str, hops: int = 5) -> Remote:
    """Size and checksum of a file on the hub, from the headers of its address.

    Raises urllib's HTTPError where the server refuses, another OSError where it cannot be reached, and
    ValueError where it states no size or checksum.
    """
    request = urllib.request.Request(url, method="HEAD", headers={"Accept-Encoding": "identity"})
    try:
        with urllib.request.build_opener(StayPut).open(request, timeout=TIMEOUT) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
        if not 300 <= error.code < 400:
            raise
        target = urllib.parse.urljoin(url, headers.get("Location", ""))
        same_host = urllib.parse.urlsplit(target).netloc == urllib.parse.urlsplit(url).netloc
        if same_host and hops and "X-Linked-Etag" not in headers:  # a repository that was renamed
            return look(target, hops - 1)
    size = headers.get("X-Linked-Size") or headers.get("Content-Length")
    digest = re.search("[0-9a-f]{64}|[0-9a-f]{40}", headers.get("X-Linked-Etag") or headers.get("ETag", ""))
    if not size or not digest:
        raise ValueError(f"{url} states no size or no checksum, so what comes from there cannot be checked")
    return Remote(int(size), digest[0])


def download(url: str, path: Path, remote: Remote, progress: bool = True) -> None:
    """Put the file at `url` at `path`; a transfer that broke off earlier is gone on with.

    What has come is kept in a .part file beside it until it is whole and its size and checksum are right.
    Raises ConnectionError where the network fails again and again, and ValueError for a file that is not what
    `remote` says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(path):  # the processes of one training all ask for it
        if not path.is_file():
            download_alone(url, path, remote, progress)


def download_alone(url: str, path: Path, remote: Remote, progress: bool) -> None:
    """`download` where no other process writes the same file."""
    part = path.with_name(f"{path.name}.{remote.digest[:16]}.part")  # of this very version
    fetch(url, part, remote.size, progress)
    if (found := checksum(part, remote.digest)) != remote.digest:
        part.unlink()
        raise ValueError(
            f"what came from {url} is corrupt: its checksum is {found}, not {remote.digest}. It is deleted; "
            "call again to download it anew"
        )
    os.replace(part, path)


def fetch(url: str, part: Path, size: int, progress: bool) -> None:
    """Bring `part` to `size` bytes, from where it stands, over as many connections as it takes."""
    from tqdm.auto import tqdm

    have, tries, failure = part.stat().st_size if part.exists() else 0, 0, None
    if have > size:
        part.unlink()
        have = 0
    name = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    bar = dict(total=size, initial=have, unit="B", unit_scale=True, desc=name, disable=not progress)
    with tqdm(**bar) as shown:
        while have < size and tries < TRIES:
            before = have
            try:
                for now in receive(url, part, have, size):
                    shown.update(now - have)
                    have = now
            except BROKEN as error:
                failure = error
            tries = 0 if have > before else tries + 1
            time.sleep(PAUSE * tries)
    if have < size:
        raise ConnectionError(
            f"the download of {url} broke off ({failure or 'the server sends no more'}) with {have:,} of "
            f"{size:,} bytes, which are kept: call again to go on from there"
        ) from failure


def receive(url: str, part: Path, have: int, size: int):
    """Append what the server sends from byte `have` on; yields how many bytes there are after each block."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-", "Accept-Encoding": "identity"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:  # this server sends everything from the start
            have = 0
        with open(part, "r+b" if part.exists() else "w+b") as file:
            file.seek(have)
            file.truncate()
            while have < size and (block := answer.read(min(BLOCK, size - have))):
                file.write(block)
                have += len(block)
                yield have


def checksum(path: Path, like: str) -> str:
    """A file's SHA-256 or, where `like` has only 40 digits, the SHA-1 under which git knows it."""
    with open(path, "rb") as file:
        if len(like) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
