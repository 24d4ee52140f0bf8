"""The golden images of the corpus, made by QEMU from 2013 to today, unpacked and checked.

A golden image is read-only: a test that wants to damage one takes its bytes.
"""

from __future__ import annotations

import atexit
import functools
import gzip
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcow2crypt.testing import corpus

FOLDER = Path(__file__).resolve().parent.parent / "corpus" / "golden"

UNREADABLE = {
    "luks-aes128cbc-essiv.qcow2": "LUKS",
    "standalone-aes128cbc-essiv.luks": "format luks",
}
"""The images that cannot be read yet, and the word that the refusal must hold."""

NAMES = tuple(sorted(path.name.removesuffix(".json") for path in FOLDER.glob("*.json")))
READABLE = tuple(name for name in NAMES if name not in UNREADABLE)
ALONE = tuple(name for name in READABLE if "overlay" not in name)  # no backing file
ENCRYPTED = tuple(name for name in READABLE if "aes" in name)


@dataclass(frozen=True, slots=True)
class Golden:
    """One golden image: where it lies unpacked, and what its manifest says."""

    name: str
    path: Path
    manifest: dict[str, Any]

    @property
    def secret(self) -> str | None:
        """The passphrase."""
        passphrase: str | None = self.manifest["passphrase"]
        return passphrase

    @property
    def size(self) -> int:
        """Bytes of the guest disk."""
        return int(self.manifest["virtual_size"])

    @property
    def sectors(self) -> list[dict[str, Any]]:
        """What is known of single guest sectors."""
        return list(self.manifest["sectors"])

    @property
    def data(self) -> bytes:
        """The image file."""
        return self.path.read_bytes()


@functools.cache
def load(name: str) -> Golden:
    """Unpack the image ``name`` (without .gz) and check that it is what its manifest says."""
    entry = corpus.load(FOLDER / f"{name}.json")
    path = _folder() / name
    path.write_bytes(entry.data)
    path.chmod(0o444)
    return Golden(name, path, dict(entry.record))


def sha256(data: bytes) -> str:
    """The digest in hex, as the manifests have it."""
    return hashlib.sha256(data).hexdigest()


def info_differences(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Every key that ``qemu-img info --output=json`` has and we have not, or not with its value.

    ``children`` (since QEMU 8.1) tells of QEMU's block graph, not of the image.
    """
    return {
        key: (value, ours.get(key))
        for key, value in theirs.items()
        if key != "children" and ours.get(key) != value
    }


@functools.cache
def _folder() -> Path:
    """A folder for the unpacked images, with the backing files; gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="qcow2crypt-golden-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for base in FOLDER.glob("base*.raw.gz"):
        (folder / base.stem).write_bytes(gzip.decompress(base.read_bytes()))
    return folder
